"""The votes that a certificate rests on, read again as arrays: for planning, comparing and rehearsing.

Nothing here certifies. These labels were tested once; a second certificate from them would break its promise.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trustescalate.config import FITTED_PATHS
from trustescalate.dataset import load_dataset
from trustescalate.errors import NotMeasurable, UsageError
from trustescalate.judges.replay import load_votes
from trustescalate.labels import majority
from trustescalate.project import CERTIFICATE_VOTES, Project
from trustescalate.stats.bounds import FloatArray, IntArray
from trustescalate.stats.paths import PATHS, Basis, PathName, Plan, Rows, Votes
from trustescalate.types import Annotation, Certificate, Judgment
from trustescalate.votes import confidence

SPENT = "labels that were used for planning must not certify again: calibrate with fresh ones"


@dataclass(frozen=True, slots=True)
class Recorded:
    """Certification rows (n, m) with labels, dev rows where they were judged, and unlabelled pilot votes."""

    certificate: Certificate
    certify: Rows
    dev: Rows | None
    pilot: Votes | None

    @property
    def classes(self) -> int:
        """How many labels a judge may give."""
        return len(self.certificate.task.labels)

    def plan(self, path: PathName) -> Plan:
        """Lay a path out as calibration does. Raises NotMeasurable for a fitted one without dev rows."""
        if PATHS[path].needs_dev and self.dev is None:
            raise NotMeasurable(
                f"path {path!r} is fitted on dev rows, and none were recorded",
                "set [roles] dev and calibrate, or choose another [guarantee] path",
            )
        return PATHS[path].build(Basis(self.dev, self.pilot, self.certify.scores.shape[1], self.classes))


def read_recorded(project: Project) -> Recorded:
    """The votes beside the certificate, or beside the refusal, with what people say of those items now.

    Raises NoCertificate where there is neither, NotMeasurable without votes or labelled rows, DataError.
    """
    certificate = project.certificate()
    path = project.config.folder / CERTIFICATE_VOTES
    if not path.exists():
        raise NotMeasurable(
            f"{path}: there are no recorded votes", "`trustescalate calibrate` records them; keep the file"
        )
    notes = load_dataset(project.config).annotations
    judged = {
        seal.judge: {row.item_id: row for row in load_votes(path, certificate.task, seal.judge)}
        for seal in certificate.judges
    }
    certify = _rows(certificate, "certify", notes, judged)
    if certify is None:
        raise NotMeasurable(
            f"{path}: no certification row has both votes and a label", "calibrate with labelled rows first"
        )
    fitted = certificate.path in FITTED_PATHS
    dev = _rows(certificate, "dev", notes, judged) if fitted else None
    pilot = [
        item_id for item_id in certificate.roles["pilot"] if all(item_id in own for own in judged.values())
    ]
    return Recorded(certificate, certify, dev, _votes(certificate, pilot, judged) if pilot else None)


def must_be_one_promise(project: Project, what: str) -> None:
    """Raise UsageError where each value of a field has a promise of its own: `what` has none for that."""
    by = project.config.groups.by
    if by is not None:
        raise UsageError(
            f"{what} knows one promise for all items, and [groups] by = {by!r} asks for one for each value",
            "leave it out of a copy of the configuration; `trustescalate plan --alpha … --delta …` says what "
            "one value needs, with its share of delta",
        )


Judged = Mapping[str, Mapping[str, Judgment]]


def _rows(certificate: Certificate, role: str, notes: tuple[Annotation, ...], judged: Judged) -> Rows | None:
    """Labelled rows of a role, in the certificate's order; None where there are none."""
    wanted = set(certificate.roles[role])
    truth = majority(certificate.task, [note for note in notes if note.item_id in wanted])
    ids = [
        item_id
        for item_id in certificate.roles[role]
        if item_id in truth and all(item_id in own for own in judged.values())
    ]
    if not ids:
        return None
    said = [truth[item_id] for item_id in ids]
    answers = [-1 if label is None else certificate.task.labels.index(label) for label in said]
    costs = np.array([[own[item_id].cost for own in judged.values()] for item_id in ids])
    votes = _votes(certificate, ids, judged)
    return Rows(votes.scores, votes.labels, np.array(answers, dtype=np.int64), costs)


def _votes(certificate: Certificate, ids: list[str], judged: Judged) -> Votes:
    scores: list[FloatArray] = []
    labels: list[IntArray] = []
    for own in judged.values():
        read = confidence(certificate.task, certificate.estimator, [own[item_id] for item_id in ids])
        scores.append(read.score)
        labels.append(read.label)
    return Votes(np.column_stack(scores), np.column_stack(labels))
