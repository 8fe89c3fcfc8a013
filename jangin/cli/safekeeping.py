"""`jangin server backup`, `restore` and `upgrade`: what is done so that nothing of a server is lost."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jangin.cli.options import FormatOption, LangOption
from jangin.cli.talk import Format, Talk, default_lang

if TYPE_CHECKING:
    from jangin.server.backup import Manifest

__all__ = ["backup", "restore", "upgrade"]

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The server's state folder.")]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]


def backup(
    folder: FolderArgument, file: FileArgument, form: FormatOption = Format.TEXT, lang: LangOption = None
) -> None:
    """Write a server into one file, while it runs: database, settings, keys, models, and where campaigns stand."""
    from jangin.server import backup as room

    talk = Talk(form, lang or default_lang())
    _told(talk, file, room.backup(folder, file, datetime.now(UTC)))
    talk.say(
        "it holds private keys: keep it as you keep the server",
        "개인 키가 들어 있음: 서버와 같은 수준으로 보관하십시오",
    )


def restore(
    file: FileArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is not there yet.")],
    database: Annotated[
        str | None, typer.Option(metavar="URL|sqlite", help="Another, empty database; `sqlite`: the folder's own file.")
    ] = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Make a server of a backup; compare the fingerprint of its audit key with the one that you noted."""
    from jangin.server import backup as room
    from jangin.server.database import refuse_password

    talk = Talk(form, lang or default_lang())
    refuse_password(database)
    _told(talk, folder, room.restore(file, folder, datetime.now(UTC), database))


def upgrade(folder: FolderArgument, form: FormatOption = Format.TEXT, lang: LangOption = None) -> None:
    """Bring an older server to this version of Jangin; a backup is made first, beside the folder."""
    from jangin.server import upgrade as room
    from jangin.server.tables import VERSION

    talk = Talk(form, lang or default_lang())
    kept = room.upgrade(folder, datetime.now(UTC))
    talk.answer(str(kept or VERSION), tables=VERSION, backup=kept and str(kept))
    if kept is None:
        talk.say("its tables are the newest", "이미 최신 테이블임")


def _told(talk: Talk, where: Path, manifest: "Manifest") -> None:
    """The path, when the backup was begun, and whose it is."""
    moment = manifest.moment.isoformat()
    facts = {"moment": moment, "tables": manifest.tables, "fingerprint": manifest.fingerprint}
    talk.answer("  ".join([str(where), *facts.values()]), path=str(where), parts=len(manifest.parts), **facts)
