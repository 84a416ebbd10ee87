"""Limit the mean label of given items, and the change of that mean between two systems on the same items.

Two bases. Verdicts: a certified run releases verdicts of which few are wrong, by a limit on their losses that
holds for these items (`this_run`); abstained items may have any label. Labels: people labelled a random part
of the items themselves, and predictions for the others lower the variance (`inference`). Neither says
anything of other items, unless the target is the population.
"""

from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from scipy.special import chdtrc, ndtri

from trustescalate.stats.batch import batch_errors_upper
from trustescalate.stats.bounds import BoolArray, CodeArray, FloatArray, IntArray
from trustescalate.stats.inference import MIN_LABELS, Survey, Target, coarse_strata, influence, ppi_mean

SampleBasis: TypeAlias = Literal["all labelled", "predictions", "exact", "betting", "student"]
FIRST = 20
"""From so many independent labelled items on, limits from labels are read first."""
PART = 1 << 16
"""Items that are counted together."""
ONE_SHARE = 0.1
"""From this p-value on, items in clusters of all sizes count as labelled alike."""


class Verdicts(NamedTuple):
    """The labels that N items of K kinds may have; `kind` (N,) is the place of an item's kind in the others.

    `low` to `high` (K,) is where the label of an item lies if its verdict is right: a label that is known,
    twice; the ends of the scale without a verdict. `fall` and `rise` (K,): how far beyond it lies at most if
    the verdict is wrong. `losses` limits the sum of what all these verdicts lose; each loses at most 1, and
    moves by its whole fall or rise for that. With `per_loss` a loss of 1 moves by `per_loss`, and a verdict
    may lose less: ties that count one half.
    """

    kind: CodeArray
    low: FloatArray
    high: FloatArray
    fall: FloatArray
    rise: FloatArray
    losses: float
    per_loss: float | None = None

    def of(self, rows: BoolArray | IntArray) -> "Verdicts":
        """Take these items; all losses may be theirs."""
        return self._replace(kind=self.kind[rows])

    def sizes(self) -> IntArray:
        """How many items (K,) are of each kind."""
        counts = np.zeros(len(self.low), np.int64)
        for start in range(0, len(self.kind), PART):  # bincount makes a copy of what it counts
            counts += np.bincount(self.kind[start : start + PART], minlength=len(counts))
        return counts


def items_limits(verdicts: Verdicts) -> tuple[float, float]:
    """Limits on the mean label of N items; certain if the losses are at most `verdicts.losses`.

    Raises ValueError for no items. Source: worst-case bounds, Manski 1990, with a number of errors.

    >>> won, lost, unknown = (1.0, 1.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0), (0.0, 1.0, 0.0, 0.0)
    >>> kinds = np.array([won, lost, unknown]).T
    >>> items_limits(Verdicts(np.array([0, 0, 1, 2]), *kinds, losses=1))
    (0.25, 1.0)
    """
    if not len(verdicts.kind):
        raise ValueError("there are no items")
    return _lowest(verdicts) / len(verdicts.kind), _highest(verdicts) / len(verdicts.kind)


def change_limits(after: Verdicts, before: Verdicts, same: BoolArray) -> tuple[float, float]:
    """Limits on the mean label of N items in `after` minus that in `before`, in one order; as `items_limits`.

    `same` (N,): items whose change is 0, since there is nothing that differs. Raises ValueError for no items.

    >>> one, zero = np.ones(1), np.zeros(1)
    >>> both = Verdicts(np.zeros(10, int), one, one, one, zero, losses=1)
    >>> change_limits(both, both, np.arange(10) < 4)
    (-0.1, 0.1)
    """
    if not len(same):
        raise ValueError("there are no items")
    now, then = after.of(~same), before.of(~same)
    low, high = _lowest(now) - _highest(then), _highest(now) - _lowest(then)
    return low / len(same), high / len(same)


class Sampled(NamedTuple):
    """A mean with its limits. `residual` and `spread` are the variances of one label, with predictions and
    without, and `reason` is why predictions are not used."""

    estimate: float
    low: float
    high: float
    basis: SampleBasis
    residual: float
    spread: float
    reason: str = ""


def sampled_limits(
    survey: Survey, delta: float, *, target: Target = "batch", known: FloatArray | None = None
) -> Sampled:
    """Limits on the mean label of the items of a survey and of others with labels `known` (k,) for sure.

    `survey.ends` must be set. The labelled are a uniform draw of the survey's items; `known` are not, and are
    left out for target "population". Limits from predictions where the labels carry them
    (`inference.too_few`), else from labels alone: hypergeometric for a batch with labels at the ends, drawn
    without clusters, else those of `ppi_mean`. A batch of which every item is labelled has one mean, and no
    doubt. Raises ValueError as `ppi_mean` does.

    >>> right = np.tile([1.0, 1.0, 1.0, 0.0], 25)
    >>> survey = Survey(np.zeros(200), np.arange(100), right, ends=(0.0, 1.0))
    >>> sampled = sampled_limits(survey, 0.05)
    >>> sampled.estimate, round(sampled.low, 3), round(sampled.high, 3), sampled.basis
    (0.75, 0.685, 0.805, 'exact')
    >>> whole = sampled_limits(survey._replace(labelled=np.arange(200), label=np.tile(right, 2)), 0.05)
    >>> whole.low, whole.high, whole.basis
    (0.75, 0.75, 'all labelled')
    """
    if survey.ends is None:
        raise ValueError("the ends of the scale are missing")
    size, count = len(survey.prediction), len(survey.label)
    sure = np.zeros(0) if known is None or target == "population" else known
    low, high = survey.ends
    if target == "batch" and count == size:
        exact = float((survey.label.sum() + sure.sum()) / (size + len(sure)))
        return Sampled(exact, exact, exact, "all labelled", 0.0, 0.0)
    mean = ppi_mean(survey, delta, target=target)
    limits, estimate, reason = (mean.low, mean.high), mean.estimate, mean.reason
    basis: SampleBasis = "predictions"
    if not mean.usable or mean.power == 0:
        if not reason and np.ptp(survey.prediction) > 0:
            reason = "predictions are not related to the labels"
        limits, basis = mean.label_only, mean.label_basis
        estimate = influence(survey, np.zeros(count), target)[0]
        if target == "batch" and survey.cluster is None and np.isin(survey.label, survey.ends).all():
            limits, basis = _hypergeometric(survey, delta), "exact"
    if target == "batch":
        # The labels that are known are a part of this mean, whatever the others are.
        total, rest = float(survey.label.sum()), size - count
        limits = (
            max(limits[0], (total + rest * low) / size),
            min(limits[1], (total + rest * high) / size),
        )
    residual = mean.standard_error**2 * count / (1 - count / size if target == "batch" else 1)
    estimate, *ends = (min(max(each, low), high) for each in (estimate, *limits))
    share, extra = size / (size + len(sure)), float(sure.sum()) / (size + len(sure))
    estimate, *ends = (each * share + extra for each in (estimate, *ends))
    return Sampled(estimate, ends[0], ends[1], basis, residual, float(survey.label.var(ddof=1)), reason)


def labels_needed(
    gap: float,
    sampled: Sampled,
    labels: int,
    items: int,
    delta: float,
    target: Target = "batch",
    *,
    reach: float | None = None,
) -> tuple[int | None, Literal["human labels", "items"]]:
    """About how many more labels, or items, put limits of a mean on one side of a value `gap` away from it.

    `sampled` holds the variances of one label, `labels` of `items` are there. A normal approximation; from
    fewer than 100 labels predictions are not used, and fewer than 20 are not read first. With 100 or more of
    which few differ it is the `reach` of the present limits that shrinks. A label of every item decides about
    a batch. For a population it may not: then items are needed; None without a gap.
    Source: sample sizes with the finite population correction, Cochran 1977, chapter 4.

    >>> sampled = Sampled(0.7, 0.4, 1.0, "exact", residual=0.1, spread=0.21)
    >>> labels_needed(0.03, sampled, 30, 2000, 0.05), labels_needed(0.0, sampled, 30, 2000, 0.05)
    ((322, 'human labels'), (1970, 'human labels'))
    >>> labels_needed(0.005, sampled, 30, 2000, 0.05, "population")
    (30269, 'items')
    """
    rare = sampled.basis in ("exact", "betting") and labels >= MIN_LABELS
    allowed = (gap / float(ndtri(1 - delta / 2))) ** 2
    rest = 1 / items if target == "batch" else 0.0
    explained, whole = max(0.0, sampled.spread - sampled.residual), max(sampled.spread, sampled.residual)
    if target == "population":
        if allowed == 0:
            return None, "items"
        if whole > allowed * items:
            return max(1, int(np.ceil(whole / allowed)) - items), "items"
        allowed = max(allowed - explained / items, 1e-12)
    if rare and reach:
        wanted = 1 / ((gap / reach) ** 2 * (1 / labels - rest) + rest) if gap > 0 or rest else items
    else:
        wanted, alone = (1 / (allowed / max(each, 1e-12) + rest) for each in (sampled.residual, whole))
        if wanted < MIN_LABELS:
            wanted = min(alone, MIN_LABELS)
    total = min(items, max(FIRST, int(np.ceil(wanted - 1e-9))))
    return min(items - labels, max(1, total - labels)), "human labels"


def _hypergeometric(survey: Survey, delta: float) -> tuple[float, float]:
    """Limits on the mean of a finite population with labels at two ends, by inverting the exact tests."""
    assert survey.ends is not None
    size, count = len(survey.prediction), len(survey.label)
    low, high = survey.ends
    top = int((survey.label == high).sum())
    most = int(batch_errors_upper(top, count, size, delta / 2))
    least = size - int(batch_errors_upper(count - top, count, size, delta / 2))
    return tuple(low + (high - low) * each / size for each in (least, most))  # type: ignore[return-value]


def _lowest(verdicts: Verdicts) -> float:
    count = verdicts.sizes()
    return float(count @ verdicts.low) - _farthest(verdicts.fall, count, verdicts)


def _highest(verdicts: Verdicts) -> float:
    count = verdicts.sizes()
    return float(count @ verdicts.high) + _farthest(verdicts.rise, count, verdicts)


def _farthest(moves: FloatArray, count: IntArray, verdicts: Verdicts) -> float:
    """The largest sum of moves (K,), of so many items each, that the losses allow."""
    if verdicts.per_loss is not None:
        return min(float(count @ moves), verdicts.losses * verdicts.per_loss)
    order = np.argsort(moves)[::-1]
    moves, count = moves[order], count[order]
    before = np.cumsum(count) - count
    return float(np.clip(verdicts.losses - before, 0, count) @ moves)


def all_differ(codes: CodeArray) -> bool:
    """Whether no two of these numbers (n,) are equal; they are not negative.

    >>> all_differ(np.array([0, 2, 1])), all_differ(np.array([0, 0, 2]))
    (True, False)
    """
    seen = np.zeros(int(codes.max(initial=-1)) + 1, np.bool_)
    for start in range(0, len(codes), PART):
        seen[codes[start : start + PART]] = True
    return int(np.count_nonzero(seen)) == len(codes)


def strata_of_sizes(size: IntArray, labelled: IntArray, unit: CodeArray, *, fewest: int) -> IntArray | None:
    """Strata of clusters by their `size` where an item of some sizes was likelier to be labelled than others.

    `size` and `unit` are of all items, shape (n,); `labelled` are the places of those with a label. Where
    the labelled shares of all sizes could be one (a chi-squared test of counts), none: each stratum needs
    `fewest` labels of its own, which predictions cannot be used without.

    >>> size, unit = np.repeat([1, 4], [60, 240]), np.r_[np.arange(60), 60 + np.repeat(np.arange(60), 4)]
    >>> strata_of_sizes(size, np.arange(0, 300, 3), unit, fewest=20) is None
    True
    >>> strata = strata_of_sizes(size, np.r_[np.arange(50), np.arange(60, 300, 6)], unit, fewest=20)
    >>> np.bincount(strata).tolist()
    [60, 240]
    """
    place = np.unique(size, return_inverse=True)[1]
    items, counts = np.bincount(place), np.bincount(place[labelled], minlength=int(place.max()) + 1)
    share = len(labelled) / len(size)
    spread = np.sum((counts - items * share) ** 2 / (items * share * (1 - share))) if share < 1 else 0.0
    if chdtrc(len(items) - 1, spread) >= ONE_SHARE:
        return None
    return coarse_strata(size, labelled, unit, fewest=fewest)
