"""Draw docs/protocol/*.svg and fill the tables of docs/protocol.md from the code's own tables.

Usage: python docs/draw_protocol.py [--check]
"""

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from xml.sax.saxutils import escape

from jangin.client.state import MOVES, Task
from jangin.plan.messages import ANSWERS, Content, Kind
from jangin.privacy.secure_sum.table import NEXT, State, Step

FOLDER = Path(__file__).parent

ORDERS = {
    Kind.SCALE: "nothing but a deadline; once, before the first round",
    Kind.TRAIN: "shared parameters, a control (`scaffold`), the learnt scaling, whether to hold; or a manifest as well",
    Kind.COLLECT: "nothing but a deadline; to four sites at a time, where updates are large",
    Kind.EVALUATE: "the parameters after one of the plan's evaluated rounds, the learnt scaling; or a manifest as well",
    Kind.REHEARSE: "the first parameters, as `train` has them; before a campaign starts, twice to those who are ready",
    Kind.SHARE: "secure sum: everybody's adverts, U1",
    Kind.MASK: "secure sum: what each dealer, U2, sealed for this site",
    Kind.CERTIFY: "secure sum: who has sent a masked vector, U3",
    Kind.UNMASK: "secure sum: the signatures over U2 and U3",
}
REPLIES = {
    Content.MOMENTS: "clipped sums for a common scaling, or of losses on the hold-out, noised under privacy",
    Content.UPDATE: "one flat float32 vector, noised under privacy; to `rehearse` of made-up rows alone",
    Content.HELD: "the update is ready, here",
    Content.SUM: "the answer to a step of a secure sum, and nothing beside it",
    Content.CODE: "a polite refusal: what may be known outside, or just local",
}
PLACES = {
    Task.IDLE: (0, 0),
    Task.GATED: (1, 0),
    Task.TRAINING: (2, 0),
    Task.TRAINED: (3, 0),
    Task.SENT: (4, 0),
    Task.ABSTAINED: (1, 1),
    Task.LOST: (3, 1),
}
STEPS = {
    Step.ADVERTISE: (
        "the manifest: campaign, round, attempt, model, roster, size, waits, the last sum",
        "it is of what this site has received; its journal has nothing as new; policy and plan agree",
        "two fresh public keys, signed over the manifest",
    ),
    Step.SHARE: (
        "U1: everybody's keys, with signatures",
        "its own are as it made them; all are invited, on the roster, and signed this site's manifest; no key twice; "
        "enough for n_min, n_plan, 3·c_max + 1, k_known",
        "one parcel for each: shares of its seed and of its mask key, sealed, under one signature",
    ),
    Step.MASK: (
        "what each of U2 ⊆ U1 dealt to this site",
        "enough for a sum; each parcel is under its dealer's signature, opens, and holds what it says",
        "its vector behind masks, once; or a complaint with the proof",
    ),
    Step.CERTIFY: (
        "U3 ⊆ U2: whose vectors are in",
        "itself among them; at least T, n_min_final, n_honest_min + c_max, k_known",
        "one signature over U2 and U3, once",
    ),
    Step.UNMASK: (
        "signatures over U2 and U3",
        "T different survivors signed the very lists that it signed itself",
        "of each of U3 a share of the seed, of each other of U2 a share of the key, signed",
    ),
}
SPAN, RISE, WIDTH, HEIGHT = 170, 130, 104, 40
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="14">\n'
    '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0 10 5 0 10z" fill="#333"/></marker></defs>\n<rect width="100%" height="100%" fill="#fff"/>\n'
)


def states(moves: Mapping[Task, Iterable[Task]]) -> str:
    """A site's task: each state once, each move as an arrow; neighbours straight, others as a bow."""
    parts = [HEAD.format(width=5 * SPAN, height=RISE + 190)]
    for start, ends in moves.items():
        parts += [_arrow(PLACES[start], PLACES[end]) for end in sorted(ends, key=list(Task).index)]
    parts += [_box(place, task, ended=task in (Task.ABSTAINED, Task.LOST)) for task, place in PLACES.items()]
    return "".join(parts) + "</svg>\n"


def machine(moves: Mapping[tuple[State, Step], State]) -> str:
    """A secure sum: the moves of the table with their steps, and what is not in it, from anywhere."""
    row = [State.BEGUN, *moves.values()]
    places: dict[State, tuple[float, float]] = {state: (number, 0) for number, state in enumerate(row)}
    places[State.ABORTED] = ((len(row) - 1) / 2, 1)
    parts = [HEAD.format(width=len(row) * SPAN, height=RISE + 190)]
    for (start, step), end in moves.items():
        parts.append(_arrow(places[start], places[end]))
        x, y = (_middle(places[start])[0] + _middle(places[end])[0]) / 2, _middle(places[end])[1]
        parts.append(f'<text x="{x:g}" y="{y - 10:g}" text-anchor="middle" font-size="12">{step}</text>\n')
    parts += [_fall(places[state], places[State.ABORTED]) for state in row]
    x, y = _middle(places[State.ABORTED])
    words = "whatever the table does not have, and whatever is wrong"
    parts.append(f'<text x="{x:g}" y="{y + 45:g}" text-anchor="middle" font-size="12">{words}</text>\n')
    parts += [_box(place, state, ended=state is State.ABORTED) for state, place in places.items()]
    return "".join(parts) + "</svg>\n"


def messages(answers: Mapping[Kind, Iterable[Content]]) -> str:
    """Orders down from the server and what may come back, one after another."""
    lines = [(True, kind, ORDERS[kind]) for kind in answers]
    height = 70
    parts = []
    for _, kind, carries in lines:
        height += 34
        parts.append(_message(height, 130, 720, f"{kind}: {carries}"))
        for content in sorted(answers[kind], key=list(Content).index):
            height += 30
            parts.append(_message(height, 720, 130, f"{content}: {REPLIES[content]}", dashed=True))
        height += 16
    ends = [
        f'<line x1="{x}" y1="50" x2="{x}" y2="{height}" stroke="#999"/>\n'
        f'<text x="{x}" y="36" text-anchor="middle" font-weight="bold">{name}</text>\n'
        for x, name in ((130, "national server"), (720, "site"))
    ]
    return "".join([HEAD.format(width=850, height=height + 20), *ends, *parts, "</svg>\n"])


def tables() -> dict[str, str]:
    """The tables of docs/protocol.md by name."""
    order = ["| order | carries | may be answered with |", "|---|---|---|"]
    for kind, contents in ANSWERS.items():
        allowed = ", ".join(f"`{content}`" for content in sorted(contents, key=list(Content).index))
        order.append(f"| `{kind}` | {ORDERS[kind]} | {allowed} |")
    reply = ["| reply | is |", "|---|---|", *(f"| `{content}` | {words} |" for content, words in REPLIES.items())]
    moves = ["| from | to |", "|---|---|"]
    for start, ends in MOVES.items():
        moves.append(f"| `{start}` | {', '.join(f'`{end}`' for end in sorted(ends, key=list(Task).index))} |")
    steps = ["| | the server sends | a site looks whether | it answers | and is |", "|---|---|---|---|---|"]
    for (_, step), state in NEXT.items():
        sent, looked, answered = STEPS[step]
        steps.append(f"| `{step}` | {sent} | {looked} | {answered} | `{state}` |")
    found = {"orders": order, "replies": reply, "moves": moves, "steps": steps}
    return {name: "\n".join(lines) for name, lines in found.items()}


def made() -> dict[Path, str]:
    """Every file that is made here, whole."""
    page = FOLDER / "protocol.md"
    text = page.read_text(encoding="utf-8")
    for name, table in tables().items():
        text = re.sub(rf"(<!-- {name} -->\n).*?(<!-- end -->)", rf"\g<1>{table}\n\2", text, flags=re.DOTALL)
    return {
        page: text,
        FOLDER / "protocol" / "task.svg": states(MOVES),
        FOLDER / "protocol" / "messages.svg": messages(ANSWERS),
        FOLDER / "protocol" / "sum.svg": machine(NEXT),
    }


def main() -> int:
    """Write what is made, or with --check say whether it stands."""
    if "--check" in sys.argv:
        return int(any(not file.exists() or file.read_text(encoding="utf-8") != text for file, text in made().items()))
    for file, text in made().items():
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return 0


def _middle(place: tuple[float, float]) -> tuple[float, float]:
    return (place[0] + 0.5) * SPAN, place[1] * RISE + 120


def _box(place: tuple[float, float], name: str, *, ended: bool) -> str:
    x, y = _middle(place)
    fill = "#fde9d9" if ended else "#e3eefb"
    return (
        f'<rect x="{x - WIDTH / 2:g}" y="{y - HEIGHT / 2:g}" width="{WIDTH}" height="{HEIGHT}" rx="8" '
        f'fill="{fill}" stroke="#333"/>\n<text x="{x:g}" y="{y + 5:g}" text-anchor="middle">{name}</text>\n'
    )


def _fall(start: tuple[float, float], end: tuple[float, float]) -> str:
    """Dashed, from below a box towards the top of another."""
    (x1, y1), (x2, y2) = _middle(start), _middle(end)
    x2 += (x1 - x2) * 0.11
    ends = f'x1="{x1:g}" y1="{y1 + HEIGHT / 2:g}" x2="{x2:g}" y2="{y2 - HEIGHT / 2:g}"'
    return f'<line {ends} stroke="#999" stroke-dasharray="4 4" marker-end="url(#tip)"/>\n'


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    """From border to border; along the upper row a bow above, the higher the longer."""
    (x1, y1), (x2, y2) = _middle(start), _middle(end)
    if start == end:
        d = f"M{x1 - 20:g} {y1 + HEIGHT / 2:g} q20 50 40 2"
    elif start[1] == end[1] == 1 or (start[1] == end[1] and end[0] - start[0] == 1):
        side = WIDTH / 2 if x2 > x1 else -WIDTH / 2
        d = f"M{x1 + side:g} {y1:g} {x2 - side:g} {y2:g}"
    elif start[1] == end[1]:
        top = y1 - HEIGHT / 2
        side = 12 if end[0] > start[0] else -12
        d = f"M{x1 + side:g} {top:g} Q{(x1 + x2) / 2:g} {top - 34 * abs(end[0] - start[0]):g} {x2 - side:g} {top:g}"
    else:
        down = 1 if y2 > y1 else -1
        d = f"M{x1 + 14 * down:g} {y1 + down * HEIGHT / 2:g} {x2 + 14 * down:g} {y2 - down * HEIGHT / 2:g}"
    return f'<path d="{d}" fill="none" stroke="#333" marker-end="url(#tip)"/>\n'


def _message(y: float, x1: float, x2: float, text: str, *, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="6 4"' if dashed else ""
    line = f'<line x1="{x1}" y1="{y}" x2="{x2}" y2="{y}" stroke="#333"{dash} marker-end="url(#tip)"/>\n'
    return line + f'<text x="{(x1 + x2) / 2:g}" y="{y - 6}" text-anchor="middle" font-size="12">{escape(text)}</text>\n'


if __name__ == "__main__":
    sys.exit(main())
