"""Select the labelled rows of each role, and those that are tested, by hashes of content and seed alone.

Roles are divided by `data.roles`, or were by `check --write-roles`. Certification rows are taken here: one of
each cluster, or all, thinned by sizes and by weights, and as many as an interim analysis takes. Rows whose
labels were read to choose by become dev rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from math import isfinite
from statistics import median_low

import numpy as np

from trustescalate.calibration.attempts import FIXED, due
from trustescalate.calibration.ledger import Interim, Ledger, labels_of, row_digest
from trustescalate.calibration.protocol import Clustering, RegionRule
from trustescalate.calibration.region import RegionFile
from trustescalate.config import Config
from trustescalate.data.clusters import cluster_source, clusters, content_digest
from trustescalate.data.dataset import Dataset
from trustescalate.data.roles import assign_roles, read_roles
from trustescalate.errors import DataError, NotMeasurable
from trustescalate.records import Clusters, InterimAnalysis, Item, Weighting
from trustescalate.records.criteria import row_name
from trustescalate.records.jsonl import digest
from trustescalate.stats.planning import label_floor
from trustescalate.stats.shift import rejection_sample

Roles = Mapping[str, tuple[str, ...]]
MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Selection:
    """Item ids by role, and how the rows to certify with came about.

    `drawn_from` describes the clusters, None where no labelled row shares one. `clusters` divides the rows
    where whole clusters are tested. `interim` is the interim analysis that is due, None where `missing` more
    rows are needed before the first.
    """

    roles: Roles
    clusters: Clustering | None = None
    weighting: Weighting | None = None
    interim: InterimAnalysis | None = None
    missing: int = 0
    drawn_from: Clusters | None = None
    region: RegionRule | None = None


def lot(seed: int, item: Item) -> str:
    """The sort key of an item in any drawn order: a hash of the seed and its content.

    It is the same for all rows of an item, so that the criteria of one item are tested together.
    """
    return digest("lot", seed, content_digest(item), row_name(item).item_id)


def select(
    config: Config, data: Dataset, exemplars: int, ledger: Ledger | None, region: RegionFile | None = None
) -> Selection:
    """Divide the labelled rows of a population, `exemplars` of them for few-shot prompts.

    `ledger` holds earlier tests. Where planned interim analyses go on, their roles and rows stay; so do those
    of a `region`. Rows whose labels a command read to choose by have the role dev, unless just these labels
    were tested before: that test may be repeated. Raises DataError for weights that are missing or out of
    bounds, and for a group that is larger than any can be.
    """
    if ledger is None:
        return _select(config, data, exemplars, None, region)
    line = None if config.guarantee.interim is None else ledger.plan(data.labelled)
    selected = _select(config, data, exemplars, None if line is None else line.interim, region)
    if line is not None or not ledger.chosen_by:
        return selected
    certify = {*selected.roles["certify"], *selected.roles.get("region", ())}
    labels = labels_of([item for item in data.labelled if item.id in certify], data.annotations)
    if any(set(test.rows) == set(labels.rows) for test in ledger.tests):
        return selected
    return _select(config, data, exemplars, None, region, frozenset(ledger.chosen_by))


def _select(
    config: Config,
    data: Dataset,
    exemplars: int,
    past: Interim | None,
    region: RegionFile | None,
    read: frozenset[str] = frozenset(),
) -> Selection:
    """As `select`; `read` are the keys of labels that were read to choose by."""
    guarantee, seed = config.guarantee, config.roles.seed
    fixed = _fix_roles(config, data, exemplars, past, region, read)
    taken = {item_id for role in FIXED for item_id in fixed[role]}
    before = set() if past is None else set(past.rows)
    sets = _find_free_clusters(data, taken, before)
    offered = sets if guarantee.cluster_test == "betting" else [_draw(rows, seed, before) for rows in sets]
    given = offered
    if guarantee.largest_cluster is not None:
        _must_fit(sets, guarantee.largest_cluster)
        if guarantee.cluster_test == "row_weighted":
            given = _keep_by_size(sets, offered, guarantee.largest_cluster, seed)
    drawn_from = _describe_clusters(config, sets, 0 if config.criteria else len(given))
    kept, weighting = _thin(config, data, given)
    chosen = [item for rows in kept for item in rows]
    roles: dict[str, tuple[str, ...]] = {**fixed, "certify": tuple(item.id for item in chosen)}
    if weighting is not None or guarantee.cluster_test == "row_weighted":
        roles["aside"] = _ids(_find_left_out(offered, chosen))
    if region is not None:
        roles["region"] = _take_from_region(
            data, {item_id for ids in roles.values() for item_id in ids}, seed
        )
        return Selection(roles, region=region.rule, drawn_from=drawn_from)
    if guarantee.cluster_test == "betting" and guarantee.largest_cluster is not None:
        whole = Clustering(tuple(map(_ids, kept)), guarantee.largest_cluster)
        return Selection(roles, whole, weighting, drawn_from=drawn_from)
    if guarantee.interim is None:
        return Selection(roles, None, weighting, drawn_from=drawn_from)
    order = [item.id for item in sorted(chosen, key=lambda item: lot(seed, item))]
    analysis, rows = due(guarantee.interim, guarantee.shares, order, past)
    roles["certify"] = rows
    roles["waiting"] = tuple(item_id for item_id in order if item_id not in set(rows))
    missing = guarantee.interim[0] - len(order) if analysis is None else 0
    return Selection(roles, None, weighting, analysis, missing, drawn_from)


def must_be_clusters(config: Config, data: Dataset) -> None:
    """Raise NotMeasurable where labelled rows were taken to be clusters by their prompts, and are too few so.

    Prompts may be one template that says nothing of an item: only the user knows.
    """
    guarantee, rows = config.guarantee, data.labelled
    sets, floor = clusters(rows), label_floor(guarantee.alpha, guarantee.delta)
    if (
        config.data.cluster is None
        and cluster_source(config, rows) == "prompt"
        and len(sets) < floor <= len(rows)
    ):
        raise NotMeasurable(
            f"{len(rows):,} labelled rows come in {len(sets):,} clusters by prompt: rows with one prompt "
            f"count as one row, and fewer than {floor} certify nothing at "
            f"alpha = {guarantee.alpha:g} and delta = {guarantee.delta:g}",
            'set [data] cluster = "item" if the prompt is a template and items are independent of one '
            'another, or [data] cluster = "meta.<key>" if something else makes them clusters; else label '
            "rows of more prompts",
        )


def _fix_roles(
    config: Config,
    data: Dataset,
    exemplars: int,
    past: Interim | None,
    region: RegionFile | None,
    read: frozenset[str],
) -> Roles:
    """The roles that are decided before rows to certify with are taken: those of before, if any were."""
    if past is not None:
        return past.roles
    if region is None:
        return _assign_fresh_roles(config, data, exemplars, read)
    given = {item_id for role in FIXED for item_id in region.roles[role]}
    spent = [item.id for item in data.labelled if row_digest(item) in read and item.id not in given]
    return {**region.roles, "dev": (*region.roles["dev"], *spent)}


def _assign_fresh_roles(config: Config, data: Dataset, exemplars: int, read: frozenset[str]) -> Roles:
    labelled, seed = data.labelled, config.roles.seed
    given = dict(read_roles(config, labelled) or assign_roles(labelled, config.roles, exemplars))
    for item in labelled if read else ():
        if row_digest(item) in read and given[item.id] != "exemplars":
            given[item.id] = "dev"
    pool = data.unlabelled or [item for item in labelled if given[item.id] in ("dev", "holdout")]
    tierwise = config.guarantee.path == "tierwise" and "last_judge" not in config.fitted_on
    unused = tierwise or config.guarantee.claim == "expected"
    size = 0 if unused else config.guarantee.pilot
    divided = {
        role: tuple(item.id for item in labelled if given[item.id] == role)
        for role in ("exemplars", "dev", "holdout")
    }
    return {**divided, "pilot": _ids(nsmallest(size, pool, key=lambda item: lot(seed, item)))}


def _find_free_clusters(data: Dataset, taken: set[str], before: set[str]) -> list[list[Item]]:
    """Labelled rows, cluster by cluster, without those that are clustered with a row that has a role.

    A row that was tested at an earlier interim analysis stays, whatever is now clustered with it.
    """
    sets = clusters(data.labelled)
    return [rows for rows in sets if taken.isdisjoint(_ids(rows)) or not before.isdisjoint(_ids(rows))]


def _take_from_region(data: Dataset, taken: set[str], seed: int) -> tuple[str, ...]:
    """Rows that were drawn from the region, one of each cluster that no other role has a row of."""
    drawn = {item.id for item in data.in_region}
    free = [
        [item for item in rows if item.id in drawn]
        for rows in clusters((*data.labelled, *data.in_region))
        if taken.isdisjoint(_ids(rows))
    ]
    return _ids([_draw_one(rows, seed, set()) for rows in free if rows])


def _draw(rows: Sequence[Item], seed: int, before: set[str]) -> list[Item]:
    """One row of a cluster, or of each criterion in it: only rows of one criterion are tested together."""
    names = dict.fromkeys(row_name(item).criterion for item in rows)
    return [
        _draw_one([item for item in rows if row_name(item).criterion == name], seed, before) for name in names
    ]


def _draw_one(rows: Sequence[Item], seed: int, before: set[str]) -> Item:
    """The row of a cluster that is tested: the one that was, if any was, else the first by lot."""
    return min(rows, key=lambda item: (item.id not in before, lot(seed, item)))


def _keep_by_size(
    sets: Sequence[Sequence[Item]], offered: Sequence[list[Item]], largest: int, seed: int
) -> list[list[Item]]:
    """Drawn rows, each kept with probability size / largest: then a row is drawn as if by its own place.

    A cluster that fills up keeps the row that was kept: its lot stays, and only the size rises.
    """
    return [
        drawn
        for rows, drawn in zip(sets, offered, strict=True)
        if _keep("cluster", seed, drawn[0], len(rows), largest)
    ]


def _describe_clusters(config: Config, sets: Sequence[Sequence[Item]], kept: int) -> Clusters | None:
    sizes, guarantee = [len({row_name(item).item_id for item in rows}) for rows in sets], config.guarantee
    alone = bool(config.criteria) or all(rows[0].group is None for rows in sets)
    if alone and max(sizes, default=1) == 1:
        return None
    return Clusters(
        len(sets),
        guarantee.largest_cluster,
        guarantee.cluster_test,
        cluster_source(config, [item for rows in sets for item in rows]),
        sum(sizes),
        (min(sizes), median_low(sizes), max(sizes)),
        kept,
    )


def _find_left_out(offered: Sequence[Sequence[Item]], chosen: Sequence[Item]) -> list[Item]:
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
            f"[guarantee] largest_cluster = {largest} must bound every cluster that can come, and be fixed "
            'before labels are looked at: raise it, or set cluster_test = "one_per_cluster"',
        )


# ── weights ──────────────────────────────────────────────────────────────────────────────────────


def _thin(
    config: Config, data: Dataset, offered: list[list[Item]]
) -> tuple[list[list[Item]], Weighting | None]:
    """Each row with probability weight / bound, by a generator of its own: rows to come change nothing."""
    guarantee = config.guarantee
    if guarantee.weight is None or guarantee.weight_bound is None or guarantee.weight_source is None:
        return offered, None
    key, bound = guarantee.weight.removeprefix("meta."), guarantee.weight_bound
    weights = _read_weights(config, data, key, bound)
    kept = [
        [item for item in rows if _keep("weight", config.roles.seed, item, weights[item.id], bound)]
        for rows in offered
    ]
    count = sum(map(len, offered))
    weighting = Weighting(guarantee.weight, bound, guarantee.weight_source, count, sum(map(len, kept)))
    return [rows for rows in kept if rows], weighting


def _keep(why: str, seed: int, item: Item, weight: float, bound: float) -> bool:
    rng = np.random.default_rng(int(digest(why, seed, content_digest(item), item.id), 16))
    return bool(rejection_sample(np.array([weight]), bound, rng).size)


def _read_weights(config: Config, data: Dataset, key: str, bound: float) -> Mapping[str, float]:
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
