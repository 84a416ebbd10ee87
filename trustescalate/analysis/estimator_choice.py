"""Which way to make scores would have certified most? All of them side by side on recorded votes.

Scores are fitted on dev rows and looked at on certification rows that were tested before: it is for choosing
`[ensemble] estimator` and `recalibrate` for the next labels. No certificate is written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trustescalate.analysis.recorded_votes import SPENT, labelled_rows, must_be_one_promise, read_votes
from trustescalate.calibration.attempts import first_share
from trustescalate.calibration.protocol import FITTED, Judged, Protocol
from trustescalate.calibration.scoring import FEWEST, Scorer, fit_scorer
from trustescalate.config import Config
from trustescalate.errors import NotMeasurable
from trustescalate.project import Project
from trustescalate.records import Annotation, Certificate, Item, TaskKind
from trustescalate.stats.bounds import FloatArray
from trustescalate.stats.compare import EstimatorResult, compare_estimators, trial, wish
from trustescalate.stats.control import Prefer
from trustescalate.stats.fitted import RECALIBRATORS
from trustescalate.stats.paths import PathName, Rows

DEV_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class Way:
    """One way to make scores, as [ensemble] writes it."""

    estimator: str
    recalibrate: str | None = None
    learn_from: str = "people"

    @property
    def name(self) -> str:
        """As it is printed."""
        curve = f" + {self.recalibrate}" if self.recalibrate else ""
        return f"{self.estimator}{curve}{' (dearest)' if self.learn_from == 'dearest' else ''}"

    @property
    def lines(self) -> str:
        """As it is written in a configuration."""
        said = [f'estimator = "{self.estimator}"']
        said += [f'recalibrate = "{self.recalibrate}"'] if self.recalibrate else []
        said += [f'learn_from = "{self.learn_from}"'] if self.learn_from != "people" else []
        return ", ".join(said)


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
    got one. `dev_coverage` is what dev rows said. `stops_early`: whether a run may save votes of some judge.
    """

    name: str
    setting: str
    chosen: bool
    coverage: float
    certified: float
    cost: float
    dev_coverage: float
    stops_early: bool
    judges: tuple[JudgeRow, ...]


@dataclass(frozen=True, slots=True)
class EstimatorTable:
    """All of them: fitted on `dev` rows, which also choose, and held against `rows` others in `draws` draws.

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
            f"{self.dev:,} recorded rows fit scores and choose, {self.rows:,} others stand for all, "
            f"in {self.draws:,} draws (path {self.path}, alpha {self.alpha:g}, delta {self.delta:g}, "
            f"seed {self.seed})",
            f"  {'score':<28} {'released':>9} {'certified':>10} {'USD an item':>12} {'on dev':>8}  "
            "saves votes",
        ]
        for row in self.estimators:
            said.append(
                f"{'>' if row.chosen else ' '} {row.name:<28} {row.coverage:>9.1%} {row.certified:>10.0%} "
                f"{row.cost:>12.6f} {row.dev_coverage:>8.1%}  {'yes' if row.stops_early else 'no'}"
            )
            said += [
                f"      {one.judge:<24} ECE {_decimal(one.ece)}  Brier {_decimal(one.brier)}  "
                f"AUROC {_decimal(one.auroc)}"
                for one in row.judges
            ]
        said += [f"  {name}: the same scores as {other} here" for name, other in self.same.items()]
        (chosen,) = [row.setting for row in self.estimators if row.chosen]
        said.append(f"  > chosen by dev rows: set [ensemble] {chosen}")
        return [*said, f"For choosing before you calibrate: nothing was certified, and {SPENT}."]


def _decimal(value: float | None) -> str:
    return "    —" if value is None else f"{value:.3f}"


def compare_scores(
    project: Project, *, dev_share: float = DEV_SHARE, draws: int = 100, seed: int = 0
) -> EstimatorTable:
    """Every estimator and curve that the recorded votes allow, on the promise of the configuration.

    Dev rows are the recorded ones, or, where none were judged, a seeded share of the certification rows. The
    path is the configuration's where it takes no labels, otherwise `hedged`. Half of the dev rows fit and the
    other half try, both ways round; the most coverage is chosen, or, where an abstention has a price, the
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
        {item.id: item for item in data.items},
        *_split(certificate, judged, data.annotations, dev_share, seed),
    )
    project.read_to_choose("estimators", (*place.dev, *place.certify))
    rows, kept, same = dict[str, Rows](), dict[str, Way](), dict[str, str]()
    for way in place.ways():
        found = place.read(way, place.dev, place.certify)
        twin = next((name for name, known in rows.items() if _equal(known, found)), None)
        if twin is None:
            rows[way.name], kept[way.name] = found, way
        else:
            same[way.name] = twin
    promise = project.config.guarantee
    delta = promise.delta * first_share(promise.attempts)
    tried = {name: place.tried(way) for name, way in kept.items()}
    # Not by cost alone: an estimator that reads few votes is cheap, and cheapest where it certifies nothing.
    prefer: Prefer = "total" if promise.abstention_price else "coverage"
    wishes = {name: wish(*tried[name], prefer, promise.abstention_price or 0.0) for name in kept}
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
        tuple(
            _row(
                kept[one.name],
                one,
                tried[one.name][0],
                one.name == best,
                draws,
                place.names,
                place.scorer(kept[one.name], place.dev),
            )
            for one in results
        ),
        same,
    )


def _row(
    way: Way,
    found: EstimatorResult,
    on_dev: float,
    chosen: bool,
    draws: int,
    names: Sequence[str],
    scorer: Scorer,
) -> EstimatorRow:
    figures = zip(names, found.ece, found.brier, found.auroc, strict=True)
    return EstimatorRow(
        way.name,
        way.lines,
        chosen,
        found.coverage,
        found.certified / draws,
        found.cost,
        on_dev,
        not all(map(scorer.needs_all, names)),
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
    if len(dev) < 2 * FEWEST or len(certify) < 2:
        raise NotMeasurable(
            f"{len(dev)} dev rows and {len(certify)} others are too few to fit scores on and look at them",
            f"label more; {2 * FEWEST} dev rows are the fewest",
        )
    return dev, certify


@dataclass(frozen=True)
class _Place:
    """The recorded votes, and which rows fit."""

    config: Config
    certificate: Certificate
    judged: Judged
    notes: Sequence[Annotation]
    items: Mapping[str, Item]
    dev: Sequence[str]
    certify: Sequence[str]

    @property
    def names(self) -> list[str]:
        return [seal.judge for seal in self.certificate.judges]

    @property
    def path(self) -> PathName:
        return "common" if self.config.guarantee.path == "common" else "hedged"

    def ways(self) -> list[Way]:
        """All that these votes allow; curves on the configured estimator, or on the plain one."""
        votes = [vote for rows in self.judged.values() for row in rows.values() for vote in row.votes]
        stated = all(vote.channel == "stated" for vote in votes if vote.failure is None)
        own = self.config.ensemble.estimator
        plain = "verbalized" if stated else "ensemble" if own in FITTED else own
        found = (
            [Way("verbalized")] if stated else [Way(name) for name in ("ensemble", "predictive", "sampled")]
        )
        found += [Way(plain, curve) for curve in RECALIBRATORS]
        found += [Way("learned"), Way("boosted")]
        if self.certificate.task.kind is TaskKind.RATING:
            found.append(Way("interval"))
        if len(self.names) > 1:
            found += [Way("learned", None, "dearest"), Way("boosted", None, "dearest")]
        return found

    def scorer(self, way: Way, fitted_on: Sequence[str]) -> Scorer:
        """Scores as calibration would fit them on these rows."""
        promise, certificate = self.config.guarantee, self.certificate
        pilot = certificate.roles["pilot"]
        protocol = Protocol(
            task=certificate.task,
            alpha=promise.alpha,
            delta=promise.delta,
            claim="population",
            path=self.path,
            procedure=promise.procedure,
            prefer=promise.prefer,
            abstention_price=promise.abstention_price,
            estimator=way.estimator,
            judges=tuple((seal.judge, seal.fingerprint) for seal in certificate.judges),
            roles={"dev": tuple(fitted_on), "pilot": pilot},
            grouped=False,
            seed=certificate.seed,
            version=certificate.version,
            recalibrate=way.recalibrate,  # type: ignore[arg-type]
            learn_from=way.learn_from,  # type: ignore[arg-type]
        )
        return fit_scorer(protocol, self.notes, self.judged, self.items)

    def read(self, way: Way, fitted_on: Sequence[str], ids: Sequence[str]) -> Rows:
        """Scores of some rows, fitted on others."""
        scorer = self.scorer(way, fitted_on)
        found = labelled_rows(self.certificate.task, ids, self.notes, self.judged, scorer)
        assert found is not None, "only labelled rows are asked for"
        return found if way.estimator != "predictive" else found._replace(costs=self._first(ids))

    def _first(self, ids: Sequence[str]) -> FloatArray:
        """USD of the votes of the first prompt."""
        return np.array(
            [
                [
                    sum(v.cost for v in own[i].votes if v.exemplar_set == own[i].votes[0].exemplar_set)
                    for own in self.judged.values()
                ]
                for i in ids
            ],
            dtype=float,
        )

    def tried(self, way: Way) -> tuple[float, float]:
        """Mean coverage and cost on halves of the dev rows that the scores had not seen."""
        halves = self.dev[::2], self.dev[1::2]
        promise = self.config.guarantee
        seen = []
        for fitting, testing in (halves, halves[::-1]):
            pilot = self.scorer(way, fitting).read(self.names, self._pilot, self.judged)
            seen.append(
                trial(
                    self.read(way, fitting, testing),
                    pilot if self._pilot else None,
                    self.path,
                    len(self.certificate.task.labels),
                    alpha=promise.alpha,
                    prefer=promise.prefer,
                    abstention_price=promise.abstention_price,
                )
            )
        coverage, cost = np.mean(seen, axis=0)
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
