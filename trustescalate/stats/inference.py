"""Estimate the mean over *all* items by prediction-powered inference: win rate, pass rate, mean rating.

The judges' predictions for all N items lower the variance, the n labels remove the bias (PPI++). Accepted
verdicts alone are biased, since easy items are accepted first; `verdict_bounds` limits the mean by them.
Intervals from predictions are asymptotic: each result says whether its labels, and the judges' errors on
them, are enough for that, and comes with an interval from labels alone (`intervals`).
"""

from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from scipy.special import stdtrit

from trustescalate.stats.bounds import (
    CodeArray,
    FloatArray,
    IntArray,
    clopper_pearson_lower,
    clopper_pearson_upper,
)
from trustescalate.stats.intervals import (
    Basis,
    Limits,
    betting_interval,
    effective_number,
    enough,
    mean_interval,
)

Target: TypeAlias = Literal["population", "batch"]

MIN_LABELS = 100
MIN_RARE = 10
MIN_CLUSTERS = 40

ROUNDING = 1e-12
"""A variance below this share of the squared mean is a constant's rounding errors."""


class Survey(NamedTuple):
    """Predictions for all items, and labels of those that annotators labelled.

    `prediction` (N,): the mean label that the judges expect, on the scale of the labels; abstained items too.
    `labelled` (n,): their places among the N, each once, drawn uniformly; `label` (n,): 0 or 1, ratings, any
    number. `stratum` (N,): labels were drawn uniformly in each stratum, at a rate of its own. `cluster` (N,):
    items with one value (a prompt, a document) are clustered; a label of one says something of the others.
    `ends`: the least and the largest label that there can be; (0, 1) where it is None and labels lie there.
    """

    prediction: FloatArray
    labelled: IntArray
    label: FloatArray
    stratum: IntArray | None = None
    cluster: CodeArray | None = None
    ends: tuple[float, float] | None = None


class Mean(NamedTuple):
    """`estimate`, its two-sided interval from `low` to `high`, and what it rests on.

    `power` is the weight that predictions got (0: labels alone). `label_only` is the interval without them,
    and `label_basis` says of which kind: Clopper-Pearson for labels of 0 and 1 drawn uniformly and without
    clusters, else Student's or, where few labels carry the variance, an exact one by betting. It is infinite
    where the scale of the labels is unknown. Where `usable` is False, `reason` says why the asymptotic
    interval may not be shown as one; then `label_only` is to be read: `too_few`.
    """

    estimate: float
    low: float
    high: float
    standard_error: float
    power: float
    items: int
    labels: int
    label_only: tuple[float, float]
    usable: bool
    reason: str
    label_basis: Basis = "exact"


def ppi_mean(
    survey: Survey,
    delta: float,
    *,
    target: Target = "population",
    power: float | None = None,
) -> Mean:
    """The mean label over all items: mean of power * prediction, corrected by the labelled rows' residuals.

    `target` "population": of what the items are a sample of; with `cluster`, of clusters. "batch": of these N
    items themselves, by the variance of the draw alone (design-based); then clusters are what was drawn.
    `power` None minimises the variance in closed form, and is never below 0. It is fitted on the labels that
    it then serves, a bias of order 1/n. Student's t with (labelled clusters - strata) degrees of freedom.
    `low` to `high` where `usable`, else `label_only`, was measured to miss no oftener than 1.5 delta at
    delta = 0.05, judges that err one way only included: docs/intervals.md has the table.
    Raises ValueError for shapes that differ, places out of range or doubled, numbers that are not finite, a
    stratum with fewer than 2 labelled clusters, or delta outside (0, 1).
    Angelopoulos, Duchi and Zrnic, arXiv 2311.01453, section 4 (their lambda is power * (1 - n / N)).

    >>> rng = np.random.default_rng(0)
    >>> p = rng.random(5000)
    >>> wins = (rng.random(5000) < p).astype(float)
    >>> found = ppi_mean(Survey(p, np.arange(300), wins[:300]), delta=0.1)
    >>> round(found.estimate, 3), round(found.low, 3), round(found.high, 3), found.usable
    (0.488, 0.448, 0.527, True)
    >>> [round(limit, 3) for limit in found.label_only]
    [0.481, 0.579]
    """
    check_survey(survey)
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, not {delta}")
    if target not in get_args(Target):
        raise ValueError(f"target must be one of {', '.join(get_args(Target))}, not {target!r}")
    powers = np.full(len(survey.label), tuned_power(survey) if power is None else power)
    estimate, parts = influence(survey, powers, target)
    error = float(np.sqrt(parts @ parts))
    reach = error * t_quantile(survey, delta)
    reason = too_few(survey)
    alone = _label_only(survey, delta, target)
    return Mean(
        estimate,
        estimate - reach,
        estimate + reach,
        error,
        float(powers.mean()),
        len(survey.prediction),
        len(survey.label),
        (alone.low, alone.high),
        not reason,
        reason,
        alone.basis,
    )


def verdict_bounds(
    wins: int, accepted: int, items: int, alpha: float, delta: float | None = None
) -> tuple[float, float]:
    """Limits on P(A wins) from verdicts alone, where the released ones err on a share of at most alpha.

    `wins` of `accepted` released verdicts, on `items` judged, say A; no label is used. With delta None they
    hold for these items, whenever the certificate holds for them; else for the population that the items
    are drawn from independently, except with probability delta beyond the certificate's own. Wide where
    coverage is low: abstained items may all go either way. Raises ValueError for counts out of order or
    rates outside (0, 1).
    Source: worst-case bounds, Manski 1990.

    >>> [round(limit, 3) for limit in verdict_bounds(600, 900, 1000, alpha=0.05)]
    [0.555, 0.745]
    """
    if not 0 <= wins <= accepted <= items or items == 0:
        raise ValueError(f"wins {wins}, accepted {accepted} and items {items} are out of order")
    if not (0 < alpha < 1 and (delta is None or 0 < delta < 1)):
        raise ValueError(f"alpha and delta must lie strictly between 0 and 1, not {alpha} and {delta}")
    counts = np.array([wins, accepted - wins])
    if delta is None:
        least = most = counts / items
    else:
        least, most = (
            limit(counts, items, delta / 4) for limit in (clopper_pearson_lower, clopper_pearson_upper)
        )
    low, high = (1 - alpha) * least[0] - alpha * most[1], 1 - (1 - alpha) * least[1] + alpha * most[0]
    return max(0.0, float(low)), min(1.0, float(high))


def influence(survey: Survey, powers: FloatArray, target: Target) -> tuple[float, FloatArray]:
    """The estimate, and what each cluster adds to its error (without clusters: each item).

    The squares sum to the variance; products of two models' parts sum to their covariance. `powers` (n,) is
    the weight of the prediction at each label. Arguments are taken as checked.
    Source: the parts of the variance of PPI++, arXiv 2311.01453.

    >>> survey = Survey(np.zeros(9), np.arange(4), np.array([0.0, 1.0, 1.0, 0.0]))
    >>> estimate, parts = influence(survey, np.zeros(4), "population")
    >>> estimate, round(float(parts @ parts), 4)
    (0.5, 0.0833)
    """
    size, means = len(survey.prediction), []
    parts = np.zeros(size)
    for members, mine in _strata(survey):
        f, rows, y, own = survey.prediction[members], survey.labelled[mine], survey.label[mine], powers[mine]
        rest = len(f) - len(rows)
        if target == "population":
            own = own * (rest / len(f))
        at_labels = survey.prediction[rows]
        residual = y - own * at_labels
        total = f.sum()
        over = total / len(f) if target == "batch" else (total - at_labels.sum()) / max(1, rest)
        mean = residual.mean() + own.mean() * over
        share, spread = len(f) / size, np.sqrt(1 + 1 / (_units(survey, rows) - 1))
        if target == "population":
            parts[members] = f
            parts[members] -= over
            parts[members] *= own.mean() / max(1, rest) * share * spread
            thin = 1.0
        else:
            thin = np.sqrt(rest / len(f))
        parts[rows] = (residual - residual.mean()) * (share * spread * thin / len(rows))
        means.append((members, mean, share))
    estimate = float(sum(mean * share for _, mean, share in means))
    if target == "population" and len(means) > 1:
        for members, mean, _ in means:
            parts[members] += (mean - estimate) / size
    if survey.cluster is not None:
        cluster = np.unique(survey.cluster, return_inverse=True)[1]
        return estimate, np.asarray(np.bincount(cluster, parts), dtype=np.float64)
    return estimate, parts


def tuned_power(survey: Survey, rows: IntArray | None = None) -> float:
    """The power of least variance, from all labels or from those at places `rows` among them; at least 0.

    Covariance of label and prediction over variance of the prediction, pooled over strata as their variances
    enter. 0 where the prediction is constant. Arguments are taken as checked.
    Source: the tuning parameter of PPI++, Angelopoulos et al. 2023, arXiv 2311.01453.

    >>> p = np.tile([0.2, 0.8], 50)
    >>> round(tuned_power(Survey(p, np.arange(4), np.array([0.0, 1.0, 1.0, 1.0]))), 3)
    0.825
    """
    top = bottom = 0.0
    for members, mine in _strata(survey):
        kept = mine if rows is None else np.intersect1d(mine, rows)
        f = survey.prediction[members]
        if len(kept) < 2:
            continue
        weight = (len(f) / len(survey.prediction)) ** 2 * (1 - len(mine) / len(f)) / len(mine)
        mean = float(f.mean())
        at_labels, y = survey.prediction[survey.labelled[kept]] - mean, survey.label[kept]
        top += weight * float((y - y.mean()) @ at_labels) / len(kept)
        spread = float(f @ f) / len(f) - mean**2
        if spread > ROUNDING * mean**2:
            bottom += weight * spread * len(f) / (len(f) - 1)
    return max(0.0, top / bottom) if bottom > 0 else 0.0


def t_quantile(survey: Survey, delta: float, comparisons: int = 1) -> float:
    """Student's two-sided quantile for one of `comparisons` intervals that hold together (Sidak 1967).

    >>> survey = Survey(np.zeros(900), np.arange(500), np.zeros(500))
    >>> round(t_quantile(survey, 0.05), 3), round(t_quantile(survey, 0.05, comparisons=10), 3)
    (1.965, 2.812)
    """
    strata = 1 if survey.stratum is None else len(np.unique(survey.stratum))
    each = -np.expm1(np.log1p(-delta) / comparisons)
    return -float(stdtrit(_units(survey, survey.labelled) - strata, each / 2))


def coarse_strata(
    stratum: IntArray, labelled: IntArray, cluster: CodeArray | None = None, fewest: int = MIN_CLUSTERS
) -> IntArray | None:
    """Strata (N,) with at least `fewest` labelled clusters (labels, if not given) each; None if only one.

    The rarest are put together until they have enough. Only counts of labels decide, never what they say, so
    an estimate within these strata is as valid as within those. `labelled` (n,) holds places among the N.
    Source: collapsed strata, Cochran 1977, chapter 5A.

    >>> coarse_strata(np.array([0, 0, 0, 1, 1, 2, 2]), np.array([0, 1, 3, 5]), fewest=2).tolist()
    [0, 0, 0, 1, 1, 1, 1]
    """
    units = np.arange(len(stratum)) if cluster is None else cluster
    names, place = np.unique(stratum, return_inverse=True)
    counts = np.array([len(np.unique(units[labelled[place[labelled] == k]])) for k in range(len(names))])
    order = np.argsort(-counts, kind="stable")
    kept = order[counts[order] >= fewest]
    rest = units[labelled[~np.isin(place[labelled], kept)]]
    if len(kept) < len(names) and len(np.unique(rest)) < fewest:
        kept = kept[:-1]
    code = np.full(len(names), len(kept))
    code[kept] = np.arange(len(kept))
    coarse = code[place]
    return coarse if len(np.unique(coarse)) > 1 else None


def too_few(survey: Survey) -> str:
    """The reason why the labels do not carry an asymptotic interval; empty where they do.

    It takes 100 labels, 10 that differ from the commonest, 40 labelled clusters (or labels) in each stratum,
    and 10 effective residuals (20 where clusters have more and fewer labels): a judge that errs on one
    labelled row in a hundred leaves a variance that rests on that row.
    The limits are set by coverage tests: docs/intervals.md.

    >>> too_few(Survey(np.zeros(900), np.arange(300), np.ones(300)))
    '0 labels differ from the commonest, fewer than 10'
    >>> label = np.repeat([0.0, 1.0], 150)
    >>> seen = np.where(np.arange(300) < 2, 1 - label, label)
    >>> too_few(Survey(np.resize(seen, 900), np.arange(300), label))
    'the error of the predictions rests on 2.1 labels or so, fewer than 10'
    """
    n = len(survey.label)
    rare = n - int(np.unique(survey.label, return_counts=True)[1].max())
    clusters = min(_units(survey, survey.labelled[mine]) for _, mine in _strata(survey))
    if n < MIN_LABELS:
        return f"{n} labels, fewer than {MIN_LABELS}"
    if rare < MIN_RARE:
        return f"{rare} labels differ from the commonest, fewer than {MIN_RARE}"
    if clusters < MIN_CLUSTERS:
        return f"{clusters} labelled clusters in a stratum or in all, fewer than {MIN_CLUSTERS}"
    carried, least = effective_residuals(survey)
    if carried < least:
        return f"the error of the predictions rests on {carried:.1f} labels or so, fewer than {least}"
    return ""


def effective_residuals(survey: Survey, *, predicted: bool = True) -> tuple[float, int]:
    """The number of labelled clusters (or labels) that carry the variance of the residuals, and the least.

    Residuals of least squares on the labelled rows: the tuned power differs from that slope by chance, and
    what it then leaves of the prediction would hide that a judge hardly ever errs. Not `predicted`: of the
    mean label. A stratum whose own labels hardly vary counts as if one more cluster of it, unseen yet, had
    the largest residual of all: its variance of nearly 0 is what few labels show, and others' do not
    replace it. Arguments are taken as checked. Source: as `intervals.effective_number`.

    >>> label = np.repeat([0.0, 1.0], 50)
    >>> seen = np.where(np.arange(100) < 2, 1 - label, label)
    >>> carried, least = effective_residuals(Survey(seen, np.arange(100), label))
    >>> round(carried, 1), least
    (2.2, 10)
    """
    parts, weight, at_labels = np.zeros((3, len(survey.label)))
    for members, mine in _strata(survey):
        seen = survey.prediction[survey.labelled[mine]]
        parts[mine] = survey.label[mine] - survey.label[mine].mean()
        at_labels[mine] = seen - seen.mean()
        weight[mine] = len(survey.prediction[members]) / len(seen)
    spread = float(weight @ at_labels**2)
    plain = parts
    if predicted and spread > ROUNDING * len(survey.prediction):
        parts = parts - float((weight * at_labels) @ parts) / spread * at_labels
    parts[np.abs(parts) < np.sqrt(ROUNDING) * np.abs(survey.label).max(initial=0.0)] = 0.0
    units = np.arange(len(parts)) if survey.cluster is None else survey.cluster[survey.labelled]
    place, largest = np.unique(units, return_inverse=True)[1], np.abs(parts).max(initial=0.0)
    parts = parts * weight
    total, size = (np.bincount(place, each).astype(np.float64) for each in (parts, weight))
    carried, least = effective_number(total), enough(size)
    for _, mine in _strata(survey) if survey.stratum is not None else ():
        own = (np.bincount(place[mine], each[mine]).astype(np.float64) for each in (plain, parts))
        if min(map(effective_number, own)) < least:
            unseen = largest * float(weight[mine].sum()) / len(np.unique(place[mine]))
            carried = min(carried, effective_number(np.append(total, unseen)))
    return carried, least


def check_survey(survey: Survey) -> None:
    """Raise ValueError unless the arrays of a survey fit together, and hold what an estimate needs.

    Shapes as in `Survey`: prediction (N,), labelled and label (n,), stratum and cluster (N,). Each stratum
    needs 2 labels, from 2 clusters.

    >>> check_survey(Survey(np.zeros(3), np.array([0, 0]), np.zeros(2)))
    Traceback (most recent call last):
    ValueError: a row is labelled twice
    """
    size, labelled, label = len(survey.prediction), survey.labelled, survey.label
    if labelled.shape != label.shape or label.ndim != 1 or survey.prediction.ndim != 1:
        raise ValueError("prediction must be (N,), labelled and label (n,)")
    for part in (survey.stratum, survey.cluster):
        if part is not None and part.shape != (size,):
            raise ValueError("stratum and cluster must have one entry for each prediction")
    if labelled.dtype.kind != "i" or np.any((labelled < 0) | (labelled >= size)):
        raise ValueError(f"labelled must hold places in 0..{size - 1}")
    if np.any(np.diff(np.sort(labelled)) == 0):
        raise ValueError("a row is labelled twice")
    if not (np.isfinite(survey.prediction.sum()) and np.isfinite(label.sum())):
        raise ValueError("a prediction or a label is not finite")
    if any(_units(survey, labelled[mine]) < 2 for _, mine in _strata(survey)):
        raise ValueError("each stratum needs at least 2 labels, from at least 2 clusters")
    if survey.ends is not None and not (
        survey.ends[0] < survey.ends[1] and np.all((label >= survey.ends[0]) & (label <= survey.ends[1]))
    ):
        raise ValueError("ends must be in order, and every label must lie between them")


def _strata(survey: Survey) -> list[tuple[slice | IntArray, IntArray]]:
    """The items of each stratum, and the places of its labels among the labels."""
    if survey.stratum is None:
        return [(slice(None), np.arange(len(survey.label)))]
    of_labels = survey.stratum[survey.labelled]
    return [
        (np.flatnonzero(survey.stratum == name), np.flatnonzero(of_labels == name))
        for name in np.unique(survey.stratum)
    ]


def _units(survey: Survey, rows: IntArray) -> int:
    return len(rows) if survey.cluster is None else len(np.unique(survey.cluster[rows]))


def _label_only(survey: Survey, delta: float, target: Target) -> Limits:
    """Limits without predictions. A batch is a draw without replacement, for which they hold all the more."""
    y, ends = survey.label, _ends(survey)
    weight, strata = np.ones(len(y)), _strata(survey)
    if len(strata) > 1:
        for members, mine in strata:
            weight[mine] = len(survey.prediction[members]) / len(mine)
    cluster = None if survey.cluster is None else survey.cluster[survey.labelled]
    estimate, parts = influence(survey, np.zeros(len(y)), target)
    carried, least = effective_residuals(survey, predicted=False)
    if ends is None and carried < least:
        return Limits(-np.inf, np.inf, "student")
    if ends is not None:
        width, share = ends[1] - ends[0], np.clip((y - ends[0]) / (ends[1] - ends[0]), 0, 1)
        interval = mean_interval(share, delta, cluster=cluster, weight=weight)
        if interval.basis == "student" and carried < least:
            place = np.unique(np.arange(len(y)) if cluster is None else cluster, return_inverse=True)[1]
            interval = betting_interval(
                np.bincount(place, weight * share).astype(np.float64),
                np.bincount(place, weight).astype(np.float64),
                delta,
            )
        if interval.basis != "student":
            return Limits(ends[0] + width * interval.low, ends[0] + width * interval.high, interval.basis)
    reach = float(np.sqrt(parts @ parts)) * t_quantile(survey, delta)
    return Limits(estimate - reach, estimate + reach, "student")


def _ends(survey: Survey) -> tuple[float, float] | None:
    if survey.ends is not None:
        return survey.ends
    return (0.0, 1.0) if np.all((survey.label >= 0) & (survey.label <= 1)) else None
