"""Run with the claim "expected": every judge judges every item, then all items are decided together.

Judgments are recorded as they come, decisions after the last one; a resumed run repeats no recorded judgment
and reaches the same decisions.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import numpy as np

from trustescalate.calibration.expectation import RunVotes, decide_run, set_apart
from trustescalate.cascade.run_writer import RunWriter
from trustescalate.cascade.runner import collect_judgments
from trustescalate.judges.base import Judge
from trustescalate.records import Decision, Item, Judgment, Run
from trustescalate.records.columns import Column
from trustescalate.records.decisions import decided_places
from trustescalate.records.item_columns import ids_of, places_of
from trustescalate.records.stored import take_items


class Recorder(NamedTuple):
    """The writer of a run, and callbacks: for failed votes and the number of judged items; for a decision."""

    writer: RunWriter
    progress: Callable[[int, int], None]
    decided: Callable[[Decision], None]


async def judge_then_decide(
    run: Run,
    judges: Sequence[Judge],
    known: Sequence[Item],
    recorder: Recorder,
    *,
    ahead: Callable[[Sequence[Item]], Awaitable[None]],
    in_flight: int,
) -> None:
    """Collect and record all missing judgments, then record all decisions.

    `known` are the items that may have human labels; `ahead` receives the items to judge. Raises what stopped
    it early, after all answers so far are recorded.
    """
    certificate, places = run.header.certificate, places_of(run.items)
    apart, votes = set_apart(certificate, run.items, known), RunVotes(certificate, len(run.items))
    for judgment in run.judgments:
        votes.add(places[judgment.item_id], judgment)
    free = np.fromiter((not why for why in apart), np.bool_, len(apart))
    missing = free & ~votes.whole()
    todo = take_items(run.items, Column("I", np.flatnonzero(missing)))
    done = int(np.count_nonzero(free & ~missing))

    def collect(judgment: Judgment) -> None:
        nonlocal done
        place = places[judgment.item_id]
        if not votes.has(place, judgment.judge):  # recorded already if the run stopped within this item
            recorder.writer.record_judgment(judgment)
            votes.add(place, judgment)
        done += judgment.judge == judges[-1].name
        recorder.progress(judgment.failed, done)

    await ahead(todo)
    await collect_judgments(todo, judges, collect=collect, in_flight=in_flight)
    decided = decided_places(run)
    for place, decision in decide_run(certificate, ids_of(run.items), votes, apart):
        if decided[place] < 0:
            recorder.writer.record([], decision)
            recorder.decided(decision)
