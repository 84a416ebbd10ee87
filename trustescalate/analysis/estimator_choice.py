"""Which way to make scores would have certified most? All of them side by side on recorded votes.

They are looked at on certification rows that were tested before: it is for choosing `[ensemble] estimator`
for the next labels. No certificate is written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trustescalate.analysis.recorded_votes import SPENT, labelled_rows, must_be_one_promise, read_votes
from trustescalate.calibration.attempts import first_share
from trustescalate.calibration.protocol import Judged
from trustescalate.calibration.scoring import Scorer
from trustescalate.config import Config
from trustescalate.errors import NotMeasurable
from trustescalate.project import Project
from trustescalate.records import Annotation, Certificate
from trustescalate.stats.compare import EstimatorResult, compare_estimators, trial, wish
from trustescalate.stats.control import Prefer
from trustescalate.stats.paths import PathName
from trustescalate.stats.pooling import Rows

DEV_SHARE = 0.3
FEWEST = 20
"""Dev rows, to choose by."""


@dataclass(frozen=True, slots=True)
class JudgeRow:
    """How honest one judge's scores are on the certification rows; None where that is not defined."""

    judge: str
    ece: float | None
    brier: float | None
    auroc: float | None


@dataclass(frozen=True, slots=True)
class EstimatorRow:
    """One way to make scores. `coverage` and `cost` (USD an item, all votes asked) are means over draws.

    A draw without a certificate covers nothing and costs every judge; `certified` is the share of draws that
    got one. `dev_coverage` is what dev rows said.
    """

    name: str
    chosen: bool
    coverage: float
    certified: float
    cost: float
    dev_coverage: float
    judges: tuple[JudgeRow, ...]


@dataclass(frozen=True, slots=True)
class EstimatorTable:
    """All of them: `dev` rows choose, and `rows` others hold them against each other in `draws` draws.

    `same` names those that give the same scores as another here, and are left out.
    """

    alpha: float
    delta: float
    path: str
    dev: int
    rows: int
    draws: int
    seed: int
    estimators: tuple[EstimatorRow, ...]
    same: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {**asdict(self), "warning": SPENT}

    def lines(self) -> list[str]:
        """For a terminal."""
        said = [
            f"{self.dev:,} recorded rows choose, {self.rows:,} others stand for all, "
            f"in {self.draws:,} draws (path {self.path}, alpha {self.alpha:g}, delta {self.delta:g}, "
            f"seed {self.seed})",
            f"  {'score':<28} {'released':>9} {'certified':>10} {'USD an item':>12} {'on dev':>8}",
        ]
        for row in self.estimators:
            said.append(
                f"{'>' if row.chosen else ' '} {row.name:<28} {row.coverage:>9.1%} {row.certified:>10.0%} "
                f"{row.cost:>12.6f} {row.dev_coverage:>8.1%}"
            )
            said += [
                f"      {one.judge:<24} ECE {_decimal(one.ece)}  Brier {_decimal(one.brier)}  "
                f"AUROC {_decimal(one.auroc)}"
                for one in row.judges
            ]
        said += [f"  {name}: the same scores as {other} here" for name, other in self.same.items()]
        (chosen,) = [row.name for row in self.estimators if row.chosen]
        said.append(f"  > chosen by dev rows: set [ensemble] estimator = {chosen!r}")
        return [*said, f"For choosing before you calibrate: nothing was certified, and {SPENT}."]


def _decimal(value: float | None) -> str:
    return "    —" if value is None else f"{value:.3f}"


def compare_scores(
    project: Project, *, dev_share: float = DEV_SHARE, draws: int = 100, seed: int = 0
) -> EstimatorTable:
    """Every estimator that the recorded votes allow, on the promise of the configuration.

    Dev rows are the recorded ones, or, where none were judged, a seeded share of the certification rows. The
    path is the configuration's where it takes no labels, otherwise `hedged`. Both halves of the dev rows try;
    the most coverage is chosen, or, where an abstention has a price, the
    least cost with it. Each draw spends what a first test of fresh labels may. The ledger notes that these
    labels were read to choose by. Raises what `read_votes`, `must_be_one_promise` and
    `Project.read_to_choose` raise, NotMeasurable where there are too few rows, ValueError unless
    0 < dev_share < 1 and draws > 0.
    """
    if not (0 < dev_share < 1 and draws > 0):
        raise ValueError(
            f"dev_share must lie strictly between 0 and 1, and draws above 0: {dev_share}, {draws}"
        )
    must_be_one_promise(project, "`estimators`")
    certificate, data, judged = read_votes(project)
    place = _Place(
        project.config,
        certificate,
        judged,
        data.annotations,
        *_split(certificate, judged, data.annotations, dev_share, seed),
    )
    project.read_to_choose("estimators", (*place.dev, *place.certify))
    rows, same = dict[str, Rows](), dict[str, str]()
    for name in place.estimators():
        found = place.read(name, place.certify)
        twin = next((other for other, known in rows.items() if _equal(known, found)), None)
        if twin is None:
            rows[name] = found
        else:
            same[name] = twin
    promise = project.config.guarantee
    delta = promise.delta * first_share(promise.attempts)
    tried = {name: place.tried(name) for name in rows}
    # Not by cost alone: an estimator that reads few votes is cheap, and cheapest where it certifies nothing.
    prefer: Prefer = "total" if promise.abstention_price else "coverage"
    wishes = {name: wish(*tried[name], prefer, promise.abstention_price or 0.0) for name in rows}
    best = min(wishes, key=lambda name: wishes[name])
    results = compare_estimators(
        {name: found.votes for name, found in rows.items()},
        next(iter(rows.values())).truth,
        {name: found.costs for name, found in rows.items()},
        alpha=promise.alpha,
        delta=delta,
        n=len(place.certify),
        draws=draws,
        rng=np.random.default_rng(seed),
        path=place.path,
        classes=len(certificate.task.labels),
        pilot=max(1, promise.pilot),
    )
    return EstimatorTable(
        promise.alpha,
        delta,
        place.path,
        len(place.dev),
        len(next(iter(rows.values())).truth),
        draws,
        seed,
        tuple(_row(one, tried[one.name][0], one.name == best, draws, place.names) for one in results),
        same,
    )


def _row(
    found: EstimatorResult, on_dev: float, chosen: bool, draws: int, names: Sequence[str]
) -> EstimatorRow:
    figures = zip(names, found.ece, found.brier, found.auroc, strict=True)
    return EstimatorRow(
        found.name,
        chosen,
        found.coverage,
        found.certified / draws,
        found.cost,
        on_dev,
        tuple(JudgeRow(*row) for row in figures),
    )


def _split(
    certificate: Certificate, judged: Judged, notes: Sequence[Annotation], dev_share: float, seed: int
) -> tuple[Sequence[str], Sequence[str]]:
    """Ids of dev rows and of the others, all labelled and judged by everybody."""
    stated = {note.item_id for note in notes if note.label in certificate.task.labels}

    def usable(role: str) -> list[str]:
        ids = certificate.roles[role]
        return [i for i in ids if i in stated and all(i in own for own in judged.values())]

    dev, certify = usable("dev"), usable("certify")
    if not dev:
        order = [certify[place] for place in np.random.default_rng(seed).permutation(len(certify))]
        size = round(dev_share * len(order))
        dev, certify = order[:size], order[size:]
    if len(dev) < FEWEST or len(certify) < 2:
        raise NotMeasurable(
            f"{len(dev)} dev rows and {len(certify)} others are too few to choose and to look at",
            f"label more; {FEWEST} dev rows are the fewest",
        )
    return dev, certify


@dataclass(frozen=True)
class _Place:
    """The recorded votes, and which rows choose."""

    config: Config
    certificate: Certificate
    judged: Judged
    notes: Sequence[Annotation]
    dev: Sequence[str]
    certify: Sequence[str]

    @property
    def names(self) -> list[str]:
        return [seal.judge for seal in self.certificate.judges]

    @property
    def path(self) -> PathName:
        return "common" if self.config.guarantee.path == "common" else "hedged"

    def estimators(self) -> list[str]:
        """All that these votes allow."""
        votes = [vote for rows in self.judged.values() for row in rows.values() for vote in row.votes]
        stated = all(vote.channel == "stated" for vote in votes if vote.failure is None)
        return ["verbalized"] if stated else ["ensemble", "sampled"]

    def scorer(self, estimator: str) -> Scorer:
        """Scores as calibration would make them."""
        return Scorer(self.certificate.task, estimator, self.certificate.seed)

    def read(self, estimator: str, ids: Sequence[str]) -> Rows:
        """Scores of some rows."""
        scorer = self.scorer(estimator)
        found = labelled_rows(self.certificate.task, ids, self.notes, self.judged, scorer)
        assert found is not None, "only labelled rows are asked for"
        return found

    def tried(self, estimator: str) -> tuple[float, float]:
        """Mean coverage and cost on halves of the dev rows."""
        promise = self.config.guarantee
        pilot = self.scorer(estimator).read(self.names, self._pilot, self.judged)
        coverage, cost = np.mean(
            [
                trial(
                    self.read(estimator, half),
                    pilot if self._pilot else None,
                    self.path,
                    len(self.certificate.task.labels),
                    alpha=promise.alpha,
                    prefer=promise.prefer,
                    abstention_price=promise.abstention_price,
                )
                for half in (self.dev[::2], self.dev[1::2])
            ],
            axis=0,
        )
        return float(coverage), float(cost)

    @property
    def _pilot(self) -> list[str]:
        dev = set(self.dev)
        return [
            i
            for i in self.certificate.roles["pilot"]
            if i not in dev and all(i in own for own in self.judged.values())
        ]


def _equal(one: Rows, other: Rows) -> bool:
    return np.array_equal(one.scores, other.scores) and np.array_equal(one.labels, other.labels)
