"""Estimate calls, tokens, cost and time of calibration and runs without a model call."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trustescalate.calibration.files import CERTIFICATE_VOTES, read_certificate
from trustescalate.calibration.prepare import draw_batch, select_rows
from trustescalate.calibration.scoring import Scorer
from trustescalate.cascade.batch import must_offer_batches
from trustescalate.cascade.fit_judges import fit_judges, fitting_rows
from trustescalate.cascade.panel import must_have_prices
from trustescalate.cascade.runner import (
    Cascade,
    cascade_of,
    certified_cascade,
    collect_judgments,
    run_cascade,
    uncertified_cascade,
)
from trustescalate.cascade.shared_replies import count_once
from trustescalate.cascade.uncertified import must_name_judges, prepare
from trustescalate.config import (
    AskedTable,
    BudgetTable,
    CallableJudge,
    ChatTable,
    ClassicalJudge,
    Config,
    DecisionsJudge,
    JudgeTable,
    MockJudge,
    ReplayJudge,
    RewardJudge,
    ScoreJudge,
    SimulatedJudge,
)
from trustescalate.data.batch import must_be_labelled
from trustescalate.data.dataset import Dataset, load_dataset, load_items
from trustescalate.errors import CertificateMismatch, NoCertificate
from trustescalate.judges.base import Backend, Judge
from trustescalate.judges.decision_wire import guessed, questions_of
from trustescalate.judges.exemplars import exemplars_of
from trustescalate.judges.registry import open_judges, tariff
from trustescalate.judges.simulated import SimulatedBackend
from trustescalate.records import Decision, Item, Judgment, Reply, Request, Usage
from trustescalate.records.item_columns import items_by_id
from trustescalate.records.jsonl import digest, read_rows
from trustescalate.records.policies import Policy
from trustescalate.records.progress import Hooks
from trustescalate.records.stored import select_items
from trustescalate.report.terminal import table_lines

GUESSED_THRESHOLD = 0.8
SAMPLE = 100
"""Items that simulated judges judge; counts are scaled up from them."""
BATCH_MINUTES = 24 * 60.0
"""Minutes of one batch: a Batch API answers within a day."""
LATENCY = 1.0
"""Seconds that a call is assumed to take before its reply begins."""
SPEED = 50.0
"""Output tokens that are assumed to come in a second."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The cost of one judge in one phase; `usd` is None where no price is set.

    Tokens per call are those of the certificate's votes where they are this judge's (`recorded`), else
    estimated at four characters each.
    """

    phase: str
    judge: str
    items: int
    calls: int
    input_tokens: int
    output_tokens: int
    usd: float | None
    minutes: float
    recorded: bool = False
    price_source: str | None = None


async def _run_cascade(
    config: Config, judges: Sequence[Judge], items: Sequence[Item], thresholds: Mapping[str, float] | None
) -> list[Judgment]:
    votes: list[Judgment] = []

    def record(judgments: Sequence[Judgment], decision: Decision) -> None:  # noqa: ARG001
        votes.extend(judgments)

    if thresholds is None:
        cascade = _open_cascade(config, judges)
    else:
        cascade = uncertified_cascade(
            thresholds, judges, Scorer(config.task.task(), config.ensemble.estimator)
        )
    await run_cascade(items, cascade, record=record, in_flight=16)
    return votes


def _open_cascade(config: Config, judges: Sequence[Judge]) -> Cascade:
    """Open the cascade of a certificate about these judges, or one with a guessed threshold."""
    task, estimator = config.task.task(), config.ensemble.estimator
    scorer, names = Scorer(task, estimator), {judge.name for judge in config.judges}
    try:
        certificate = read_certificate(config.folder)
    except (NoCertificate, CertificateMismatch):
        certificate = None
    if certificate is not None:
        bound = certificate.estimator, certificate.task, {seal.judge for seal in certificate.judges}
        if bound == (estimator, task, names):
            scorer = Scorer.of(certificate)
    if certificate is None or certificate.status != "certified" or len(certificate.judges) != len(judges):
        return cascade_of(Policy((GUESSED_THRESHOLD,) * len(judges), pooled=False), judges, scorer, None)
    return certified_cascade(certificate, judges, scorer)


class _GuessBackend:
    """Replace what reads no prompt (functions, scores, decisions): a reply in its form by a digest."""

    def __init__(self, *, asks_questions: bool = False) -> None:
        self._asks_questions = asks_questions

    async def complete(self, request: Request) -> Reply:
        value = int(digest(request)[:8], 16) / 2**32
        size = sum(len(message.content) for message in request.messages) // 4
        if self._asks_questions:
            answers = [guessed(question, value) for question in questions_of(request)]
            return Reply(json.dumps(answers), None, "stop", Usage(1, size))
        probs = dict(zip(request.symbols, (value, 1 - value), strict=False))
        return Reply(json.dumps(probs) if probs else repr(value), None, "stop", Usage(1, size))


def _simulated_backend(config: Config, table: AskedTable) -> Backend:
    if isinstance(table, CallableJudge | RewardJudge | ScoreJudge | DecisionsJudge):
        return _GuessBackend(asks_questions=isinstance(table, DecisionsJudge))
    place, last = config.judges.index(table), len(config.judges) - 1
    return SimulatedBackend("M" if place == last else "XS" if place == 0 else "S")


def _estimates(
    config: Config,
    phase: str,
    judgments: Sequence[Judgment],
    items: int,
    asked: Sequence[Item],
    *,
    batch: bool,
) -> tuple[Estimate, ...]:
    sample = len(asked)
    scale, recorded = items / max(1, sample), _recorded_usage(config)
    judgments = count_once(config, judgments)
    estimates = []
    for table in config.judges:
        mine = [judgment for judgment in judgments if judgment.judge == table.name]
        usage = sum((judgment.usage for judgment in mine), Usage())
        usd, calls = sum(judgment.cost for judgment in mine) * scale, usage.calls * scale
        seen = recorded.get((table.name, mine[0].fingerprint)) if mine else None
        tokens = usage.input_tokens * scale, usage.output_tokens * scale
        if seen is not None:
            tokens = calls * seen.input_tokens / seen.calls, calls * seen.output_tokens / seen.calls
            cached = round(calls * seen.cached_tokens / seen.calls)
            usd = tariff(table.price).cost(Usage(round(calls), round(tokens[0]), cached, round(tokens[1])))
        minutes = _minutes(table, calls, *tokens)
        if batch and isinstance(table, ChatTable) and table.has_batches:
            usd, minutes = usd * table.batch_discount, BATCH_MINUTES if calls else 0.0
        judged, called, read, written = (round(each) for each in (len(mine) * scale, calls, *tokens))
        known = usd if table.has_price else None
        estimates.append(
            Estimate(
                phase,
                table.name,
                judged,
                called,
                read,
                written,
                known,
                minutes,
                seen is not None,
                table.price.source,
            )
        )
    return tuple(estimates)


def _recorded_usage(config: Config) -> Mapping[tuple[str, str], Usage]:
    """The usage of the certificate's votes, by judge and fingerprint, where calls are known."""
    path, used = config.folder / CERTIFICATE_VOTES, dict[tuple[str, str], Usage]()
    if path.exists():
        for _, row in read_rows(path, Judgment).rows:
            key = (row.judge, row.fingerprint)
            used[key] = used.get(key, Usage()) + row.usage
    return {key: usage for key, usage in used.items() if usage.calls and usage.input_tokens}


def _minutes(table: JudgeTable, calls: float, input_tokens: float, output_tokens: float) -> float:
    """How long the calls take: their length, what is open at once, and the limits of the rate."""
    if isinstance(table, ReplayJudge | ClassicalJudge | MockJudge | SimulatedJudge):
        return 0.0
    seconds = calls * LATENCY + output_tokens / SPEED
    least = seconds / int(getattr(table, "concurrency", 1)) / 60
    limits: tuple[tuple[float, float | None], ...] = (
        (calls, getattr(table, "requests_per_minute", None)),
        (input_tokens + output_tokens, getattr(table, "tokens_per_minute", None)),
    )
    return max([least, *(needed / limit for needed, limit in limits if limit is not None)])


@dataclass(frozen=True, slots=True)
class Total:
    """The cost of one phase without the judges that have no price, and about how many of its items the budget
    covers."""

    phase: str
    items: int
    calls: int
    usd: float
    covered: int
    unpriced: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DryRun:
    """Cost estimates from simulated judges, by judge and phase; `usd` and `calls` are the budget."""

    items: int
    estimates: tuple[Estimate, ...]
    usd: float | None = None
    calls: int | None = None
    batch: bool = False

    @property
    def totals(self) -> tuple[Total, ...]:
        """One row for each phase."""
        return tuple(self._total(phase) for phase in dict.fromkeys(row.phase for row in self.estimates))

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {"simulated": True, **asdict(self), "totals": [asdict(total) for total in self.totals]}

    def lines(self) -> list[str]:
        """For a terminal."""
        if not self.estimates:
            return ["Dry run: calibration judged the whole batch; a run makes no model calls."]
        titles = ("phase", "judge", "items", "calls", "input tokens", "output tokens", "USD", "minutes")
        rows = [
            (
                row.phase,
                row.judge,
                *(f"{count:,}" for count in counts),
                "unknown" if row.usd is None else f"{row.usd:.4f}",
                f"{row.minutes:.1f}",
            )
            for row in self.estimates
            for counts in [(row.items, row.calls, row.input_tokens, row.output_tokens)]
        ]
        pace = f"{LATENCY:g} second per call and for {SPEED:g} output tokens"
        pace = "answers of a Batch API within a day" if self.batch else pace
        tokens = "four characters per token, which hidden reasoning exceeds"
        if any(row.recorded for row in self.estimates):
            named = dict.fromkeys(row.judge for row in self.estimates if row.recorded)
            tokens = f"tokens per call of {', '.join(named)} as in the certificate's votes"
        sources = {row.judge: row.price_source for row in self.estimates if row.price_source}
        listed = [f"Price of {judge} by {source}." for judge, source in sources.items()]
        return [
            f"Dry run: votes of simulated judges; {tokens}; {pace}.",
            *table_lines(titles, rows, "<<>>>>>>"),
            *listed,
            *map(self._describe, self.totals),
        ]

    def _total(self, phase: str) -> Total:
        rows = [row for row in self.estimates if row.phase == phase]
        items, calls = max(row.items for row in rows), sum(row.calls for row in rows)
        usd = sum(row.usd or 0.0 for row in rows)
        unpriced = tuple(row.judge for row in rows if row.usd is None and row.calls)
        limits = ((self.usd, usd), (self.calls, calls))
        share = min([1.0, *(limit / needed for limit, needed in limits if limit is not None and needed > 0)])
        return Total(phase, items, calls, usd, int(items * share), unpriced)

    def _describe(self, total: Total) -> str:
        needed = f"{total.phase}: {total.usd:.4f} USD and {total.calls:,} calls in all"
        if total.unpriced:
            needed += f" (price unknown: {', '.join(total.unpriced)})"
        limits = [] if self.usd is None else [f"{self.usd:g} USD"]
        limits += [] if self.calls is None else [f"{self.calls:,} calls"]
        if not limits:
            return needed
        budget = f"{needed}; the budget of {' and '.join(limits)} covers"
        whole = total.covered >= total.items
        return f"{budget} it" if whole else f"{budget} about {total.covered:,} of {total.items:,} items"


async def estimate_calibration(
    config: Config, budget: BudgetTable | None = None, *, batch: bool = False
) -> DryRun:
    """Estimate the maximum cost of `calibrate` with the configuration, data and prices of a project.

    Simulated judges judge up to 100 items and the counts are scaled up; cache hits are not subtracted. Raises
    as `calibrate` does for missing data, a budget without prices and an unavailable Batch API.
    """
    data = load_dataset(config)
    budget, drawn = budget or config.budget, draw_batch(config, data)
    if batch:
        must_offer_batches(config, calibrates=True)
    if drawn is not None:
        must_be_labelled(drawn, data, config.folder)
    roles, by_id = select_rows(config, data).roles, items_by_id(data.items)
    fitted = roles["dev"] if config.asks_dev else ()
    wanted = (*roles["certify"], *roles.get("region", ()), *roles["pilot"], *fitted)
    if drawn is not None:
        wanted = (*roles["certify"], *roles["undrawn"])
    asked = [by_id[item_id] for item_id in dict.fromkeys(wanted)]
    judges = await _simulated_judges(config, data, roles, budget)
    phase = "calibrate" if drawn is None else "calibrate, at most"
    sample = asked[: _sampled(config)]
    estimates = await _estimate_all(config, phase, judges, sample, len(asked), batch=batch)
    return DryRun(len(asked), estimates, budget.usd, budget.calls, batch)


async def estimate_run(
    config: Config,
    items: Path | None = None,
    budget: BudgetTable | None = None,
    *,
    batch: bool = False,
    thresholds: Mapping[str, float] | None = None,
    count: int | None = None,
) -> DryRun:
    """Estimate the maximum and expected cost of `run`, as `estimate_calibration` does, with its errors.

    `count` is the number of items, by default of those there are. `thresholds` are those of an uncertified
    run. With the claim "expected" every judge judges every item. The run of a batch makes no model calls and
    has no estimates. Without a certificate, escalation is that of a guessed threshold.
    """
    data = load_dataset(config)
    budget = budget or config.budget
    if batch:
        must_offer_batches(config)
    todo = load_items(items, config) if items else data.unlabelled or data.labelled
    if thresholds is not None:
        must_name_judges(config, thresholds)
        config, roles, _ = prepare(config, Hooks(), data, None)
        if not items:
            made_of = {*roles["exemplars"], *roles["dev"]}
            todo = select_items(data.items, lambda item_id: item_id not in made_of)
    elif config.guarantee.claim == "batch":
        return DryRun(len(todo), (), budget.usd, budget.calls, batch)
    else:
        roles = select_rows(config, data).roles
    judges = await _simulated_judges(config, data, roles, budget)
    whole = config.guarantee.claim == "expected" if thresholds is None else not thresholds
    sample, number = todo[: _sampled(config)], len(todo) if count is None else count
    phase = "run, every judge" if whole else "run, at most"
    estimates = await _estimate_all(config, phase, judges, sample, number, batch=batch)
    if not whole:
        votes = await _run_cascade(config, judges, sample, thresholds)
        estimates += _estimates(config, "run, about", votes, number, sample, batch=batch)
    return DryRun(number, estimates, budget.usd, budget.calls, batch)


async def _simulated_judges(
    config: Config, data: Dataset, roles: Mapping[str, Sequence[str]], budget: BudgetTable
) -> Sequence[Judge]:
    must_have_prices(config, budget)
    fitting = fitting_rows(config, data, roles)
    judges, _ = open_judges(
        config,
        exemplars_of(config, data, roles["exemplars"]),
        wrap=lambda ask, *_: ask,
        notice=lambda _: None,
        opened=lambda table, _: _simulated_backend(config, table),
        rows=fitting,
    )
    return await fit_judges(judges, config.task.task(), config.ensemble.estimator, fitting)


async def _estimate_all(
    config: Config, phase: str, judges: Sequence[Judge], sample: Sequence[Item], items: int, *, batch: bool
) -> tuple[Estimate, ...]:
    votes: list[Judgment] = []
    await collect_judgments(sample, judges, collect=votes.append, in_flight=16)
    return _estimates(config, phase, votes, items, sample, batch=batch)


def _sampled(config: Config) -> int:
    """The number of rows that simulated judges judge: whole items, where these have several rows."""
    rows = max(1, len(config.criteria))
    return max(1, SAMPLE // rows) * rows
