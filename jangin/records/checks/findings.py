"""What a check says: findings and the report of a validation."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jangin.errors import CodedText, DataError, JanginError, Language
from jangin.records.agreement import Agreement

__all__ = ["Finding", "Level", "Report", "Severity", "together"]

Level = Literal[0, 1, 2, 3, 4]
Severity = Literal["error", "warning"]


class Finding(CodedText):
    """One thing that the checks found; its `text` says what, why and the way out in both languages."""

    def __init__(self, severity: Severity, code: str, /, where: str = "", **values: object) -> None:
        """Take how bad it is, then the arguments of `CodedText`."""
        super().__init__(code, where, **values)
        self.severity = severity

    @classmethod
    def of(cls, error: JanginError) -> "Finding":
        """The finding that says what a coded error says."""
        return cls("error", error.code, error.coded.where, **error.coded.values)

    def as_dict(self, lang: Language = "en") -> dict[str, object]:
        """The line of `--format json`: severity, code, message, why, hint, where."""
        return {"severity": self.severity, **super().as_dict(lang), "why": self.text("why", lang)}


@dataclass(frozen=True)
class Report:
    """What a validation found.

    Attributes:
        findings: errors and warnings in the order of the checks.
        episodes: how many episodes the folder holds; 0 where they could not be read.
        holdout: how many of them are set aside; 0 where nobody drew.
        agreement: of each judgement that several masters made; from level 3.
    """

    findings: tuple[Finding, ...]
    episodes: int = 0
    holdout: int = 0
    agreement: tuple[Agreement, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no finding is an error."""
        return not self._errors

    def require(self, folder: Path) -> None:
        """Refuse records that did not pass.

        Raises:
            DataError: JG-data-031, with the number of errors and the first one's code and place.
        """
        if self._errors:
            first = f"{self._errors[0].code} ({self._errors[0].where})"
            raise DataError("JG-data-031", where=str(folder), number=len(self._errors), first=first)

    @property
    def _errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "error"]


def together(findings: Iterable[Finding]) -> list[Finding]:
    """Findings of several files: those of one code and place are one, with the sum of their episodes."""
    merged: dict[object, Finding] = {}
    for finding in findings:
        key = (finding.code, finding.where) if "number" in finding.values else id(finding)
        first = merged.setdefault(key, finding)
        if first is not finding:
            number = int(str(first.values["number"])) + int(str(finding.values["number"]))
            values = {**first.values, "number": number}
            merged[key] = Finding(first.severity, first.code, first.where, **values)
    return list(merged.values())
