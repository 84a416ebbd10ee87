"""Record a leaderboard: models with their estimates, and the pairs that labels cannot separate."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Standing:
    """One model: a mean (win rate, pass rate, rating) or a Bradley-Terry strength in terms of human labels.

    `interval` and `label_only` hold for all models at once with probability 95 %; the first uses predictions
    for `rows` rows and `labels` human labels, the second labels alone. `usable` is False where the labels are
    too few for the first, and `reason` says how few. Without any figure `estimate` is None. `by_judges` and
    `by_people` are the uncorrected estimates from predictions alone and from labels alone. `first_place` and
    `last_place` bound the rank.
    """

    model: str
    rows: int
    labels: int
    estimate: float | None
    interval: tuple[float, float] | None = None
    label_only: tuple[float, float] | None = None
    usable: bool = False
    reason: str = ""
    by_judges: float | None = None
    by_people: float | None = None
    first_place: int | None = None
    last_place: int | None = None


@dataclass(frozen=True, slots=True)
class Correlation:
    """Rank correlation of models by judges alone and by labels alone, with two-sided p-values."""

    models: int
    spearman: float
    spearman_pvalue: float
    kendall: float
    kendall_pvalue: float


@dataclass(frozen=True, slots=True)
class Standings:
    """A leaderboard, best estimate first; models without an estimate come last.

    `not_separable` are the pairs of models that the labels cannot tell apart, at 95 % for all pairs at once.
    `left_out` rows name no model, or the same twice. `paired`: rows of one item were treated as clustered.
    `reason` is why there is no leaderboard at all.
    """

    method: Literal["mean", "bradley_terry"]
    models: tuple[Standing, ...] = ()
    not_separable: tuple[tuple[str, str], ...] = ()
    correlation: Correlation | None = None
    rows: int = 0
    labels: int = 0
    left_out: int = 0
    paired: bool = False
    reason: str = ""


def groups_of(board: Standings) -> tuple[tuple[str, ...], ...]:
    """Group neighbours on a leaderboard that are not separable; the remaining pairs follow.

    >>> one, two, six = (Standing(name, 9, 5, 0.5) for name in ("one", "two", "six"))
    >>> groups_of(Standings("mean", (one, two, six), (("one", "two"), ("two", "six"))))
    (('one', 'two'), ('two', 'six'))
    """
    names = [each.model for each in board.models if each.estimate is not None]
    alike = {frozenset(pair) for pair in board.not_separable}
    groups: list[tuple[str, ...]] = []
    for start in range(len(names)):
        end = start + 1
        while end < len(names) and all(frozenset((names[k], names[end])) in alike for k in range(start, end)):
            end += 1
        if end > start + 1 and not (groups and set(names[start:end]) <= set(groups[-1])):
            groups.append(tuple(names[start:end]))
    grouped = {frozenset((a, b)) for group in groups for a in group for b in group if a != b}
    return (*groups, *(pair for pair in board.not_separable if frozenset(pair) not in grouped))
