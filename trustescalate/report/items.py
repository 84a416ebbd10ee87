"""Lay out each item of a run: texts, verdict, and the trail through the tiers."""

from collections import Counter
from collections.abc import Mapping
from typing import Literal

from trustescalate.records import Decision, Item, Label, Run, Step, Turn, parts, visible
from trustescalate.records.run import UNCERTIFIED, least_confident_first
from trustescalate.report import figures
from trustescalate.report.agreement import majority_labels
from trustescalate.report.certificate_figures import NEVER
from trustescalate.report.figures import Figure, missing, words
from trustescalate.report.sections import Block, ItemRow, TrailRow

State = Literal["abstained", "undecided", "released", "uncertified"]
_ORDER: tuple[State, ...] = ("abstained", "undecided", "uncertified", "released")
_GAP = {"undecided": "not decided yet", "abstained": "human review is needed"}


def item_rows(run: Run) -> tuple[ItemRow, ...]:
    """List every item: abstained, then undecided, then released ones, each in the given order.

    In an uncertified run the decided ones come by their scores, the least confident first.
    """
    decisions = {row.item_id: row for row in run.decisions}
    failed = {
        (row.item_id, row.judge): figures.failures_text(
            Counter(vote.failure for vote in row.votes if vote.failure)
        )
        for row in run.judgments
    }
    human = majority_labels(run)
    rows = [_item_row(item, decisions.get(item.id), human, failed, run.uncertified) for item in run.items]
    if run.uncertified:
        place = {item_id: n for n, item_id in enumerate(least_confident_first(run))}
        rows.sort(key=lambda row: place.get(row.id, 0))
    return tuple(sorted(rows, key=lambda row: _ORDER.index(row.state)))


def _item_row(
    item: Item,
    decision: Decision | None,
    human: Mapping[str, Label | None],
    failed: Mapping[tuple[str, str], str],
    uncertified: bool,
) -> ItemRow:
    trail = () if decision is None else decision.trail
    failures = [failed.get((item.id, step.judge), ", ".join(step.failures)) for step in trail]
    state: State = "released"
    if decision is not None and uncertified:
        state, last = "uncertified", trail[-1]
        verdict = missing("no verdict") if last.label is None else words(last.label, UNCERTIFIED)
        judge, score = words(last.judge), figures.decimal(last.score, "", places=4)
    elif decision is None or decision.label is None:
        state = "undecided" if decision is None else "abstained"
        verdict = judge = score = missing(_GAP[state])
    else:
        judge = words(decision.judge or "human labels")
        verdict, score = words(decision.label), _score(decision)
    return ItemRow(
        id=item.id,
        state=state,
        texts=_texts(item),
        verdict=verdict,
        judge=judge,
        score=score,
        reason=decision.reason if decision is not None and state in ("abstained", "uncertified") else "",
        people=_human_label(item.id, human),
        trail=tuple(map(_trail_row, trail, failures)),
    )


def _human_label(item_id: str, human: Mapping[str, Label | None]) -> Figure:
    if item_id not in human:
        return missing("no human label")
    label = human[item_id]
    return missing("no majority") if label is None else words(label)


def _score(decision: Decision) -> Figure:
    score = figures.decimal(decision.score, "no score was recorded", places=4)
    last = decision.trail[-1] if decision.trail else None
    if last is None or last.score_upper <= last.score:
        return score
    return Figure(score.value, f"≥ {score.text}")


def _texts(item: Item) -> tuple[Block, ...]:
    if isinstance(item.prompt, str):
        blocks = [Block("Prompt", item.prompt)]
    else:
        blocks = [Block(_title(what), text) for _, what, text in parts(item.prompt)]
    blocks += [Block(f"Passage {place}", text) for place, text in enumerate(item.context, 1)]
    for place, response in enumerate(item.responses):
        letter = chr(ord("A") + place) if place < 26 else str(place + 1)
        blocks += _response("Response" if len(item.responses) == 1 else f"Response {letter}", response)
    return (*blocks, *([] if item.reference is None else [Block("Reference", item.reference)]))


def _response(name: str, response: str | tuple[Turn, ...]) -> list[Block]:
    if isinstance(response, str):
        return [Block(name, visible(response))]
    return [Block(f"{name}: {what}", text) for _, what, text in parts(response, visible)]


def _title(what: str) -> str:
    return what[0].upper() + what[1:]


def _trail_row(step: Step, failures: str) -> TrailRow:
    score, threshold = _score_and_threshold(step)
    return TrailRow(
        judge=step.judge,
        verdict=missing("no verdict") if step.label is None else words(step.label),
        score=score,
        threshold=threshold,
        outcome=_outcome(step),
        votes=f"{step.votes:,} of {step.planned:,}",
        failures=failures,
    )


def _outcome(step: Step) -> str:
    if step.accepted:
        return "accepted"
    if step.label is None:
        return "no verdict"
    return NEVER if step.threshold is None else "below its threshold"


def _score_and_threshold(step: Step) -> tuple[Figure, Figure]:
    deciding = step.score if step.accepted else step.score_upper
    if step.threshold is None:
        shown, threshold = figures.decimal(deciding, "", places=4), missing(NEVER)
    else:
        threshold, shown = figures.compared(step.threshold, deciding)
    if step.score_upper <= step.score:
        return shown, threshold
    low, high = (f"{end:.3g}" for end in (step.score, step.score_upper))
    text = f"{shown.text} to {high}" if step.accepted else f"{low} to {shown.text}"
    return Figure(shown.value, text, "early stopping: the votes not asked leave this range"), threshold
