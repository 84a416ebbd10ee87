"""Queue rows for the certificate that some tested policy accepts: judges vote first, annotators label after.

Items come in the order of the uniform draw; items outside the region are skipped without a label. The first
queue lays out the region from an unlabelled pilot, and it stays (`calibration.region`).
"""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import NamedTuple

from trustescalate.calibration.alignment import lay_out
from trustescalate.calibration.attempts import FIXED
from trustescalate.calibration.prepare import build_protocol, select_rows
from trustescalate.calibration.protocol import Protocol
from trustescalate.calibration.region import (
    REGION,
    REGION_SCHEMA,
    RegionFile,
    RegionPlan,
    decided,
    must_allow_region,
    must_be_laid_out,
    must_follow_region,
    read_region,
    write_region,
)
from trustescalate.calibration.scoring import Scorer, scorer_of
from trustescalate.calibration.selection import Selection
from trustescalate.cascade.fit_judges import fitting_rows
from trustescalate.cascade.panel import Asking, Panel, open_panel
from trustescalate.cascade.runner import collect_judgments
from trustescalate.config import BudgetTable, Config
from trustescalate.data.annotation.queue import Queued, load_labels, sample_order, write_queue
from trustescalate.data.dataset import Dataset
from trustescalate.errors import NotMeasurable, UsageError
from trustescalate.judges.exemplars import exemplars_of
from trustescalate.records import Item, Judgment
from trustescalate.records.item_columns import items_by_id
from trustescalate.records.progress import Hooks
from trustescalate.stats.paths import Plan
from trustescalate.stats.region import WORTHWHILE, in_region, proposed_region, reachable, truncated

FEWEST_PILOT = 20
"""A smaller pilot does not show what a policy accepts."""
UNIFORM = "draw rows from all items instead: leave out --region"


class Walk(NamedTuple):
    """Items `inside` the region, and the `judged` ones, both in the order of the draw."""

    inside: list[Item]
    judged: list[Item]


async def queue_region(
    config: Config, hooks: Hooks, rows: int, most: float | None = None, budget: BudgetTable | None = None
) -> Queued:
    """Queue rows drawn uniformly from the region that policies of expected coverage up to `most` accept.

    Without `most`, `stats.region.proposed_region` proposes it. Every judge judges the pilot, and items in the
    order of the uniform draw until `rows` of them are in the region; `calibrate` finds these votes in the
    cache. Writes region.json, or continues the existing region. Raises ConfigError for a guarantee without a
    proof, NotMeasurable if a region saves no labels or holds no policy, UsageError if it differs from the
    existing one, CertificateMismatch after a change, and ProviderError or BudgetReached as `calibrate` does:
    then nothing is written.
    """
    must_allow_region(config)
    data, before = load_labels(config), read_region(config.folder)
    if before is not None and most not in (None, before.most):
        raise UsageError(
            f"{config.folder / REGION}: its policies have a coverage up to {before.most:g}, not {most:g}",
            "leave out the number; to start anew, move region.json away, and remove the rows drawn from its "
            "region from the annotations",
        )
    selected = _selected(config, data, before)
    exemplars = exemplars_of(config, data, selected.roles["exemplars"])
    shown = fitting_rows(config, data, selected.roles)
    async with open_panel(config, hooks, exemplars, Asking(budget), rows=shown) as panel:
        bindings = [(judge.name, judge.fingerprint) for judge in panel.judges]
        protocol = build_protocol(config, data, selected, bindings, grouped=False)
        asking = _JudgedItems(config, hooks, data, protocol, panel)
        if before is None:
            region, plan = await _new_region(config, hooks, asking, rows, most)
        else:
            must_follow_region(before, protocol)
            region, plan = before, truncated(await asking.lay_out(), before.most)
            must_be_laid_out(before.rule, plan)
        pool = _pool(data, selected, config.roles.seed)
        counted = 0 if before is not None else min(len(pool), ceil(rows / region.share))
        walk = await _walk(asking, plan, pool, rows, counted, region.share)
    if not walk.inside:
        raise NotMeasurable(
            f"none of {len(walk.judged):,} available items is in the region",
            f"add fresh items to [data] items, or {UNIFORM}",
        )
    if before is None:
        counted_on = tuple(item.id for item in walk.judged[:counted])
        write_region(config.folder, replace(region, candidates=counted_on))
    return write_queue(config, hooks, "region", walk.inside, data.annotated, _why(config, region, walk, rows))


class _JudgedItems:
    """The judges and all their votes so far."""

    def __init__(self, config: Config, hooks: Hooks, data: Dataset, protocol: Protocol, panel: Panel) -> None:
        self.protocol = protocol
        self._config, self._hooks, self._data = config, hooks, data
        self._judges, self._spent, self._in_flight = panel.judges, panel.budget, panel.in_flight
        self._items, self._failed = items_by_id(data.items), 0
        self._judged: dict[str, dict[str, Judgment]] = {judge.name: {} for judge in panel.judges}

    async def judge(self, ids: Sequence[str]) -> None:
        """Judge these items with every judge."""
        known = self._judged[self._judges[-1].name]

        def collect(judgment: Judgment) -> None:
            self._judged[judgment.judge][judgment.item_id] = judgment
            self._failed += judgment.failed
            self._hooks.progress(self._spent.progress("drawing", len(known), total, failed=self._failed))

        items = [self._items[item_id] for item_id in dict.fromkeys(ids) if item_id not in known]
        total = len(known) + len(items)
        await collect_judgments(items, self._judges, collect=collect, in_flight=self._in_flight)

    async def lay_out(self) -> Plan:
        """Lay out the whole path from the pilot, and from dev rows for a fitted path."""
        roles = self.protocol.roles
        await self.judge((*roles["pilot"], *(roles["dev"] if self._config.asks_dev else ())))
        plan = lay_out(self.protocol, self._data.annotations, self._judged, self._scorer())
        assert plan is not None, "the configuration refuses tierwise"
        return plan

    def inside(self, plan: Plan, ids: Sequence[str]) -> list[bool]:
        """Which of these items, all of them judged, lie in the region of a plan."""
        names = [judge.name for judge in self._judges]
        return [bool(each) for each in in_region(plan, self._scorer().read(names, ids, self._judged))]

    def _scorer(self) -> Scorer:
        return scorer_of(self.protocol, self._judged)


def _selected(config: Config, data: Dataset, before: RegionFile | None) -> Selection:
    """Return the fixed roles, of the region or of the present data, without certification rows."""
    roles = before.roles if before is not None else select_rows(config, data).roles
    kept = {role: roles[role] for role in FIXED}
    if len(kept["pilot"]) < FEWEST_PILOT:
        raise NotMeasurable(
            f"the pilot has {len(kept['pilot'])} unlabelled items, and a region needs {FEWEST_PILOT}",
            "raise [guarantee] pilot, and add as many items without labels",
        )
    return Selection({**kept, "certify": ()})


async def _new_region(
    config: Config, hooks: Hooks, asking: _JudgedItems, rows: int, most: float | None
) -> tuple[RegionFile, Plan]:
    """Lay out a region from the pilot, without candidates."""
    alpha, asked = config.guarantee.alpha, most
    most = proposed_region(alpha, rows) if asked is None else asked
    if most is None:
        raise NotMeasurable(f"at alpha = {alpha:g} with {rows:,} rows, a region saves no labels", UNIFORM)
    try:
        whole = await asking.lay_out()
        most = reachable(whole, most) if asked is None else most
        plan = truncated(whole, most)
    except ValueError as error:
        raise NotMeasurable(f"there is no region: {error}", f"give a larger --region, or {UNIFORM}") from None
    roles = asking.protocol.roles
    inside = sum(asking.inside(plan, roles["pilot"]))
    if asked is None and inside > WORTHWHILE * len(roles["pilot"]):
        raise NotMeasurable(
            f"policies up to an expected coverage of {most:.2f} accept {inside} of {len(roles['pilot'])} "
            "pilot items between them: drawing there saves few labels",
            UNIFORM,
        )
    kept = {role: roles[role] for role in FIXED}
    created = hooks.now()
    return (
        RegionFile(
            REGION_SCHEMA, created, most, decided(asking.protocol), kept, inside, RegionPlan.of(plan), ()
        ),
        plan,
    )


def _pool(data: Dataset, selected: Selection, seed: int) -> list[Item]:
    """Return the items without a role or an earlier draw, in the order of the uniform draw."""
    taken = {item.id for item in data.in_region}.union(*selected.roles.values())
    return [drawn[0] for drawn in sample_order(data, seed, without=taken)]


async def _walk(
    asking: _JudgedItems, plan: Plan, pool: Sequence[Item], rows: int, counted: int, share: float
) -> Walk:
    """Judge items in order until `rows` are in the region, and at least the first `counted`.

    `counted` is fixed in advance, so the first items are a sample of all, whatever the outcome.
    """
    inside, place = list[Item](), 0
    while place < len(pool) and (len(inside) < rows or place < counted):
        part = pool[place : place + max(1, counted - place, ceil((rows - len(inside)) / share))]
        await asking.judge([item.id for item in part])
        accepted = asking.inside(plan, [item.id for item in part])
        inside += [item for item, kept in zip(part, accepted, strict=True) if kept]
        place += len(part)
    return Walk(inside[:rows], list(pool[:place]))


def _why(config: Config, region: RegionFile, walk: Walk, rows: int) -> str:
    fewer = f"; there are no more: {rows - len(walk.inside):,} are missing" if len(walk.inside) < rows else ""
    return (
        f"{len(walk.inside):,} were drawn uniformly at random by the seed {config.roles.seed} from "
        f"the items that a policy of expected coverage up to {region.most:.2f} accepts; "
        f"{len(walk.judged):,} items were judged to find them{fewer}. They represent "
        "these items, not all items. Annotate all of them, in this order"
    )
