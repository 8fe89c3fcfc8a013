"""`jangin data import`: histories that other systems kept become folders of a drop, for `jangin data ingest`."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jangin.cli.options import FormatOption, LangOption
from jangin.cli.talk import Format, Talk, default_lang
from jangin.errors import PlanError

if TYPE_CHECKING:
    from jangin.records.intake.importers.history import Imported

__all__ = ["importing"]

importing = typer.Typer(help="Histories into a drop folder, as one episode each.", no_args_is_help=True)

Drop = Annotated[Path, typer.Argument(help="The drop folder; `tags` of its mapping.local.yaml say what tags mean.")]
EpisodeOption = Annotated[
    str | None, typer.Option(help="The episode's folder; default: by the file's name or the start.")
]


@importing.command("mcap")
def mcap(
    file: Annotated[Path, typer.Argument(help="A recording with messages in JSON or ROS 2 CDR.")],
    drop: Drop,
    episode: EpisodeOption = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Tables of one episode from an MCAP recording; a tag is topic.field."""
    from jangin.records.intake.importers.mcap import import_mcap

    _tell(import_mcap(file, drop, episode), Talk(form, lang or default_lang()))


@importing.command("opcua")
def opcua(
    url: Annotated[str, typer.Argument(help="opc.tcp://host:port/path")],
    drop: Drop,
    start: Annotated[str, typer.Option("--from", help="E.g. 2026-11-21T15:05:07; without a zone it is Korean time.")],
    end: Annotated[str, typer.Option("--to")],
    episode: EpisodeOption = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Tables of one episode from the history of an OPC UA server; a tag is a node's id."""
    from jangin.records.intake.importers.opcua import import_opcua

    span = _moment(start, "--from"), _moment(end, "--to")
    _tell(import_opcua(url, drop, *span, episode), Talk(form, lang or default_lang()))


@importing.command("mqtt")
def mqtt(
    source: Annotated[str, typer.Argument(help="What `mosquitto_sub -F %j` recorded, or mqtt://host/topic/#")],
    drop: Drop,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to listen to a broker.")] = 60.0,
    episode: EpisodeOption = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Tables of one episode from MQTT messages, recorded or live; a tag is topic or topic.field."""
    from jangin.records.intake.importers.mqtt import import_mqtt, import_mqtt_recording

    live = source.startswith(("mqtt://", "mqtts://"))
    done = import_mqtt(source, drop, seconds, episode) if live else import_mqtt_recording(Path(source), drop, episode)
    _tell(done, Talk(form, lang or default_lang()))


def _moment(text: str, option: str) -> datetime:
    """A point in time with its zone.

    Raises:
        PlanError: JG-plan-003.
    """
    from jangin.records.intake.sheets import KOREA

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise PlanError("JG-plan-003", where=option, value=text, problem="no time as 2026-11-21T15:05:07") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=KOREA)


def _tell(done: "Imported", talk: Talk) -> None:
    unread = list(done.unread)
    talk.answer(str(done.folder), folder=str(done.folder), files=list(done.files), samples=done.samples, unread=unread)
    talk.tell("drop", "imported", samples=done.samples, unread=len(unread), folder=done.folder.name)
