"""Align votes and labels with rows, and lay out the path that is tested."""

from collections.abc import Mapping, Sequence

import numpy as np

from trustescalate.calibration.losses import loss_table, losses, right_or_wrong
from trustescalate.calibration.protocol import Aligned, Judged, Protocol
from trustescalate.calibration.scoring import Scorer
from trustescalate.data.labels import majority
from trustescalate.records import Annotation, Json, Label
from trustescalate.records.criteria import row_id, split_row_id
from trustescalate.records.jsonl import digest, to_python
from trustescalate.stats.batch import judgments_needed
from trustescalate.stats.bounds import FloatArray
from trustescalate.stats.control import SHARES
from trustescalate.stats.paths import PATHS, Basis, Plan
from trustescalate.stats.pooling import Rows


def align(
    protocol: Protocol, rows: Sequence[str], notes: Sequence[Annotation], judged: Judged, scorer: Scorer
) -> Aligned:
    """The votes and labels of these rows as arrays; `notes` are the annotations on them."""
    task, names = protocol.task, [name for name, _ in protocol.judges]
    scores, labels = scorer.read(names, rows, judged)
    costs = np.array(
        [[row.cost if (row := judged[name].get(item_id)) else 0.0 for name in names] for item_id in rows],
        dtype=float,
    )
    place: Mapping[Label | None, int] = {label: i for i, label in enumerate(task.labels)}
    truth = majority(task, notes)
    return Aligned(
        tuple(rows),
        scores,
        labels,
        _evened(protocol, rows, costs.reshape(scores.shape)),
        np.array([place.get(truth.get(item_id), -1) for item_id in rows], dtype=np.int64),
        loss_table(task, losses(task, protocol.reference, notes), rows),
    )


def _evened(protocol: Protocol, rows: Sequence[str], costs: FloatArray) -> FloatArray:
    """The costs (n, m), in equal parts where rows of one item share a request, whichever records it."""
    values = {} if protocol.groups is None else protocol.groups.values
    names = [split_row_id(item_id) for item_id in rows]
    own = [
        name.item_id if item_id == row_id(name.item_id, values.get(item_id, "")) else item_id
        for item_id, name in zip(rows, names, strict=True)
    ]
    if len(set(own)) == len(own):
        return costs
    place = np.unique(own, return_inverse=True)[1]
    sums = np.zeros((place.max() + 1, costs.shape[1]))
    np.add.at(sums, place, costs)
    return np.asarray(sums[place] / np.bincount(place)[place, None], dtype=np.float64)


def lay_out(
    protocol: Protocol, annotations: Sequence[Annotation], judged: Judged, scorer: Scorer
) -> Plan | None:
    """The path, from dev rows and unlabelled ones alone; None for `tierwise`, which needs none."""
    path = protocol.rule.path
    if path == "tierwise":
        return None
    wanted = set(protocol.roles["dev"]) if PATHS[path].needs_dev else set()
    notes = [note for note in annotations if note.item_id in wanted]
    rows = list(majority(protocol.task, notes))
    dev = _dev_rows(protocol, align(protocol, rows, notes, judged, scorer)) if rows else None
    pilot = scorer.read([name for name, _ in protocol.judges], protocol.roles["pilot"], judged)
    plan = PATHS[path].build(Basis(dev, pilot, len(protocol.judges), len(protocol.task.labels)))
    return _drop_untestable(plan) if protocol.claim == "batch" else plan


def _dev_rows(protocol: Protocol, dev: Aligned) -> Rows:
    """Dev rows as paths read them; right or wrong where near misses agree, except for a stack's labels."""
    if protocol.task.tolerance and protocol.rule.path != "stacked":
        none = np.zeros(len(dev.ids), dtype=np.int64)
        return Rows(dev.scores, right_or_wrong(dev.labels, dev.losses), none, dev.costs)
    return Rows(dev.scores, dev.labels, dev.truth, dev.costs)


def _drop_untestable(plan: Plan) -> Plan:
    """A plan without the policies that are expected to accept too little ever to be tested by `fallback`.

    In a batch each policy of the path is paid for: the stricter the first, the more rows go to the judges
    that cost most.
    """
    kept = [
        (part == part[-1]).all(axis=1) | (coverage >= SHARES[0][1])
        for part, coverage in zip(plan.parts, plan.coverage, strict=True)
    ]
    return plan._replace(
        parts=tuple(part[keep] for part, keep in zip(plan.parts, kept, strict=True)),
        coverage=tuple(part[keep] for part, keep in zip(plan.coverage, kept, strict=True)),
    )


def rows_to_judge(
    protocol: Protocol, plan: Plan, judged: Judged, tier: int, scorer: Scorer
) -> tuple[str, ...]:
    """The ids of the batch that a judge has yet to judge, when all judges before it have done so.

    Where no policy of the plan uses the judge, its verdict changes no count. The order tells nothing of the
    draw: a judge that fails or changes half-way must not do so between drawn rows and the others.
    """
    rows = sorted(protocol.batch)
    read = plan.read(scorer.read([name for name, _ in protocol.judges], rows, judged))
    wide = judgments_needed(plan.policies, *read).reshape(len(rows), len(plan.readings), -1)
    needed = np.any(wide, axis=1)[:, tier]
    known = judged[protocol.judges[tier][0]]
    return tuple(
        item_id for item_id, wanted in zip(rows, needed, strict=True) if wanted and item_id not in known
    )


def votes_digest(judged: Judged) -> str:
    """A hash of all votes, whatever their order."""
    return digest(sorted(rows for rows in _vote_rows(judged) if rows[1]))


def data_digest(notes: Sequence[Annotation], judged: Judged) -> str:
    """A hash of all labels and votes that a certificate rests on."""
    return digest([sorted((note.item_id, note.annotator, note.label) for note in notes), _vote_rows(judged)])


def _vote_rows(judged: Judged) -> list[Json]:
    return [[name, [to_python(rows[item_id]) for item_id in sorted(rows)]] for name, rows in judged.items()]
