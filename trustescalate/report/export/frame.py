"""Lay out a run as a table of plain values, with a row for each item or vote.

The columns of a judge bear its name ("small.score"). Unknown values are None, never 0; so are the columns of
a tier that did not see an item.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from trustescalate.errors import UsageError
from trustescalate.records import SKIP, Annotation, Decision, Json, Judgment, Label, Run, Usage

COLUMNS = (
    *("id", "label", "judge", "score", "reason"),
    *("cost", "input_tokens", "output_tokens", "people", "human_label"),
)
OF_A_TIER = (
    *("label", "score", "threshold", "accepted", "votes", "failures"),
    *("cost", "input_tokens", "output_tokens"),
)
VOTE_COLUMNS = (
    *("id", "judge", "exemplar_set", "order", "channel", "label", "probability", "mass", "failure"),
    *("cost", "input_tokens", "output_tokens"),
)


def frame_columns(run: Run) -> tuple[str, ...]:
    """Name the columns of `item_rows`: those of the decision, then nine for each judge of the certificate."""
    judges = [seal.judge for seal in run.header.certificate.judges]
    return (*COLUMNS, *(f"{judge}.{name}" for judge in judges for name in OF_A_TIER))


def item_rows(run: Run) -> Iterator[Mapping[str, Json]]:
    """Yield a row for each item, in their order. `reason` is "open" where an item was not judged yet."""
    judgments: dict[str, dict[str, Judgment]] = {}
    for judgment in run.judgments:
        judgments.setdefault(judgment.item_id, {})[judgment.judge] = judgment
    notes: dict[str, list[Annotation]] = {}
    for note in run.annotations:
        notes.setdefault(note.item_id, []).append(note)
    decisions = {decision.item_id: decision for decision in run.decisions}
    blank = dict.fromkeys(frame_columns(run))
    for item in run.items:
        asked, decision = judgments.get(item.id, {}), decisions.get(item.id)
        usage = sum((each.usage for each in asked.values()), Usage())
        row: dict[str, Json] = {
            **blank,
            "id": item.id,
            "reason": "open",
            "cost": sum(each.cost for each in asked.values()),
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "people": len(notes.get(item.id, ())),
            "human_label": _most(notes.get(item.id, [])),
        }
        yield row if decision is None else row | _decided(decision, asked)


def vote_rows(run: Run) -> Iterator[Mapping[str, Json]]:
    """Yield a row for each vote: its judge, and its label or failure. `mass` is all that the labels hold."""
    for judgment in run.judgments:
        for vote in judgment.votes:
            label = max(vote.probs, key=lambda name: vote.probs[name]) if vote.probs else None
            values = (
                *(judgment.item_id, judgment.judge, vote.exemplar_set, vote.order, vote.channel, label),
                None if label is None else vote.probs[label],
                sum(vote.probs.values()) if vote.probs else None,
                *(vote.failure, vote.cost, vote.usage.input_tokens, vote.usage.output_tokens),
            )
            yield dict(zip(VOTE_COLUMNS, values, strict=True))


def as_frame(rows: Iterator[Mapping[str, Json]], columns: tuple[str, ...]) -> Any:
    """Make a pandas DataFrame; without rows, of the columns alone. Raises UsageError without pandas."""
    try:
        import pandas as pd
    except ImportError:
        raise UsageError("a data frame needs pandas", "pip install 'trustescalate[frames]'") from None
    return pd.DataFrame(list(rows), columns=list(columns))


def _decided(decision: Decision, asked: Mapping[str, Judgment]) -> dict[str, Json]:
    row: dict[str, Json] = {
        "label": decision.label,
        "judge": decision.judge,
        "score": decision.score,
        "reason": decision.reason,
    }
    for step in decision.trail:
        judgment = asked[step.judge]
        values = (
            *(step.label, step.score, step.threshold, step.accepted, step.votes, len(step.failures)),
            *(judgment.cost, judgment.usage.input_tokens, judgment.usage.output_tokens),
        )
        row |= {f"{step.judge}.{name}": value for name, value in zip(OF_A_TIER, values, strict=True)}
    return row


def _most(notes: list[Annotation]) -> Label | None:
    """The label of the majority of annotations; None where none leads. A skip is no label."""
    labels = Counter(note.label for note in notes if note.label != SKIP).most_common(2)
    if not labels or (len(labels) == 2 and labels[0][1] == labels[1][1]):
        return None
    return labels[0][0]


def to_frame(run: Run) -> Any:
    """The run as a pandas DataFrame: a row an item, in the order of the items; costs in USD.

    Columns: id, label (None: human review is needed), judge, score, reason ("open": not judged yet), cost,
    input_tokens, output_tokens, people (how many labelled it), human_label (what most of them say), and for
    each judge NAME of the certificate NAME.label, .score, .threshold, .accepted, .votes, .failures, .cost,
    .input_tokens, .output_tokens: missing where that judge was not asked. Raises UsageError without pandas.
    """
    return as_frame(item_rows(run), frame_columns(run))


def votes_frame(run: Run) -> Any:
    """All votes as a pandas DataFrame, a row a vote in the item's frame; a failed one has no label."""
    return as_frame(vote_rows(run), VOTE_COLUMNS)
