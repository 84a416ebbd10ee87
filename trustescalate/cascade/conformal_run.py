"""Run with the claim "expected": every judge judges every item, then all items are decided together.

Judgments are recorded as they come, decisions after the last one; a resumed run repeats no recorded judgment
and reaches the same decisions.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

from trustescalate.calibration.expectation import decide_run, set_apart
from trustescalate.cascade.run_writer import RunWriter
from trustescalate.cascade.runner import collect_judgments
from trustescalate.judges.base import Judge
from trustescalate.records import Decision, Item, Judgment, Run


class Recorder(NamedTuple):
    """The writer of a run, and callbacks: for failed votes and the number of judged items; for a decision."""

    writer: RunWriter
    progress: Callable[[int, int], None]
    decided: Callable[[Decision], None]


async def judge_then_decide(
    run: Run,
    judges: Sequence[Judge],
    known: Iterable[Item],
    recorder: Recorder,
    *,
    ahead: Callable[[Sequence[Item]], Awaitable[None]],
    in_flight: int,
) -> None:
    """Collect and record all missing judgments, then record all decisions.

    `known` are the items that may have human labels; `ahead` receives the items to judge. Raises what stopped
    it early, after all answers so far are recorded.
    """
    certificate = run.header.certificate
    apart = set_apart(certificate, run.items, known)
    judged: dict[str, dict[str, Judgment]] = {judge.name: {} for judge in judges}
    for judgment in run.judgments:
        judged[judgment.judge][judgment.item_id] = judgment
    asked = {item.id: item for item in run.items if item.id not in apart}
    todo = [item for item in asked.values() if not all(item.id in rows for rows in judged.values())]
    done = len(asked) - len(todo)

    def collect(judgment: Judgment) -> None:
        nonlocal done
        if (
            judgment.item_id not in judged[judgment.judge]
        ):  # recorded already if the run stopped within this item
            recorder.writer.record_judgment(judgment)
            judged[judgment.judge][judgment.item_id] = judgment
        done += judgment.judge == judges[-1].name
        recorder.progress(judgment.failed, done)

    await ahead(todo)
    await collect_judgments(todo, judges, collect=collect, in_flight=in_flight)
    decided = {decision.item_id for decision in run.decisions}
    decisions = decide_run(certificate, judged, apart)
    new = [decision for decision in decisions if decision.item_id not in decided]
    recorder.writer.record_decisions(new)
    for decision in new:
        recorder.decided(decision)
