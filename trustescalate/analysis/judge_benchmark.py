"""Benchmark each judge on labelled rows against baselines without a judge and human agreement.

The benchmark is no certificate: judges chosen by these figures must be certified on other rows.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from trustescalate.analysis.judge_measures import (
    certified_coverage,
    length_bias,
    longer_response,
    order_flips,
    position_bias,
    selective_coverage,
)
from trustescalate.calibration.files import CERTIFICATE_VOTES
from trustescalate.calibration.judge_findings import (
    Confusion,
    confusion_matrix,
    draws_alike,
    findings,
    surest_disagreements,
)
from trustescalate.calibration.prepare import record_choice, select_rows
from trustescalate.calibration.votes import confidence
from trustescalate.cascade.fit_judges import fitting_rows
from trustescalate.cascade.panel import Asking, open_panel
from trustescalate.cascade.runner import collect_judgments
from trustescalate.cascade.shared_replies import SharedReplies, asks_together
from trustescalate.config import BudgetTable, Config
from trustescalate.data.dataset import Dataset, load_dataset
from trustescalate.data.labels import majority, stated_labels
from trustescalate.errors import NotMeasurable
from trustescalate.judges.base import Judge
from trustescalate.judges.exemplars import exemplars_of
from trustescalate.records import (
    Disagreement,
    Item,
    Judgment,
    Label,
    SampleReply,
    Task,
    TaskKind,
    Usage,
    sample_replies,
)
from trustescalate.records.item_columns import items_of
from trustescalate.records.jsonl import read_rows
from trustescalate.records.progress import Hooks
from trustescalate.records.votes import Enough
from trustescalate.report.failed_votes import failed_votes_lines
from trustescalate.report.terminal import table_lines
from trustescalate.stats.agreement import leave_one_out_agreement
from trustescalate.stats.bounds import IntArray, clopper_pearson_interval
from trustescalate.stats.calibration import auroc, expected_calibration_error
from trustescalate.stats.confidence import ESTIMATORS

RowsFrom = Literal["dev", "certify"]
INTERVAL_DELTA = 0.05
SPENT = "these rows are for certification: judges chosen by these figures must be certified on others"
THOUSAND = 1000
NO_VERDICT = "no verdict"


@dataclass(frozen=True, slots=True)
class Standing:
    """One judge with one estimator on n rows. Rows without a verdict or a majority count as disagreement.

    `alone` is the largest share of rows above a threshold with at most alpha disagreement, optimistic;
    `certified` is the share that a test on these rows would release, None if none passes. `flips` of
    `flippable` verdicts of one prompt change with the order. `position_lean` is the position bias,
    `length_lean` the length bias, both differences in share, None if not measurable. `seconds` are wall time
    with all judges at work; None for recorded or cached votes. `usd` is None where no price is set.
    `confusion` and `surest` are as in `JudgeDiagnostics`; `findings` say what is wrong with the judge.
    """

    judge: str
    estimator: str
    n: int
    agreements: int
    interval: tuple[float, float]
    auroc: float | None
    ece: float | None
    alone: float
    certified: float | None
    flips: int
    flippable: int
    position_lean: float | None
    length_lean: float | None
    votes: int
    failures: Mapping[str, int]
    samples: Mapping[str, Sequence[SampleReply]]
    confusion: Confusion
    surest: tuple[Disagreement, ...]
    findings: tuple[str, ...]
    tokens: float
    usd: float | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Baseline:
    """A rule without a judge, or human agreement; counts are comparisons."""

    name: str
    n: int
    agreements: int
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Bench:
    """The benchmark of all judges. Tokens, USD and seconds are per 1,000 items."""

    rows: RowsFrom
    n: int
    alpha: float
    delta: float
    labels: tuple[Label, ...]
    recorded: bool
    standings: tuple[Standing, ...]
    baselines: tuple[Baseline, ...]
    warning: str

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For a terminal."""
        head, *rows = self._table()
        failed = [
            text
            for row in self._once()
            for text in failed_votes_lines(row.judge, row.votes, row.failures, row.samples)
        ]
        table = table_lines(head, rows, "<" + ">" * (len(head) - 1))
        return [*self._intro(), *table, *failed, *self._details(), *self._outro()]

    def _details(self) -> Iterable[str]:
        """What is wrong with each judge, its confusion matrix and its surest disagreements."""
        for row in self._once():
            yield from (f"  {row.judge} {sentence}" for sentence in row.findings)
        for row in self._once():
            columns = [f"human labels by verdict of {row.judge}", *self.labels, "none"]
            named = zip((*self.labels, "no majority"), row.confusion, strict=True)
            cells = [[name, *(f"{n:,}" for n in counts)] for name, counts in named if any(counts)]
            yield from table_lines(columns, cells, "<" + ">" * (len(columns) - 1))
            for one in row.surest:
                human = one.human or "no majority"
                yield f"  {one.item_id}: {one.verdict} with a score of {one.score:.2f}, people {human}"

    def markdown(self) -> str:
        """Return the table in Markdown."""
        head, *rows = self._table()
        marks = ["---", *["---:"] * (len(head) - 1)]
        lines = (head, marks, *rows)
        cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
        table = [f"| {' | '.join(row)} |" for row in cells]
        return "\n".join([*self._intro(), "", *table, "", *self._outro()]) + "\n"

    def _intro(self) -> list[str]:
        source = "recorded votes" if self.recorded else "votes of model calls or cache hits"
        return [f"{self.n:,} labelled rows in the role {self.rows}, {source}; costs per 1,000 items:"]

    def _outro(self) -> list[str]:
        text = (
            f"alone: coverage at a selective risk of {self.alpha:g} on these rows, without a test; tested: "
            f"coverage that a test with delta = {self.delta:g} on these rows would certify. Neither is a "
            "certificate."
        )
        return [text, self.warning] if self.warning else [text]

    def _once(self) -> Iterable[Standing]:
        return {row.judge: row for row in self.standings}.values()

    def _table(self) -> list[list[str]]:
        head = (
            "judge|estimator|agreement|95 %|AUROC|ECE|alone|tested|flips|position|length|failed|tokens|USD|s"
        )
        rows = [head.split("|")]
        for row in self.standings:
            failed = sum(row.failures.values())
            rows.append(
                [
                    row.judge,
                    row.estimator,
                    *([NO_VERDICT, "—"] if row.ece is None else _agreement(row)),
                    _plain(row.auroc),
                    _plain(row.ece),
                    _percent(row.alone),
                    "none" if row.certified is None else _percent(row.certified),
                    _percent(row.flips / row.flippable) if row.flippable else "—",
                    _signed(row.position_lean),
                    _signed(row.length_lean),
                    _percent(failed / row.votes) if row.votes else "—",
                    f"{row.tokens:,.0f}",
                    "unknown" if row.usd is None else f"{row.usd:.4f}",
                    "—" if row.seconds is None else f"{row.seconds:.1f}",
                ]
            )
        for rule in self.baselines:
            share, limits = _percent(rule.agreements / rule.n), _range(rule.interval)
            rows.append([rule.name, "—", share, limits, *["—"] * (len(rows[0]) - 4)])
        return rows


async def bench(
    config: Config, hooks: Hooks, *, rows: RowsFrom = "dev", budget: BudgetTable | None = None
) -> Bench:
    """Benchmark the judges of a configuration on the labelled rows of one role.

    Uses the recorded votes of the certificate if they cover all these rows for all judges in their present
    form; otherwise calls the judges, within the budget. Raises NotMeasurable if no row of the role has a
    label, and the errors of model calls.
    """
    data = load_dataset(config)
    task = config.task.task()
    roles = select_rows(config, data).roles
    truth, wanted = majority(task, data.annotations), set(roles[rows])
    items = [item for item in items_of(data.items, wanted) if item.id in truth]
    if not items:
        hint = "set [roles] dev = 0.3" if rows == "dev" else "label some items"
        raise NotMeasurable(f"no row in the role {rows} has a label", hint)
    record_choice(config, "judges bench", (item.id for item in items))
    judged, seconds, recorded = await _read_votes(config, hooks, data, roles, items, budget)
    place = {label: i for i, label in enumerate(task.labels)}
    answers = np.array([place.get(truth[item.id] or "", -1) for item in items])
    standings = [
        _measure_judge(config, items, answers, name, estimator, own, seconds.get(name))
        for name, own in judged.items()
        for estimator in _estimators(own)
    ]
    return Bench(
        rows,
        len(items),
        config.guarantee.alpha,
        config.guarantee.delta,
        task.labels,
        recorded,
        tuple(standings),
        tuple(_measure_baselines(task, data, items, answers)),
        SPENT if rows == "certify" else "",
    )


Judged = dict[str, list[Judgment]]


async def _read_votes(
    config: Config,
    hooks: Hooks,
    data: Dataset,
    roles: Mapping[str, Sequence[str]],
    items: Sequence[Item],
    budget: BudgetTable | None,
) -> tuple[Judged, Mapping[str, float], bool]:
    """Return judgments by judge in the order of the items, seconds per item, and whether recorded."""
    exemplars, rows = exemplars_of(config, data, roles["exemplars"]), fitting_rows(config, data, roles)
    async with open_panel(config, hooks, exemplars, Asking(budget), rows=rows) as panel:
        judges, spent = panel.judges, panel.budget
        recorded = _recorded_votes(config, judges, items)
        if recorded is not None:
            return recorded, {}, True
        timed = [_Timed(judge) for judge in judges]
        by_item: dict[str, dict[str, Judgment]] = {judge.name: {} for judge in judges}
        shared = SharedReplies(asks_together(config))

        failed = 0

        def collect(judgment: Judgment) -> None:
            nonlocal failed
            by_item[judgment.judge][judgment.item_id] = shared.count(judgment)
            done, failed = len(by_item[judges[-1].name]), failed + judgment.failed
            hooks.progress(spent.progress("benchmarking", done, len(items), failed=failed))

        await collect_judgments(items, timed, collect=collect, in_flight=config.in_flight)
    replayed = {table.name for table in config.judges if table.backend == "replay"}
    judged = {name: [own[item.id] for item in items] for name, own in by_item.items()}
    asked = [each for each in timed if each.name not in replayed and spent.calls]
    return judged, {each.name: each.seconds / len(items) for each in asked}, False


class _Timed:
    """A judge that measures the seconds from its first request to its last answer."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.name, self.fingerprint, self.channel = judge.name, judge.fingerprint, judge.channel
        self.seconds = 0.0
        self._began: float | None = None

    async def judge(self, item: Item, enough: Enough) -> Judgment:
        """As the judge does."""
        if self._began is None:
            self._began = time.monotonic()
        judgment = await self._judge.judge(item, enough)
        self.seconds = time.monotonic() - self._began
        return judgment


def _recorded_votes(config: Config, judges: Sequence[Judge], items: Sequence[Item]) -> Judged | None:
    path: Path = config.folder / CERTIFICATE_VOTES
    if not path.exists():
        return None
    recorded = {(row.judge, row.fingerprint, row.item_id): row for _, row in read_rows(path, Judgment).rows}
    judged: Judged = {}
    for judge in judges:
        own = [recorded.get((judge.name, judge.fingerprint, item.id)) for item in items]
        if None in own:
            return None
        judged[judge.name] = [row for row in own if row is not None]
    return judged


def _estimators(judgments: Sequence[Judgment]) -> list[str]:
    """The ways of reading that tell these votes apart."""
    drawn = any(vote.channel == "samples" for row in judgments for vote in row.votes)
    wanted = ["ensemble", *(["sampled"] if drawn else [])]
    return [name for name in wanted if name in ESTIMATORS]


def _measure_judge(
    config: Config,
    items: Sequence[Item],
    truth: IntArray,
    name: str,
    estimator: str,
    judgments: Sequence[Judgment],
    seconds: float | None,
) -> Standing:
    task, guarantee = config.task.task(), config.guarantee
    read = confidence(task, estimator, judgments)
    score, label = read.score, read.label
    decided = label >= 0
    right = decided & (label == truth)
    agreements = int(right.sum())
    votes = [vote for row in judgments for vote in row.votes]
    usage = sum((vote.usage for vote in votes), Usage())
    flips, flippable = order_flips(task, judgments)
    priced = all(table.has_price for table in config.judges if table.name == name)
    area = auroc(score[decided], right[decided])
    confusion = confusion_matrix(label, truth, len(task.labels))
    return Standing(
        judge=name,
        estimator=estimator,
        n=len(items),
        agreements=agreements,
        interval=clopper_pearson_interval(agreements, len(items), INTERVAL_DELTA),
        auroc=area,
        ece=expected_calibration_error(score[decided], right[decided]),
        alone=selective_coverage(score, right, guarantee.alpha),
        certified=certified_coverage(score, label, truth, guarantee.alpha, guarantee.delta),
        flips=flips,
        flippable=flippable,
        position_lean=position_bias(task, judgments),
        length_lean=length_bias(task, items, label, truth),
        votes=len(votes),
        failures=dict(sorted(Counter(vote.failure for vote in votes if vote.failure).items())),
        samples=sample_replies(judgments),
        confusion=confusion,
        surest=surest_disagreements([item.id for item in items], score, label, truth, right, task.labels),
        findings=tuple(findings(task.labels, confusion, area, *draws_alike(judgments))),
        tokens=(usage.input_tokens + usage.output_tokens) / len(items) * THOUSAND,
        usd=sum(vote.cost for vote in votes) / len(items) * THOUSAND if priced else None,
        seconds=None if seconds is None else seconds * THOUSAND,
    )


def _measure_baselines(
    task: Task, data: Dataset, items: Sequence[Item], truth: IntArray
) -> Iterable[Baseline]:
    n = len(items)

    def rule(name: str, right: int) -> Baseline:
        return Baseline(name, n, right, clopper_pearson_interval(right, n, INTERVAL_DELTA))

    if task.kind is TaskKind.PAIRWISE:
        yield rule("always A", int((truth == 0).sum()))
        yield rule("longer response", int(((truth >= 0) & (truth == longer_response(items))).sum()))
    else:
        commonest = int(np.bincount(truth[truth >= 0], minlength=1).argmax())
        yield rule(f"always {task.labels[commonest]}", int((truth == commonest).sum()))
    wanted = {item.id for item in items}
    stated = [
        note
        for notes in stated_labels(task, [row for row in data.annotations if row.item_id in wanted]).values()
        for note in notes
    ]
    row = np.unique([note.item_id for note in stated], return_inverse=True)[1]
    who = np.unique([note.annotator for note in stated], return_inverse=True)[1]
    label = np.array([task.labels.index(note.label) for note in stated])
    human = leave_one_out_agreement(row, who, label, INTERVAL_DELTA)
    if human is not None:
        name = "human leave-one-out agreement"
        yield Baseline(name, human.comparisons, human.agreements, human.interval)


def _agreement(row: Standing) -> list[str]:
    return [_percent(row.agreements / row.n), _range(row.interval)]


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _range(limits: tuple[float, float]) -> str:
    return f"{limits[0]:.0%}-{limits[1]:.0%}"


def _plain(value: float | None) -> str:
    return "—" if value is None else f"{value:.2f}"


def _signed(value: float | None) -> str:
    return "—" if value is None else f"{value:+.1%}"
