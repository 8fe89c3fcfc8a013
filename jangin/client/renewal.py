"""The key of a site's connection (P-384, Flower's), made anew in time; its identity stays, for all else hangs on it.

    due          the key is two thirds of `LIFE` old, by the date of its file
    handed in    `keys/node.next` is made; the identity signs the request that carries its public half
    taken up     a roster that operator and independent body signed lists it: it takes the old one's place

The law: until a verified roster lists the new key the old one stays and serves; neither leaves this folder. Nobody
refuses a key for its age: that it is renewed is the site's own rule.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from jangin.client.state import SiteFolder
from jangin.errors import SiteError
from jangin.trust.keys import NodeKey
from jangin.trust.roster import Roster

__all__ = ["LIFE", "due", "make", "take_up", "waiting"]

LIFE: Final = timedelta(days=365)

_SHARE: Final = 2 / 3


def due(folder: SiteFolder) -> datetime:
    """From when on the key is to be renewed.

    Raises:
        SiteError: JG-site-101, there is no key.
    """
    path = folder.node_key_file
    try:
        made = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError as error:
        raise SiteError("JG-site-101", where=str(path), problem=error.strerror or type(error).__name__) from None
    return made + _SHARE * LIFE


def waiting(folder: SiteFolder) -> NodeKey | None:
    """The new key that no roster listed yet, if there is one.

    Raises:
        SiteError: JG-site-101..103, it cannot be used.
    """
    return NodeKey.load(folder.next_node_key_file) if folder.next_node_key_file.exists() else None


def make(folder: SiteFolder) -> NodeKey:
    """The new key that is to be listed: the one that waits, or a fresh one.

    Raises:
        SiteError: JG-site-101..103, the one that waits cannot be used. OSError: the folder cannot be written.
    """
    held = waiting(folder)
    if held is None:
        held = NodeKey.generate()
        held.save(folder.next_node_key_file)
    return held


def take_up(folder: SiteFolder, site: str, roster: Roster) -> NodeKey | None:
    """Put the new key in the old one's place, if the roster has this site as active by it.

    Args:
        folder: the site's.
        site: its id.
        roster: a verified one.

    Returns:
        The new key where it is in its place now; else None.

    Raises:
        SiteError: JG-site-101..103, the new key cannot be used. OSError: the folder cannot be written.
    """
    held, entry = waiting(folder), roster.active.get(site)
    if held is None or entry is None or entry.node_key != held.public_text:
        return None
    folder.next_node_key_file.replace(folder.node_key_file)
    return held
