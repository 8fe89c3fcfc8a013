"""The command's entrance: options that every command has, and what an exception becomes."""

import io
import signal
import sys
import traceback
from typing import Annotated

import click
import typer

from jangin.cli.consent import consent
from jangin.cli.data import data
from jangin.cli.privacy import privacy
from jangin.cli.rehearsing import check, rehearse
from jangin.cli.server import campaign, roster, server
from jangin.cli.simulate import demo, simulate
from jangin.cli.site import site
from jangin.cli.talk import Format, Lang, Talk, default_lang
from jangin.cli.worker import worker
from jangin.errors import JanginError, PlanError
from jangin.version import __version__

__all__ = ["app", "main"]

_STOPPED = {128 + signal.SIGINT, 128 + signal.SIGTERM}
"""Exit statuses of a command that was asked to stop."""

_STOPPED_WORDS = "stopped; nothing half-written stays", "중단함. 쓰다 만 것은 남지 않습니다"

app = typer.Typer(
    name="jangin",
    help="Federated learning of master workers' know-how, with differential privacy.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("simulate")(simulate)
app.command("demo")(demo)
app.add_typer(data, name="data")
app.add_typer(site, name="site")
app.add_typer(consent, name="consent")
app.add_typer(worker, name="worker")
app.add_typer(server, name="server")
app.add_typer(roster, name="roster")
campaign.command("check")(check)
campaign.command("rehearse")(rehearse)
app.add_typer(campaign, name="campaign")
app.add_typer(privacy, name="privacy")


@app.callback(invoke_without_command=True)
def _jangin(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        sys.stdout.write(f"jangin {__version__}\n")
        raise typer.Exit


def main() -> None:
    """Run the command line; never returns."""
    talk = _talk(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ε and ↓ still gets the figures
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        sys.exit(app(prog_name="jangin", standalone_mode=False))
    except JanginError as error:
        talk.error(error)
        sys.exit(error.exit_status)
    except click.exceptions.NoArgsIsHelpError:
        sys.exit(2)  # the help was shown, and is all that there is to say
    except click.UsageError as error:
        command = "jangin" if error.ctx is None else error.ctx.command_path
        misused = PlanError("JG-plan-030", where=command, problem=error.format_message().rstrip("."))
        talk.error(misused)
        sys.exit(misused.exit_status)
    except click.Abort:
        talk.say(*_STOPPED_WORDS)
        sys.exit(128 + signal.SIGINT)
    except SystemExit as leaving:
        if leaving.code in _STOPPED:
            talk.say(*_STOPPED_WORDS)
        raise
    except Exception:  # noqa: BLE001 - the one place where a bug becomes an exit status
        traceback.print_exc()
        bug = JanginError("JG-sim-900", where="jangin")
        talk.error(bug)
        sys.exit(bug.exit_status)


def _talk(arguments: list[str]) -> Talk:
    """Format and language, read before the command line is understood: errors speak them too."""

    def value(option: str) -> str | None:
        for number, argument in enumerate(arguments):
            if argument == option and number + 1 < len(arguments):
                return arguments[number + 1]
            if argument.startswith(f"{option}="):
                return argument.partition("=")[2]
        return None

    form, lang = value("--format") or "", value("--lang") or ""
    return Talk(Format(form) if form in {*Format} else Format.TEXT, Lang(lang) if lang in {*Lang} else default_lang())
