"""A site's settings: `site.yaml`, read once into a frozen document.

The law: `site init` and `site enroll` write it, so that nobody has to; a key that nothing reads is an error. Paths are
relative to the state folder.
"""

import re
from typing import Annotated, Final, Literal

import yaml
from pydantic import AfterValidator, Field, PositiveInt

from jangin.codec.document import Document
from jangin.trust.roster import SITE_ID

__all__ = ["ApproveBlock", "DataBlock", "LimitsBlock", "ServerBlock", "SiteBlock", "SiteSettings"]

_URL = re.compile(r"https://(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+)(?::([0-9]{1,5}))?/?")
_HTTPS: Final = "443"


def _https(url: str) -> str:
    if not _URL.fullmatch(url):
        raise ValueError("expected https://HOST or https://HOST:PORT")
    return url


class SiteBlock(Document):
    """Who this is.

    Attributes:
        id: its name on the roster.
    """

    id: Annotated[str, Field(pattern=SITE_ID)]


class ServerBlock(Document):
    """Where the federation is, and by what it is known.

    Attributes:
        url: `https://HOST:PORT`; without a port, 443.
        root: file of the federation root's public key, one OpenSSH line.
        ca: file of the certificates trusted for the server and no others, PEM.
    """

    url: Annotated[str, AfterValidator(_https)]
    root: str
    ca: str

    @property
    def address(self) -> str:
        """`HOST:PORT`.

        Raises:
            ValueError: never for a document that was read: its url has this form.
        """
        named = _URL.fullmatch(self.url)
        if named is None:
            raise ValueError(f"Expected https://HOST:PORT: {self.url!r}.")
        return f"{named[1]}:{named[2] or _HTTPS}"


class DataBlock(Document):
    """One folder of master records.

    Attributes:
        process: what was done there.
        path: the validated folder.
    """

    process: str
    path: str


class LimitsBlock(Document):
    """What training may take.

    Attributes:
        cpu: threads of the worker.
    """

    cpu: PositiveInt = 1


class ApproveBlock(Document):
    """Who says yes to a campaign.

    Attributes:
        mode: `manual`, a person, by `jangin site approve`.
    """

    mode: Literal["manual"] = "manual"


def _one_folder_a_process(data: tuple[DataBlock, ...]) -> tuple[DataBlock, ...]:
    if len({block.process for block in data}) != len(data):
        raise ValueError("two folders hold one process")
    return data


class SiteSettings(Document):
    """site.yaml.

    Attributes:
        site: who this is.
        server: where the federation is; None until `site enroll` has written it.
        data: the records, one folder a process.
        approve: who says yes.
        limits: what training may take.
    """

    site: SiteBlock
    server: ServerBlock | None = None
    data: Annotated[tuple[DataBlock, ...], Field(min_length=1), AfterValidator(_one_folder_a_process)]
    approve: ApproveBlock = ApproveBlock()
    limits: LimitsBlock = LimitsBlock()

    def to_yaml(self) -> str:
        """The document as it is written."""
        content = self.model_dump(mode="json", exclude_none=True)
        return yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
