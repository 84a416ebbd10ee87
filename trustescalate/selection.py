"""Which labelled rows have which role, and which of them are tested: by hashes of content and seed alone.

Roles are divided by `dataset.assign_roles`, or were by `split`. Here the rows to certify with are taken: one
of each group or whole groups, thinned by weights, and as many as a look takes. A batch is drawn by `batch`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from trustescalate.config import Config
from trustescalate.dataset import Dataset, assign_roles, clusters, content_digest, read_roles
from trustescalate.errors import DataError
from trustescalate.jsonl import digest
from trustescalate.looks import Ledger, due
from trustescalate.protocol import Clustering
from trustescalate.stats.shift import rejection_sample
from trustescalate.types import Item, Look, Weighting

Roles = Mapping[str, tuple[str, ...]]
FIXED = ("exemplars", "dev", "holdout", "pilot")
"""Roles that stay as they are from one look to the next."""
MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Selection:
    """Item ids by role, and how the rows to certify with came about.

    With looks, `look` is the one that is due, None where `missing` more rows are needed before the first.
    """

    roles: Roles
    clusters: Clustering | None = None
    weighting: Weighting | None = None
    look: Look | None = None
    missing: int = 0


def lot(seed: int, item: Item) -> str:
    """Where an item comes in any order that is drawn: a hash of the seed and what it holds."""
    return digest("lot", seed, content_digest(item), item.id)


def select(config: Config, data: Dataset, exemplars: int, past: Ledger | None) -> Selection:
    """Divide the labelled rows of a population, `exemplars` of them for few-shot prompts.

    `past` holds earlier looks: their roles and rows stay. Raises DataError for weights that are missing or
    out of bounds, and for a group that is larger than any can be.
    """
    promise, seed = config.guarantee, config.roles.seed
    fixed = _fresh_roles(config, data, exemplars) if past is None else past.roles
    taken = {item_id for role in FIXED for item_id in fixed[role]}
    before = set() if past is None else set(past.looks[-1].rows)
    sets = _free_clusters(data, taken, before)
    offered = sets if promise.clusters == "bet" else [[_one_of(rows, seed, before)] for rows in sets]
    if promise.largest_cluster is not None:
        _must_fit(offered, promise.largest_cluster)
    kept, weighting = _thinned(config, data, offered)
    chosen = [item for rows in kept for item in rows]
    roles: dict[str, tuple[str, ...]] = {**fixed, "certify": tuple(item.id for item in chosen)}
    if weighting is not None:
        roles["aside"] = _ids(_left_out(offered, chosen))
    if promise.largest_cluster is not None:
        return Selection(roles, Clustering(tuple(map(_ids, kept)), promise.largest_cluster), weighting)
    if promise.looks is None:
        return Selection(roles, None, weighting)
    order = [item.id for item in sorted(chosen, key=lambda item: lot(seed, item))]
    look, rows = due(promise.looks, promise.shares, order, past)
    roles["certify"] = rows
    roles["waiting"] = tuple(item_id for item_id in order if item_id not in set(rows))
    missing = promise.looks[0] - len(order) if look is None else 0
    return Selection(roles, None, weighting, look, missing)


def _fresh_roles(config: Config, data: Dataset, exemplars: int) -> Roles:
    labelled, seed = data.labelled, config.roles.seed
    given = read_roles(config, labelled) or assign_roles(labelled, config.roles, exemplars)
    pool = data.unlabelled or tuple(item for item in labelled if given[item.id] in ("dev", "holdout"))
    unused = config.guarantee.path == "tierwise" or config.guarantee.claim == "expected"
    size = 0 if unused else config.guarantee.pilot
    divided = {
        role: tuple(item.id for item in labelled if given[item.id] == role)
        for role in ("exemplars", "dev", "holdout")
    }
    return {**divided, "pilot": _ids(sorted(pool, key=lambda item: lot(seed, item))[:size])}


def _free_clusters(data: Dataset, taken: set[str], before: set[str]) -> list[list[Item]]:
    """Labelled rows, cluster by cluster, without those that hang together with a row that has a role.

    A row that was tested at an earlier look stays, whatever came to hang together with it.
    """
    sets = clusters(data.labelled)
    return [rows for rows in sets if taken.isdisjoint(_ids(rows)) or not before.isdisjoint(_ids(rows))]


def _one_of(rows: Sequence[Item], seed: int, before: set[str]) -> Item:
    """The row of a cluster that is tested: the one that was, if any was, else the first by lot."""
    return min(rows, key=lambda item: (item.id not in before, lot(seed, item)))


def _left_out(offered: Sequence[Sequence[Item]], chosen: Sequence[Item]) -> list[Item]:
    known = {item.id for item in chosen}
    return [item for rows in offered for item in rows if item.id not in known]


def _ids(items: Sequence[Item]) -> tuple[str, ...]:
    return tuple(item.id for item in items)


def _must_fit(sets: Sequence[Sequence[Item]], largest: int) -> None:
    large = [rows for rows in sets if len(rows) > largest]
    if large:
        raise DataError(
            [
                f"group {rows[0].group!r} has {len(rows)} labelled rows: {', '.join(_ids(rows)[:MOST_NAMED])}"
                for rows in large[:MOST_NAMED]
            ],
            f"[guarantee] largest_cluster = {largest} must bound every group that can come, and be fixed "
            'before labels are looked at: raise it, or set clusters = "one_each"',
        )


# ── weights ──────────────────────────────────────────────────────────────────────────────────────


def _thinned(
    config: Config, data: Dataset, offered: list[list[Item]]
) -> tuple[list[list[Item]], Weighting | None]:
    """Each row with probability weight / bound, by a generator of its own: rows to come change nothing."""
    promise = config.guarantee
    if promise.weight is None or promise.weight_bound is None or promise.weight_source is None:
        return offered, None
    key, bound = promise.weight.removeprefix("meta."), promise.weight_bound
    weights = _weights(config, data, key, bound)
    kept = [
        [item for item in rows if _keeps(config.roles.seed, item, weights[item.id], bound)]
        for rows in offered
    ]
    count = sum(map(len, offered))
    weighting = Weighting(promise.weight, bound, promise.weight_source, count, sum(map(len, kept)))
    return [rows for rows in kept if rows], weighting


def _keeps(seed: int, item: Item, weight: float, bound: float) -> bool:
    rng = np.random.default_rng(int(digest("weight", seed, content_digest(item), item.id), 16))
    return bool(rejection_sample(np.array([weight]), bound, rng).size)


def _weights(config: Config, data: Dataset, key: str, bound: float) -> Mapping[str, float]:
    weights, problems, path = {}, list[str](), config.path(config.data.items)
    for item in data.labelled:
        weight = item.meta.get(key)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not isfinite(weight):
            problems.append(f"{path}: item {item.id!r} has no number in meta.{key}")
        elif not 0 <= weight <= bound:
            problems.append(f"{path}: item {item.id!r} has weight {weight:g}, outside 0 to {bound:g}")
        else:
            weights[item.id] = float(weight)
    if problems:
        raise DataError(
            problems, "every labelled row needs its weight, and [guarantee] weight_bound must hold everywhere"
        )
    return weights
