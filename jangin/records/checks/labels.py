"""Level 3, labels: what is to be learnt, and who said it.

The law: a label counts as known too early or too late only where the records say when: a judgement whose `said_utc` is
not before the episode's `outcome_utc` may repeat the outcome. Records without these times are not accused.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from jangin.records.agreement import Agreement, of_numbers, of_words
from jangin.records.card import Card
from jangin.records.checks.findings import Finding
from jangin.records.dataset import EPISODES_FILE, JUDGEMENTS_FILE

__all__ = ["agreements", "check_agreements", "check_judges", "check_labels"]

FEW_EPISODES: Final = 10
"""Fewer equal labels may be chance."""


def check_labels(table: pa.Table, card: Card) -> Iterator[Finding]:
    """Actions, judgements and outcomes that are the same in all episodes.

    Args:
        table: of episodes, whose schema has passed.
        card: what they are.
    """
    for name in card.columns():
        if name in table.column_names and not name.startswith("context."):
            said = table[name].drop_null()
            if len(said) >= FEW_EPISODES and len(said.unique()) == 1:
                yield Finding(
                    "warning", "JG-data-145", where=f"{EPISODES_FILE}: {name}", value=said[0].as_py(), number=len(said)
                )


def check_judges(judgements: pa.Table, table: pa.Table) -> Iterator[Finding]:
    """Judgements that one judge gave twice, and those that were given when the outcome was known.

    Args:
        judgements: whose schema has passed.
        table: of episodes, whose schema has passed.
    """
    words = [judgements[name].to_pylist() for name in ("episode_id", "judge", "judgement")]
    times = Counter(zip(*words, strict=True))
    twice = [one for one, number in times.items() if number > 1]
    if twice:
        episode, _, judgement = twice[0]
        yield Finding(
            "error", "JG-data-148", where=JUDGEMENTS_FILE, judgement=judgement, episode=episode, number=len(twice)
        )
    if "said_utc" not in judgements.column_names or "outcome_utc" not in table.column_names:
        return
    place = pc.index_in(judgements["episode_id"], value_set=table["episode_id"].combine_chunks())
    known = table["outcome_utc"].take(place).cast(pa.timestamp("us", tz="UTC"))
    late = pc.indices_nonzero(pc.greater_equal(judgements["said_utc"].cast(known.type), known))
    if len(late):
        row = late[0].as_py()
        episode, _, judgement = (column[row] for column in words)
        yield Finding(
            "error",
            "JG-data-147",
            where=f"{JUDGEMENTS_FILE}: said_utc",
            judgement=judgement,
            episode=episode,
            number=len(late),
            row=row + 1,
        )


def agreements(judgements: pa.Table, card: Card) -> tuple[Agreement, ...]:
    """How far the masters agree, for each judgement that more than one of them made.

    Args:
        judgements: whose schema has passed.
        card: what they are of.
    """
    columns = [judgements[name].to_pylist() for name in ("judgement", "episode_id", "judge", "value")]
    said = list(zip(*columns, strict=True))
    found = []
    for field in card.judgements:
        ours = [one[1:] for one in said if one[0] == field.name]
        if field.values is not None:
            found.append(of_words(field.name, ours))
        else:
            found.append(of_numbers(field.name, [(episode, judge, float(value)) for episode, judge, value in ours]))
    return tuple(one for one in found if one.judges > 1)


def check_agreements(found: tuple[Agreement, ...]) -> Iterator[Finding]:
    """Judgements on which the masters do not agree."""
    for one in found:
        if one.value is not None and one.weak:
            yield Finding(
                "warning",
                "JG-data-146",
                where=f"{JUDGEMENTS_FILE}: {one.judgement}",
                statistic=one.statistic,
                value=round(one.value, 3),
                judges=one.judges,
                episodes=one.episodes,
            )
