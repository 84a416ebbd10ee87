"""Measure one judge's verdicts on labelled rows: coverage, position bias and length bias."""

from collections.abc import Sequence

import numpy as np

from trustescalate.records import Item, Judgment, Label, Task, TaskKind
from trustescalate.stats.bounds import BoolArray, FloatArray, IntArray
from trustescalate.stats.certify import certify
from trustescalate.stats.paths import Plan
from trustescalate.stats.policy import common_path


def selective_coverage(score: FloatArray, right: BoolArray, alpha: float) -> float:
    """Return the largest share of rows above a threshold with at most alpha disagreement; optimistic."""
    order = np.argsort(-score, kind="stable")
    wrong = np.cumsum(~right[order])
    # Rows of equal score are accepted together.
    last = np.append(np.diff(score[order]) != 0, True) & (score[order] > 0)
    size = np.arange(1, len(score) + 1)
    return float(np.max(size[last & (wrong <= alpha * size)], initial=0) / len(score))


def certified_coverage(
    score: FloatArray, label: IntArray, truth: IntArray, alpha: float, delta: float
) -> float | None:
    """Return the share of rows that a test of this judge alone would release; None if none passes."""
    plan, free = Plan.laid_out((common_path(None, tiers=1),), (1.0,), None), np.zeros((len(score), 1))
    result = certify(score[:, None], label[:, None], truth, free, alpha=alpha, delta=delta, path=plan)
    return None if result.chosen is None else float(result.table.accepted[result.chosen] / len(score))


def order_flips(task: Task, judgments: Sequence[Judgment]) -> tuple[int, int]:
    """Count verdicts of one prompt that change with the order, and pairs of valid votes in both orders."""
    changed = pairs = 0
    for row in judgments:
        by_prompt: dict[int, dict[str, list[Label]]] = {}
        for vote in row.votes:
            if vote.failure is None and vote.order in ("AB", "BA"):
                verdict = max(task.labels, key=lambda label: vote.probs.get(label, 0.0))
                by_prompt.setdefault(vote.exemplar_set, {}).setdefault(vote.order, []).append(verdict)
        for orders in by_prompt.values():
            for one, other in zip(orders.get("AB", ()), orders.get("BA", ()), strict=False):
                pairs += 1
                changed += one != other
    return changed, pairs


def position_bias(task: Task, judgments: Sequence[Judgment]) -> float | None:
    """Return the mean shift of probability to the response shown first; None without votes in both orders."""
    shifts = []
    for row in judgments:
        by_prompt: dict[int, dict[str, float]] = {}
        for vote in row.votes:
            if vote.failure is None and vote.order in ("AB", "BA"):
                lead = vote.probs.get("A", 0.0) - vote.probs.get("B", 0.0)
                by_prompt.setdefault(vote.exemplar_set, {})[vote.order] = lead
        shifts += [(own["AB"] - own["BA"]) / 4 for own in by_prompt.values() if len(own) == 2]
    return float(np.mean(shifts)) if shifts and task.kind is TaskKind.PAIRWISE else None


def length_bias(task: Task, items: Sequence[Item], label: IntArray, truth: IntArray) -> float | None:
    """Return how much oftener the judge prefers the longer response than humans do, if both prefer one."""
    if task.kind is not TaskKind.PAIRWISE:
        return None
    longer = longer_response(items)
    both = (longer >= 0) & (label >= 0) & (label < 2) & (truth >= 0) & (truth < 2)
    if not both.any():
        return None
    return float(np.mean(label[both] == longer[both]) - np.mean(truth[both] == longer[both]))


def longer_response(items: Sequence[Item]) -> IntArray:
    """Return the place of each pair's longer response (n,); -1 for equal lengths."""
    sizes = np.array([[len(text) for text in item.texts] for item in items])
    return np.where(sizes[:, 0] == sizes[:, 1], -1, np.where(sizes[:, 0] > sizes[:, 1], 0, 1))
