"""Open the judges of a configuration with cache and budget, and close them at the end."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING

from trustescalate.cascade.batch import must_offer_batches
from trustescalate.cascade.engines.local import LocalEngine
from trustescalate.cascade.engines.protocol import Engine
from trustescalate.cascade.first_batch import FirstBatch
from trustescalate.cascade.fit_judges import fit_judges
from trustescalate.cascade.runner import patient
from trustescalate.config import BudgetTable, ChatTable, Config, EndpointTable
from trustescalate.errors import ConfigError
from trustescalate.judges.base import Ask, Backend, Judge, Tariff
from trustescalate.judges.budget import Budget
from trustescalate.judges.cache import Cache, Guarded
from trustescalate.judges.distilled import FittingRows
from trustescalate.judges.prompts import Exemplar
from trustescalate.judges.recall import RecallingJudge
from trustescalate.judges.registry import MODELS, NO_ROWS, asked_names, open_judges
from trustescalate.records import Channel, Item
from trustescalate.records.progress import Hooks

if TYPE_CHECKING:
    from trustescalate.cascade.batch_requests import BatchQueue

FOLDER = ".trustescalate"
CACHE = f"{FOLDER}/cache.sqlite"
BATCHES = f"{FOLDER}/batches"


@dataclass(frozen=True, slots=True)
class Asking:
    """How judges are called: budget, cache, live or Batch API, and where from.

    `finish_live` sends requests that two batches leave unanswered to the live API. `engine` reaches the
    models, by default from this process.
    """

    limits: BudgetTable | None = None
    use_cache: bool = True
    batch: bool = False
    finish_live: bool = False
    engine: Engine | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """The judges, cheapest first, with their budget and the queue of batched requests.

    `opened` are the judges before their judgments are cached or they are fitted, `backends` their models.
    """

    judges: list[Judge]
    budget: Budget
    deferred: "BatchQueue | None"
    in_flight: int
    opened: Mapping[str, Judge]
    backends: Mapping[str, Backend]

    def ask_again(self, items: Collection[str]) -> None:
        """Let failed votes on these items, which failed before, end no command."""
        for judge in self.judges:
            if isinstance(judge, FirstBatch):
                judge.again = items

    async def ask_ahead(self, items: Sequence[Item]) -> None:
        """Answer all requests about these items in batches, for batched judges."""
        if self.deferred is not None:
            await self.deferred.judgments(items, self.judges, self.in_flight)


@asynccontextmanager
async def open_panel(
    config: Config,
    hooks: Hooks,
    exemplars: Sequence[Sequence[Exemplar]],
    asking: Asking = Asking(),
    *,
    rows: FittingRows = NO_ROWS,
    channels: Mapping[str, Channel] | None = None,
    served: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> AsyncIterator[Panel]:
    """Open the judges with cache and budget; close them at the end.

    `rows` are the fitting rows of classical judges; `channels` are those of a certificate, and `served` the
    models that it binds, by judge. Raises ConfigError for a budget in USD without prices.
    """
    limits = asking.limits or config.budget
    must_have_prices(config, limits)
    hooks.before_asking()
    budget = Budget(limits.usd, limits.calls)
    emptied = None if asking.use_cache else TemporaryDirectory()
    _ignore_in_git(config.folder / FOLDER)
    cache = Cache(Path(emptied.name) / "cache.sqlite" if emptied else config.folder / CACHE)
    names = iter(asked_names(config))
    deferred = _open_queue(config, hooks, cache, budget, asking.finish_live) if asking.batch else None

    def wrap(ask: Ask, endpoint: str, tariff: Tariff) -> Ask:
        name = next(names)
        (table,) = (table for table in config.judges if table.name == name)
        has_slots = isinstance(table, EndpointTable)
        asked = patient(ask, name, budget.stop)
        live = Guarded(
            asked,
            endpoint,
            tariff.cost,
            cache,
            budget,
            has_slots=has_slots,
            is_shared=bool(config.criteria),
            served=served.get(name),
        )
        if deferred is None or not isinstance(table, ChatTable) or not table.has_batches:
            return live
        return deferred.ask(table, endpoint, tariff, live)

    backends: list[Backend] = []
    placed = ExitStack()
    try:
        models = sum(table.backend in MODELS for table in config.judges)
        placement = placed.enter_context((asking.engine or LocalEngine()).open(models, hooks.notice))
        judges, backends = open_judges(
            config,
            exemplars,
            wrap=wrap,
            notice=hooks.notice,
            channels=channels,
            rows=rows,
            functions=hooks.functions,
            placement=placement,
        )
        opened = {judge.name: judge for judge in judges}
        judges = [_recalling(config, judge, cache, served.get(judge.name)) for judge in judges]
        named = dict(zip(asked_names(config), backends, strict=True))
        if deferred is not None:
            judges = deferred.seated(judges, named)
            await deferred.judgments(rows.unlabelled, judges[-1:], config.in_flight)
        judges = await fit_judges(judges, config.task.task(), config.ensemble.estimator, rows)
        judges = [FirstBatch(judge, budget.stop) if judge.name in named else judge for judge in judges]
        yield Panel(judges, budget, deferred, config.in_flight, opened, named)
    finally:
        if deferred is not None:
            await deferred.close()
        for backend in backends:
            close = getattr(backend, "close", None)
            if close is not None:
                await close()
        placed.close()
        if cache.failed is not None:
            hooks.notice(f"{cache.failed.message}; the last answers are not in it")
        cache.close()
        if emptied:
            emptied.cleanup()


def _ignore_in_git(folder: Path) -> None:
    """Keep a folder of replies out of version control, by a file in it."""
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".gitignore").open("x", encoding="utf-8") as file:
            file.write("*\n")


def _open_queue(
    config: Config, hooks: Hooks, cache: Cache, budget: Budget, finish_live: bool
) -> "BatchQueue":
    from trustescalate.cascade.batch_requests import BatchQueue

    must_offer_batches(config)
    folder = config.folder / BATCHES
    return BatchQueue(folder, cache, budget, finish_live=finish_live, notice=hooks.notice)


def _recalling(config: Config, judge: Judge, cache: Cache, served: Collection[str] | None) -> Judge:
    (table,) = (table for table in config.judges if table.name == judge.name)
    free = table.backend in ("replay", "classical")
    labels = config.task.task().labels
    return (
        judge
        if free
        else RecallingJudge(judge, cache, table.price.model_dump(exclude={"source"}), labels, served)
    )


def must_have_prices(config: Config, limits: BudgetTable) -> None:
    """Raise ConfigError for a budget in USD if a paid judge has no price."""
    free = [judge.name for judge in config.judges if isinstance(judge, EndpointTable) and not judge.has_price]
    if limits.usd is not None and free:
        raise ConfigError(f"a budget in USD needs the price of {free[0]!r}", "give the judge a price")
