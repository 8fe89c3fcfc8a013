"""The comparison table of one run or of several: Markdown for people, CSV for machines.

The law: no figure stands without its promise, and every promise with its unit and with what it does not cover.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import yaml

from jangin.errors import CodedText, Language
from jangin.simulation.result import Figures

__all__ = ["UNITS", "Row", "as_text", "csv_table", "markdown"]

_MODELS: Mapping[str, Mapping[Language, str]] = {
    "federated": {"en": "federated", "ko": "연합 모델"},
    "personalised": {"en": "federated, fine-tuned", "ko": "연합 모델, 미세 조정"},
    "local": {"en": "each alone", "ko": "단독"},
    "local_trees": {"en": "each alone, trees", "ko": "단독, 트리"},
    "local_private": {"en": "each alone, same ε", "ko": "단독, 같은 ε"},
    "pooled": {"en": "pooled", "ko": "한곳에"},
    "constant": {"en": "the mean", "ko": "평균값"},
}
_HEADS: Mapping[Language, tuple[str, ...]] = {
    "en": ("metric", "promise for the federated model", "better off", "fine-tuned", "seconds"),
    "ko": ("지표", "연합 모델의 약속", "나아진 곳", "미세 조정", "초"),
}
_NOTES: Mapping[Language, tuple[str, ...]] = {
    "en": (
        "Figures on hold-outs, ± the standard deviation over seeds; ↓ lower is better, ↑ higher. Better off: sites"
        " whose federated model beats their own best one.",
        "ε and δ are for each unit at its site and for one run (one seed) of the federated model alone. They cover"
        " neither the other runs on the same records, whose losses add up, nor a choice among runs by these figures."
        " All other models but the one at the same ε are trained WITHOUT differential privacy.",
    ),
    "ko": (
        "평가용 기록의 수치, ±는 시드에 따른 표준편차. ↓는 낮을수록, ↑는 높을수록 좋음. 나아진 곳: 연합 모델이"
        " 자체 최고 모델보다 나은 사업장.",
        "ε과 δ는 각 사업장의 단위 하나에 대한 값이며, 연합 모델의 한 번 실행(시드 하나)에만 해당함. 같은 기록을 쓴"
        " 다른 실행(손실은 더해짐)과, 이 수치를 보고 고르는 일은 포함하지 않음. 같은 ε의 단독 모델 외의 다른 모델은"
        " 모두 차등정보보호 없이 학습함.",
    ),
}
UNITS: Mapping[str, str] = {"episode": "에피소드", "master": "장인", "site": "사업장"}
"""Privacy units in Korean."""


@dataclass(frozen=True)
class Row:
    """One run in a comparison.

    Attributes:
        figures: what it came to; None where it was refused.
        values: the swept keys and what they were; none for a run by itself.
        refused: why it was, in code.
        warnings: what it assumed; of a run that was read from its folder none, they were said when it ran.
    """

    figures: Figures | None
    values: Mapping[str, Any] = field(default_factory=dict)
    refused: CodedText | None = None
    warnings: tuple[CodedText, ...] = ()


def as_text(value: object) -> str:
    """A swept value as it is written in a command: `4`, `none`, `[64, 64]`."""
    if isinstance(value, str):
        return value
    written = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n")
    return f"{value:g}" if isinstance(value, float) else written.strip()


def markdown(rows: Sequence[Row], lang: Language = "en") -> str:
    """One line a run: what was swept, each model's figure, the promise, who is better off, seconds; then notes."""
    names, metrics = _models(rows), {_metric(row.figures) for row in rows if row.figures is not None}
    metric, promised, better, tuned, seconds = _HEADS[lang]
    head = [*_keys(rows), *([metric] if len(metrics) > 1 else []), *(_MODELS[name][lang] for name in names)]
    head += [promised, better, *([tuned] if "personalised" in names else []), seconds]
    lines = [head, ["---" if number < len(_keys(rows)) else "---:" for number in range(len(head))]]
    for row in rows:
        cells = [as_text(value) for value in row.values.values()]
        if row.figures is None:
            code = row.refused.code if row.refused else ""
            lines.append([*cells, code, *[""] * (len(head) - len(cells) - 1)])
            continue
        figures = row.figures
        cells += [_metric(figures)] if len(metrics) > 1 else []
        cells += [_figure(figures, name) for name in names]
        cells += [_promise(figures, lang), _share(figures, "federated")]
        cells += [_share(figures, "personalised")] if "personalised" in names else []
        lines.append([*cells, f"{round(figures.seconds, 2):.1f}"])  # as a finished run's file has them
    title = f"**{metrics.copy().pop()}**" if len(metrics) == 1 else ""
    table = "\n".join(f"| {' | '.join(_cell(text) for text in line)} |" for line in lines)
    return "\n\n".join(filter(None, [title, table, *_NOTES[lang]])) + "\n"


def csv_table(rows: Sequence[Row]) -> str:
    """The same with one column a number; epsilon is `NO DIFFERENTIAL PRIVACY` where there is none."""
    names = _models(rows)
    promise = ("unit", "epsilon", "delta", "mechanism", "noise_multiplier", "runs")
    head = [*_keys(rows), "refused", "metric", "higher_is_better"]
    head += [column for name in names for column in (name, f"{name}_std")]
    head += [*promise, "better_off_federated", "better_off_personalised", "seconds"]
    text = io.StringIO()
    writer = csv.DictWriter(text, head, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        line: dict[str, Any] = {key: as_text(value) for key, value in row.values.items()}
        if row.figures is None:
            writer.writerow(line | {"refused": row.refused.code if row.refused else ""})
            continue
        one = row.figures
        line |= {"metric": one.metric["name"], "higher_is_better": str(one.metric["higher_is_better"]).lower()}
        line |= {name: one.metric.get(name) for name in names} | {f"{name}_std": one.std.get(name) for name in names}
        stated = {"epsilon": one.privacy} if isinstance(one.privacy, str) else one.privacy
        line |= {key: stated[key] for key in promise if key in stated}
        line |= {f"better_off_{name}": one.better_off[name] for name in ("federated", "personalised")}
        writer.writerow(line | {"seconds": round(one.seconds, 2)})
    return text.getvalue()


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _keys(rows: Sequence[Row]) -> list[str]:
    return list(rows[0].values) if rows else []


def _models(rows: Sequence[Row]) -> list[str]:
    """The models that any run has figures of."""
    return [name for name in _MODELS if any(row.figures and name in row.figures.per_site for row in rows)]


def _metric(figures: Figures) -> str:
    return f"{figures.metric['name']} {'↑' if figures.metric['higher_is_better'] else '↓'}"


def _figure(figures: Figures, name: str) -> str:
    value, deviation = figures.metric.get(name), figures.std.get(name)
    if value is None or not isfinite(value):
        return "-"
    return f"{value:.4g} ± {deviation:.2g}" if deviation else f"{value:.4g}"


def _promise(figures: Figures, lang: Language) -> str:
    stated = figures.privacy
    if isinstance(stated, str):
        return stated
    unit, per = stated["unit"], f"ε = {stated['epsilon']:.3g}, δ = {stated['delta']:.3g}"
    coalition = stated.get("epsilon_coalition")
    if lang == "ko":
        all_others = f"; 서버와 다른 모든 사업장이 공모하면 ε = {coalition:.3g}" if coalition else ""
        return f"{per}, 단위 {UNITS[unit]} ({stated['mechanism']}){all_others}"
    all_others = f"; ε = {coalition:.3g} with the server and all other sites together" if coalition else ""
    return f"{per} per {unit} ({stated['mechanism']}){all_others}"


def _share(figures: Figures, name: str) -> str:
    share = figures.better_off[name]
    return "-" if share is None else f"{share:.0%}"
