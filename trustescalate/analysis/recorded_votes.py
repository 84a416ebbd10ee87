"""Read the recorded votes of a certificate as arrays, to plan label budgets and compare policies.

The recorded labels were tested once: a second certificate from them would break its guarantee.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trustescalate.calibration.files import CERTIFICATE_VOTES, read_certificate
from trustescalate.calibration.losses import loss_table, losses, right_or_wrong
from trustescalate.calibration.protocol import Judged
from trustescalate.calibration.scoring import Scorer
from trustescalate.config import FITTED_PATHS, Config
from trustescalate.data.dataset import Dataset, load_dataset
from trustescalate.data.labels import majority
from trustescalate.errors import ConfigError, NotMeasurable, UsageError
from trustescalate.judges.replay import load_votes
from trustescalate.records import Annotation, Certificate, Task
from trustescalate.stats.paths import PATHS, Basis, PathName, Plan
from trustescalate.stats.pooling import Rows, Votes

SPENT = "labels used for planning must not certify again: calibrate with fresh ones"


@dataclass(frozen=True, slots=True)
class Recorded:
    """Certification rows (n, m) with labels, dev rows if they were judged, and unlabelled pilot votes."""

    certificate: Certificate
    certify: Rows
    dev: Rows | None
    pilot: Votes | None

    @property
    def classes(self) -> int:
        """The number of labels of the task."""
        return len(self.certificate.task.labels)

    def plan(self, path: PathName) -> Plan:
        """Lay out a path as calibration does. Raises NotMeasurable for a fitted path without dev rows.

        With a tolerance, recorded rows state only right or wrong, which cannot be pooled: `hedged` is then
        laid out without its pooled sub-path.
        """
        if path in ("pooled", "stacked") and self.certificate.task.tolerance:
            raise NotMeasurable(
                f'path "{path}" is not supported with [task] tolerance: rows state only right or wrong',
                "choose another path",
            )
        if PATHS[path].needs_dev and self.dev is None:
            raise NotMeasurable(
                f"path {path!r} is fitted on dev rows, and none were recorded",
                "set [roles] dev and calibrate, or choose another [guarantee] path",
            )
        plan = PATHS[path].build(Basis(self.dev, self.pilot, self.certify.scores.shape[1], self.classes))
        return plan.alone() if self.certificate.task.tolerance else plan


def read_votes(config: Config) -> tuple[Certificate, Dataset, Judged]:
    """Read the certificate, or "no certificate", its recorded votes and the present data.

    Raises NoCertificate without either, NotMeasurable without votes, DataError, and ConfigError for a
    guarantee whose test cannot be resampled from recorded votes.
    """
    _must_be_counts(config)
    certificate = read_certificate(config.folder)
    path = config.folder / CERTIFICATE_VOTES
    if not path.exists():
        raise NotMeasurable(
            f"{path}: there are no recorded votes", "`trustescalate calibrate` records them; keep the file"
        )
    data = load_dataset(config)
    judged = {
        seal.judge: {row.item_id: row for row in load_votes(path, certificate.task, seal.judge)}
        for seal in certificate.judges
    }
    return certificate, data, judged


def read_recorded(config: Config) -> Recorded:
    """Read recorded votes with the present human labels of their items.

    Raises the errors of `read_votes`, and NotMeasurable without labelled rows.
    """
    certificate, data, judged = read_votes(config)
    notes = data.annotations
    scorer = Scorer.of(certificate)
    certify = labelled_rows(certificate.task, certificate.roles["certify"], notes, judged, scorer)
    if certify is None:
        raise NotMeasurable(
            f"{config.folder / CERTIFICATE_VOTES}: no certification row has both votes and a label",
            "calibrate with labelled rows first",
        )
    ids = certificate.roles["dev"] if certificate.path in FITTED_PATHS else ()
    dev = labelled_rows(certificate.task, ids, notes, judged, scorer)
    pilot = [
        item_id for item_id in certificate.roles["pilot"] if all(item_id in own for own in judged.values())
    ]
    return Recorded(certificate, certify, dev, scorer.read(list(judged), pilot, judged) if pilot else None)


def must_be_one_guarantee(config: Config, what: str) -> None:
    """Raise UsageError if each group has its own guarantee, which `what` does not support."""
    by, criteria = config.groups.by, len(config.criteria)
    if criteria:
        share = config.guarantee.delta / criteria
        raise UsageError(
            f"{what} supports one guarantee for all items, and [[criteria]] have one each",
            f"`trustescalate plan --alpha {config.guarantee.alpha:g} --delta {share:.3g}` plans for one of "
            f"{criteria} criteria, with its share of delta",
        )
    if by is not None:
        raise UsageError(
            f"{what} supports one guarantee for all items, and [groups] by = {by!r} asks for one per value",
            "leave it out of a copy of the configuration; `trustescalate plan --alpha … --delta …` plans for "
            "one value, with its share of delta",
        )


def _must_be_counts(config: Config) -> None:
    guarantee = config.guarantee
    for given, name in (
        (guarantee.claim == "expected", '[guarantee] claim = "expected"'),
        (guarantee.reference == "annotator", '[guarantee] reference = "annotator"'),
        (config.task.ties == "half", '[task] ties = "half"'),
        (guarantee.cluster_test == "betting", '[guarantee] cluster_test = "betting"'),
        (guarantee.interim is not None, "[guarantee] interim"),
        (guarantee.release_human_labels, "[guarantee] release_human_labels"),
    ):
        if given:
            raise ConfigError(
                f"{name} is not supported by `plan`, `tune` and the self-test on recorded votes: they draw "
                "single rows, count errors, and test once",
                "leave the key out of a copy of the folder, and use the result as a guide",
            )


def labelled_rows(
    task: Task, rows: Sequence[str], notes: Sequence[Annotation], judged: Judged, scorer: Scorer
) -> Rows | None:
    """Select the rows with human labels and votes of every judge; None without any."""
    wanted = set(rows)
    own_notes = [note for note in notes if note.item_id in wanted]
    truth, known = majority(task, own_notes), losses(task, "majority", own_notes)
    ids = [item_id for item_id in rows if item_id in known and all(item_id in own for own in judged.values())]
    if not ids:
        return None
    labels = [truth.get(item_id) for item_id in ids]
    answers = [-1 if label is None else task.labels.index(label) for label in labels]
    costs = np.array([[own[item_id].cost for own in judged.values()] for item_id in ids])
    votes = scorer.read(list(judged), ids, judged)
    if task.tolerance:
        table = loss_table(task, losses(task, "majority", notes), ids)
        none = np.zeros(len(ids), dtype=np.int64)
        return Rows(votes.scores, right_or_wrong(votes.labels, table), none, costs)
    return Rows(votes.scores, votes.labels, np.array(answers, dtype=np.int64), costs)
