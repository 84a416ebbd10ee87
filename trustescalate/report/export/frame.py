"""Lay out a run as a table of plain values, with a row per item or vote.

The columns of a judge begin with its name ("small.score"). Unknown values are None, never 0; so are the
columns of a tier that did not judge an item.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from trustescalate.errors import UsageError
from trustescalate.records import SKIP, Annotation, Decision, Json, Judgment, Label, Run, Usage
from trustescalate.records.decisions import decided_places
from trustescalate.records.item_columns import ids_of
from trustescalate.records.stored import judgments_of

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
    judges = [binding.judge for binding in run.header.certificate.judges]
    return (*COLUMNS, *(f"{judge}.{name}" for judge in judges for name in OF_A_TIER))


def item_rows(run: Run) -> Iterator[Mapping[str, Json]]:
    """Yield a row per item, in order. `reason` is "open" where an item is not judged yet."""
    decided, judgments = decided_places(run), judgments_of(run)
    notes: dict[str, list[Annotation]] = {}
    for note in run.annotations:
        notes.setdefault(note.item_id, []).append(note)
    blank = dict.fromkeys(frame_columns(run))
    for place, item_id in enumerate(ids_of(run.items)):
        asked = {judgment.judge: judgment for judgment in judgments(place)}
        decision = None if decided[place] < 0 else run.decisions[decided[place]]
        usage = sum((each.usage for each in asked.values()), Usage())
        row: dict[str, Json] = {
            **blank,
            "id": item_id,
            "reason": "open",
            "cost": sum(each.cost for each in asked.values()),
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "people": len(notes.get(item_id, ())),
            "human_label": _most(notes.get(item_id, [])),
        }
        yield row if decision is None else row | _decided(decision, asked)


def vote_rows(run: Run) -> Iterator[Mapping[str, Json]]:
    """Yield a row per vote: judge, label or failure. `mass` is the total probability of the labels."""
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
    """Make a pandas DataFrame, also without rows. Raises UsageError without pandas."""
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
    """Find the most frequent label; None for a tie. A skip is no label."""
    labels = Counter(note.label for note in notes if note.label != SKIP).most_common(2)
    if not labels or (len(labels) == 2 and labels[0][1] == labels[1][1]):
        return None
    return labels[0][0]


def to_frame(run: Run) -> Any:
    """Convert a run to a pandas DataFrame: a row per item, in order; costs in USD.

    Columns: id, label (None: human review is needed), judge, score, reason ("open": not judged yet), cost,
    input_tokens, output_tokens, people (number of annotators), human_label (their most frequent label), and
    for each judge NAME of the certificate NAME.label, .score, .threshold, .accepted, .votes, .failures,
    .cost, .input_tokens, .output_tokens: missing where it was not called. Raises UsageError without pandas.
    """
    return as_frame(item_rows(run), frame_columns(run))


def votes_frame(run: Run) -> Any:
    """Convert the votes of a run to a pandas DataFrame, a row per vote; a failed vote has no label."""
    return as_frame(vote_rows(run), VOTE_COLUMNS)
