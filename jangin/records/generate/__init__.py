"""Generators: master records of a reference process, made from its physics and a known expert policy.

The law: the seed alone decides every number; a site's records do not change when sites are added; no constant
of a world is chosen by looking at what a model makes of it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from jangin.codec.document import nearest
from jangin.errors import DataError
from jangin.records.card import Card, People
from jangin.records.dataset import refuse_filled, write_records
from jangin.records.generate import pipe_tig_weld, ship_hull_weld, steel_bof_blow
from jangin.records.generate.sensors import Made
from jangin.records.process import Process, read_process

__all__ = ["GENERATORS", "generate", "write_site"]

_SIMULATED: Final = "Simulated: nobody was recorded."

MakeSite = Callable[[Process, int, int, int, int], Made]

GENERATORS: Mapping[str, MakeSite] = {
    "pipe.tig_weld": pipe_tig_weld.make_site,
    "ship.hull_weld": ship_hull_weld.make_site,
    "steel.bof_blow": steel_bof_blow.make_site,
}
"""By process: (process, site, masters, episodes, seed) to what one site recorded."""


def generate(
    process: str,
    folder: Path,
    *,
    sites: int,
    masters: int,
    episodes: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write the records folders `site-0` ... `site-{sites-1}` of a simulated process.

    Args:
        process: a key of `GENERATORS`.
        folder: where the sites' folders are made.
        sites: how many sites, each in an operating regime of its own.
        masters: masters a site; they take the episodes in turn.
        episodes: episodes a site.
        seed: not negative; the same seed gives the same records.
        progress: called with (sites done, sites) after each site.

    Returns:
        The sites' folders in their order.

    Raises:
        DataError: JG-data-060 no generator for the process; JG-data-061 a count below 1 or a negative seed;
            the errors of `write_records`.
    """
    if process not in GENERATORS:
        raise DataError("JG-data-060", where=process, nearest=nearest(process, GENERATORS))
    for name, value, least in (
        ("sites", sites, 1),
        ("masters", masters, 1),
        ("episodes", episodes, 1),
        ("seed", seed, 0),
    ):
        if value < least:
            raise DataError("JG-data-061", where=name, value=value, least=least)
    world, made = read_process(process), []
    for site in range(sites):
        refuse_filled(folder / f"site-{site}")
    for site in range(sites):
        made.append(folder / f"site-{site}")
        write_site(made[-1], world, GENERATORS[process](world, site, masters, episodes, seed))
        if progress:
            progress(site + 1, sites)
    return made


def write_site(folder: Path, process: Process, made: Made) -> None:
    """Write one simulated site's records; the folder's name is the site's, and its card has all that its process names.

    Raises:
        DataError: the errors of `write_records`.
    """
    shared = {name: getattr(process, name) for name in Card.model_fields if name in Process.model_fields}
    people = People(
        masters=len(made.episodes["master"].unique()),
        note=_SIMULATED,
        deidentified={stream.name: _SIMULATED for stream in process.streams if stream.media},
    )
    card = Card(schema_version=1, site=folder.name, people=people, **shared)
    write_records(folder, card, made.episodes, made.streams, made.media)
