"""Run with the claim "expected": every judge judges every item, then all items are decided together.

Judgments are recorded as they come, decisions after the last one; a resumed run repeats no recorded judgment
and reaches the same decisions.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from trustescalate.calibration.expectation import decide_run
from trustescalate.calibration.selection import lot
from trustescalate.cascade.run_folder import RunFolder, RunWriter
from trustescalate.cascade.runner import collect_judgments
from trustescalate.data.clusters import clusters
from trustescalate.judges.base import Judge
from trustescalate.records import Certificate, Item, Judgment, Run

LABELLED = "people labelled it for the calibration, or an item of its group"
SHARED = "its group has another item in this run: of each group one can be released"


def set_apart(certificate: Certificate, items: Sequence[Item], known: Iterable[Item]) -> Mapping[str, str]:
    """Return the items that cannot be released, by id, with the reason.

    Labelled rows are independent, so exchangeability allows one item per group or content, drawn by lot, and
    none from a cluster with a labelled row. `known` holds the labelled rows.
    """
    used = {item_id for role, ids in certificate.roles.items() if role != "holdout" for item_id in ids}
    labelled = [item for item in known if item.id in used]
    mine = {item.id for item in items}
    apart: dict[str, str] = {}
    for rows in clusters([*items, *(item for item in labelled if item.id not in mine)]):
        taken = any(item.id in used for item in rows)
        first = min(rows, key=lambda item: lot(certificate.seed, item))
        for item in rows:
            if taken or item.id != first.id:
                apart[item.id] = LABELLED if taken else SHARED
    return {item.id: apart[item.id] for item in items if item.id in apart}


class Recorder(NamedTuple):
    """The folder and writer of a run, and a callback for the number of judged items."""

    folder: RunFolder
    writer: RunWriter
    progress: Callable[[int], None]


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
    for judgment in recorder.folder.judgments():
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
        recorder.progress(done)

    await ahead(todo)
    await collect_judgments(todo, judges, collect=collect, in_flight=in_flight)
    decided = {decision.item_id for decision in run.decisions}
    decisions = decide_run(certificate, judged, apart)
    recorder.writer.record_decisions([decision for decision in decisions if decision.item_id not in decided])
