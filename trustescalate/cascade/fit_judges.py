"""Fit classical judges on human labels, or on the last judge's verdicts without any human label."""

from collections.abc import Iterable, Mapping, Sequence

from trustescalate.calibration.votes import confidence
from trustescalate.config import Config
from trustescalate.data.clusters import clustered_with
from trustescalate.data.dataset import Dataset
from trustescalate.data.labels import majority
from trustescalate.judges.base import Judge, all_done
from trustescalate.judges.distilled import FittingRows, RecordedJudge, UnfittedJudge
from trustescalate.judges.prompts import Exemplar
from trustescalate.records import Item, Judgment, Label, Task
from trustescalate.records.item_columns import items_of
from trustescalate.records.votes import all_votes

TESTED = ("certify", "region", "aside", "waiting")
"""Roles of rows that are tested, or may be later."""


def fitting_rows(
    config: Config, data: Dataset, roles: Mapping[str, Sequence[str]], recorded: Iterable[Judgment] = ()
) -> FittingRows:
    """Select the fitting rows of the classical judges in a configuration; empty without any.

    Labelled rows are those of the roles exemplars and dev with a majority; unlabelled rows are the pilot
    without clusters of rows that are tested, or may be. With the claim "batch" they are the whole pilot:
    there scores may depend on every vote, and must not depend on the draw. `recorded` are judgments of any
    judge.
    """
    fit_on = config.fitted_on
    labelled: list[Exemplar] = []
    unlabelled: list[Item] = []
    if "labels" in fit_on:
        wanted = {*roles["exemplars"], *roles["dev"]}
        notes = [note for note in data.annotations if note.item_id in wanted]
        truth = majority(config.task.task(), notes)
        labelled = [
            Exemplar(item, label)
            for item in items_of(data.items, truth)
            if (label := truth[item.id]) is not None
        ]
    if "last_judge" in fit_on:
        near = set() if config.guarantee.claim == "batch" else near_tested(data, roles)
        pilot = set(roles["pilot"]) - near
        unlabelled = list(items_of(data.items, pilot))
    last = config.judges[-1].name
    return FittingRows(labelled, unlabelled, {row.item_id: row for row in recorded if row.judge == last})


def near_tested(data: Dataset, roles: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the ids of all items in a cluster with a row that is tested, or may be."""
    tested = {item_id for role in TESTED for item_id in roles.get(role, ())}
    return clustered_with(data.items, tested)


async def fit_judges(judges: Sequence[Judge], task: Task, estimator: str, rows: FittingRows) -> list[Judge]:
    """Replace unfitted judges by fitted ones.

    The last judge votes with its whole ensemble on each unlabelled item without a recorded judgment of its
    own; the returned last judge replays these votes. Items without a verdict are left out. Raises DataError
    if too few remain. Without unlabelled items, fits nothing and makes no model calls.
    """
    if not rows.unlabelled or not any(isinstance(judge, UnfittedJudge) for judge in judges):
        return list(judges)
    *others, last = judges
    known = {
        item_id: judgment
        for item_id, judgment in rows.recorded.items()
        if (judgment.judge, judgment.fingerprint) == (last.name, last.fingerprint)
    }
    missing = [item for item in rows.unlabelled if item.id not in known]
    asked = await all_done(last.judge(item, all_votes) for item in missing) if missing else []
    known |= {judgment.item_id: judgment for judgment in asked}
    labels = verdicts(task, estimator, [known[item.id] for item in rows.unlabelled])
    examples = [
        Exemplar(item, label)
        for item, label in zip(rows.unlabelled, labels, strict=True)
        if label is not None
    ]
    fitted = [judge.fit(examples) if isinstance(judge, UnfittedJudge) else judge for judge in others]
    return [*fitted, RecordedJudge(last, known)]


def verdicts(task: Task, estimator: str, judgments: Sequence[Judgment]) -> list[Label | None]:
    """Return the label of each judgment; None without a verdict.

    >>> from trustescalate.records import TaskKind, Vote
    >>> task = Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B"))
    >>> votes = [(Vote(0, "AB", {"B": 0.9, "A": 0.1}),), (Vote(0, "AB", {}, failure="timeout"),)]
    >>> verdicts(task, "ensemble", [Judgment("x", "large", "print", vote, 1) for vote in votes])
    ['B', None]
    """
    if not judgments:
        return []
    labels = confidence(task, estimator, judgments).label
    return [task.labels[label] if label >= 0 else None for label in labels]
