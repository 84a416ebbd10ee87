"""Decide single items with a certified cascade, inside another program."""

from asyncio import Semaphore
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from trustescalate.calibration.files import read_certificate
from trustescalate.cascade.panel import Asking, Panel
from trustescalate.cascade.run import must_be_asked_for, open_certified, trusted
from trustescalate.cascade.runner import Cascade, decide_item
from trustescalate.config import Config
from trustescalate.data.dataset import check_item, load_dataset
from trustescalate.errors import UsageError
from trustescalate.records import Certificate, Decision, Item
from trustescalate.records.progress import Hooks


class CertifiedCascade:
    """An open cascade: the judges, their cache and budget, and the policy of a certificate."""

    def __init__(
        self, config: Config, hooks: Hooks, certificate: Certificate, cascade: Cascade, panel: Panel
    ) -> None:
        self.certificate = certificate
        self._config = config
        self._hooks = hooks
        self._cascade = cascade
        self._panel = panel
        self._free = Semaphore(panel.in_flight)

    @property
    def spent(self) -> float:
        """The cost since the cascade was opened, in USD; cache hits cost nothing."""
        return self._panel.budget.spent

    async def decide(self, item: Item) -> Decision:
        """Send one item through the tiers; `label` is None for an abstention.

        The decision is the one that `run` records. Many items may be decided concurrently; only the cache is
        written. Raises DataError for an item that does not fit the task, BudgetReached before a call beyond
        the budget, and ProviderError if a judge cannot be reached.
        """
        checked = check_item(item, self._config)
        async with self._free:
            decision = (await decide_item(checked, self._cascade))[1]
        if self._hooks.decided is not None:
            self._hooks.decided(checked, decision, self.certificate)
        return decision


@asynccontextmanager
async def open_cascade(config: Config, hooks: Hooks, asking: Asking) -> AsyncIterator[CertifiedCascade]:
    """Open the cascade of the certificate with the checks of `run`; close the judges at the end.

    Raises the errors of `run` before any model call, and UsageError for a claim about a whole batch or run,
    which says nothing about a single item.
    """
    if config.guarantee.claim in ("batch", "expected"):
        raise UsageError(
            f'claim = "{config.guarantee.claim}" decides a whole run together, never a single item',
            'use `run`, or calibrate with claim = "population"',
        )
    data = load_dataset(config)
    certificate = read_certificate(config.folder)
    must_be_asked_for(config, data, certificate)
    async with open_certified(config, hooks, data, certificate, asking) as panel:
        cascade = trusted(config, data, certificate, panel.judges)
        assert cascade is not None, "only claim = expected has none"
        yield CertifiedCascade(config, hooks, certificate, cascade, panel)
