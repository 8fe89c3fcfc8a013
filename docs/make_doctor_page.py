"""Fill the table of docs/doctor.md from the doctor's own. Usage: python docs/make_doctor_page.py [--check]"""

import re
import sys
from pathlib import Path

from jangin.client.doctor.checks import CHECKS
from jangin.client.doctor.findings import title

PAGE = Path(__file__).parent / "doctor.md"
MARKS = re.compile(r"(?<=<!-- table: made by make_doctor_page.py -->\n).*?(?=\n<!-- end of table -->)", re.DOTALL)


def table() -> str:
    """One row a check, in the order of a visit."""
    rows = ["| id | after | looks at | 점검 |", "|---|---|---|---|"]
    for check in CHECKS:
        needs = ", ".join(("enrolment",) * check.online + check.needs)
        looks = title(check.id)
        rows.append(f"| {check.id} | {needs} | {looks['en']} | {looks['ko']} |")
    return "\n".join(rows)


def main() -> int:
    standing = PAGE.read_text(encoding="utf-8")
    made, found = MARKS.subn(lambda _: table(), standing)
    if not found:
        sys.exit(f"{PAGE.name} has no place for the table")
    if "--check" in sys.argv:
        return int(made != standing)
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
