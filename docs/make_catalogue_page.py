"""Fill the tables of docs/catalogue.md from processes and lines. Usage: python docs/make_catalogue_page.py [--check]"""

import re
import sys
from pathlib import Path

from jangin.models.lines import ModelLine, line_names, read_line
from jangin.records.card import Stream
from jangin.records.process import INDUSTRIES, Process, by_priority, process_names, read_process

PAGE = Path(__file__).parent / "catalogue.md"

MARKS = re.compile(r"(?<=<!-- tables: made by make_catalogue_page.py -->\n).*?(?=\n<!-- end of tables -->)", re.DOTALL)


def tables() -> str:
    """A table an industry, in the order of priority, and why each work is risky or short of people."""
    processes = [read_process(name) for name in process_names()]
    lines = [read_line(name) for name in line_names()]
    count = len({one.industry for one in processes})
    made = [f"{len(processes)} processes in {count} industries, {len(lines)} model lines.", ""]
    for key, title in INDUSTRIES.items():
        ours = sorted((one for one in processes if one.industry == key), key=by_priority)
        made += [f"## {title.en} ({title.ko})", ""]
        made += ["| process | priority | risk, shortage | is sampled | the master decides | lines |"]
        made += ["|---|---|---|---|---|---|"]
        made += [_row(one, [line for line in lines if line.process == one.process]) for one in ours]
        made += ["", *(f"- `{one.process}`: {one.why.en}" for one in ours if one.why), ""]
    return "\n".join(made).rstrip()


def _row(one: Process, lines: list[ModelLine]) -> str:
    episode = f"<br>an episode: {one.episode.en}" if one.episode else ""
    return (
        " | ".join(
            [
                f"| `{one.process}`<br>{one.title.en}<br>{one.title.ko}{episode}",
                str(one.priority or "-"),
                f"{one.safety_risk or '-'}, {one.labour_shortage or '-'}",
                "<br>".join(map(_stream, one.streams)),
                ", ".join(field.name for field in one.actions),
                "<br>".join(f"`{line.line}` ({line.model.name})" for line in lines) or "-",
            ]
        )
        + " |"
    )


def _stream(stream: Stream) -> str:
    """`gun`: telemetry, 4 channels, 2000 Hz."""
    form = f", {stream.media}" if stream.media else ""
    channels = f"{len(stream.channels)} channel{'s' * (len(stream.channels) > 1)}"
    return f"`{stream.name}`: {stream.kind.replace('_', ' ')}{form}, {channels}, {stream.rate_hz:g} Hz"


def main() -> int:
    standing = PAGE.read_text(encoding="utf-8")
    made, found = MARKS.subn(lambda _: tables(), standing)
    if not found:
        sys.exit(f"{PAGE.name} has no place for the tables")
    if "--check" in sys.argv:
        return int(made != standing)
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
