"""Write docs/errors/ from the catalogue. Usage: python docs/make_error_pages.py [--check]"""

import re
import sys
from pathlib import Path

from jangin.errors import EXITS, catalogue, exit_status

FOLDER = Path(__file__).parent / "errors"


def pages() -> dict[str, str]:
    """Every page by its file name."""
    made = {}
    index = [
        "# Error codes",
        "",
        "Made from `jangin/configs/errors/` by `docs/make_error_pages.py`.",
        "",
        *_exits(),
        "",
    ]
    for code, languages in sorted(catalogue().items()):
        lines = [f"# {code}"]
        for lang, (what, why, hint) in {
            "en": ("What", "Why it matters", "The way out"),
            "ko": ("내용", "중요한 이유", "해결 방법"),
        }.items():
            words = languages[lang]
            lines += [
                "",
                f"**{what}.** {words['what']}",
                "",
                f"**{why}.** {words['why']}",
                "",
                f"**{hint}.** {words['hint']}",
            ]
            lines += ["", "---"] if lang == "en" else []
        made[f"{code}.md"] = _shown("\n".join(lines)) + "\n"
        index.append(f"- [{code}]({code}.md): {_shown(languages['en']['what'])}")
    made["index.md"] = "\n".join(index) + "\n"
    return made


def _exits() -> list[str]:
    """The exit statuses of every command, each with its codes; where they are most of a part, the part."""
    lines = ["| exit status | means | codes |", "|---|---|---|"]
    for entry in EXITS:
        codes = [code for code in sorted(catalogue()) if exit_status(code) == entry.status]
        match entry.status:
            case 1:
                named = "all others"
            case 2:
                others = [f"[{code}]({code}.md)" for code in codes if not code.startswith("JG-plan-")]
                named = ", ".join(["JG-plan-...", *others])
            case _:
                named = ", ".join(f"[{code}]({code}.md)" for code in codes)
        lines.append(f"| {entry.status} | {entry.means} | {named} |")
    return [*lines, "| 130, 143 | stopped by Ctrl-C or SIGTERM; nothing half-written stays | |"]


def _shown(text: str) -> str:
    """Fields as ⟨name⟩, without how they are formatted; a code's way out as ⟨→ name⟩."""
    return re.sub(r"\{(\w+)[^}]*\}", r"⟨\1⟩", re.sub(r"\{(\w+)!h\}", r"⟨→ \1⟩", text))


def main() -> int:
    made = pages()
    standing = {file.name: file.read_text(encoding="utf-8") for file in FOLDER.glob("*.md")}
    if "--check" in sys.argv:
        return int(made != standing)
    FOLDER.mkdir(exist_ok=True)
    for name in standing.keys() - made.keys():
        (FOLDER / name).unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
