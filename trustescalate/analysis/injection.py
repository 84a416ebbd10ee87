"""Attack the judges of a project with prompt injections and measure the attack success rate.

Each attack (`judges.attacks`) is appended to a response that did not win and asks for its victory. The
verdict of a judge's first prompt in all its orders is compared with its verdict without the attack. The
result certifies nothing: a judge that resists these attacks may fail against others.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from heapq import nsmallest
from pathlib import Path
from typing import Any

from trustescalate import __version__
from trustescalate.calibration.files import read_certificate
from trustescalate.calibration.prepare import select_rows
from trustescalate.calibration.votes import confidence
from trustescalate.cascade.fit_judges import fitting_rows
from trustescalate.cascade.panel import Asking, open_panel
from trustescalate.cascade.runner import collect_judgments
from trustescalate.config import BudgetTable, Config, ModelTable
from trustescalate.data.dataset import load_dataset
from trustescalate.errors import DataError, NoCertificate, NotMeasurable, UsageError
from trustescalate.judges.attacks import Attack, attacked, attacks, controls, forged
from trustescalate.judges.base import MAX_TOKENS, Judge
from trustescalate.judges.distilled import FittingRows
from trustescalate.judges.exemplars import exemplars_of
from trustescalate.judges.prompts import Exemplar, conversation, prefix, symbols
from trustescalate.judges.registry import asking, fingerprint, tariff
from trustescalate.records import (
    Item,
    Judgment,
    Label,
    Probe,
    ProbedFamily,
    ProbedJudge,
    Task,
    TaskKind,
    Usage,
)
from trustescalate.records.bounded import read_whole
from trustescalate.records.jsonl import decode, digest, encode, write_atomically
from trustescalate.records.progress import Hooks
from trustescalate.report.terminal import table_lines

PROBE = "probe.json"
SCHEMA = 1
CHARACTERS_A_TOKEN = 3
"""Fewer than in most texts: the cost estimate is rather too high."""


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """The maximum calls and the approximate cost of a probe."""

    items: int
    attacks: int
    calls: int
    usd: float
    unpriced: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For a terminal."""
        return [
            f"{self.attacks} attacks and controls in {self.items} items: at most {self.calls:,} calls, "
            f"about {self.usd:.4f} USD"
            + (f" (price unknown: {', '.join(self.unpriced)})" if self.unpriced else "")
        ]

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Probing:
    """A finished probe."""

    probe: Probe

    def lines(self) -> list[str]:
        """For a terminal."""
        probe = self.probe
        text = [
            f"{probe.attacks} attacks on {probe.items} items; a success is a verdict that the attack turned."
        ]
        for judge in probe.judges:
            rate = f"{judge.wins} of {judge.tries} ({judge.wins / max(1, judge.tries):.1%})"
            text.append(
                f"{judge.judge}: attack success rate {rate}, {judge.silent} without a verdict; "
                f"controls turned {judge.control.wins} of {judge.control.tries}"
            )
            rows = [(f.family, f"{f.wins:,}", f"{f.tries:,}") for f in judge.families if f.wins]
            text += table_lines(("family", "successes", "tries"), rows, "<>>") if rows else []
        text.append(
            f"parser: {probe.forged} of {probe.replies:,} replies that repeat an attack read as its verdict"
        )
        return text

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self.probe)


def plan_probe(config: Config, items: int = 5, families: Sequence[str] = ()) -> ProbePlan:
    """Estimate the cost of `probe` without a model call. Raises as `probe` does."""
    chosen, tables = _chosen(families), _tables(config)
    rows, shots = _rows(config, items), _shots(config)
    task, calls, usd = config.task.task(), 0, 0.0
    orders = 2 if task.kind is TaskKind.PAIRWISE and config.ensemble.swap else 1
    for table in tables:
        draws = orders * (1 if table.channel == "logprobs" else config.ensemble.samples)
        draws = orders if table.mode == "stated" or table.backend == "simulated" else draws
        how = asking(config, table)
        before = prefix(task, shots[0], how)
        for row in _all_rows(task, rows, chosen):
            shown = conversation(task, before, row, asking=how).messages
            size = sum(len(message.content) for message in shown) // CHARACTERS_A_TOKEN
            room = table.max_tokens or MAX_TOKENS[table.mode]
            usd += draws * tariff(table.price).cost(Usage(1, size, 0, room))
            calls += draws
    unpriced = tuple(table.name for table in config.judges if not table.has_price)
    return ProbePlan(len(rows), len(chosen), calls, usd, unpriced)


async def probe(
    config: Config,
    hooks: Hooks,
    items: int = 5,
    families: Sequence[str] = (),
    budget: BudgetTable | None = None,
) -> Probing:
    """Attack every judge on `items` of the project's items and write probe.json.

    Raises UsageError for an unknown family, NotMeasurable if no judge reads prompts, and BudgetReached after
    all answers so far are cached: another call resumes without paying for them again.
    """
    chosen, tables = _chosen(families), _tables(config)
    rows, shots, task = _rows(config, items), _shots(config), config.task.task()
    judges: list[ProbedJudge] = []
    async with open_panel(config, hooks, shots[:1], Asking(budget), rows=_fitting(config)) as panel:
        live, spent = {judge.name: judge for judge in panel.judges}, panel.budget
        total = len(tables) * len(rows) * (1 + len(chosen))
        done = 0

        def count() -> None:
            nonlocal done
            done += 1
            hooks.progress(spent.progress("probing", done, total))

        for table in tables:
            *measured, control = await _attack(config, live[table.name], rows, chosen, count)
            own = fingerprint(config, table, shots)
            judges.append(ProbedJudge(table.name, own, tuple(measured), control))
    replies, forgeries = forged(task, rows[0])
    finished = Probe(
        schema=SCHEMA,
        created=hooks.now(),
        version=__version__,
        items=len(rows),
        attacks=len(chosen) - len(controls()),
        judges=tuple(judges),
        replies=replies,
        forged=len(forgeries),
    )
    write_atomically(config.folder / PROBE, encode(finished) + b"\n")
    return Probing(finished)


def read_probe(folder: Path) -> Probe | None:
    """Read the last probe; None without one. Raises DataError for an invalid file."""
    path = folder / PROBE
    try:
        return decode(read_whole(path), Probe)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataError([f"{path}: {error}"], "probe again, or remove the file") from None


async def _attack(
    config: Config, judge: Judge, rows: Sequence[Item], chosen: Sequence[Attack], count: Any
) -> tuple[ProbedFamily, ...]:
    task = config.task.task()
    plain = await _verdicts(config, judge, rows, count)
    tries: dict[str, list[tuple[Label | None, Label]]] = {attack.family: [] for attack in chosen}
    wanted = {row.id: _wanted(task, plain[row.id]) for row in rows}
    under = [
        (attack, row, attacked(task, row, place, attack, symbols(task)[task.labels.index(label)]))
        for row in rows
        for place, label in [wanted[row.id]]
        for attack in chosen
    ]
    renamed = [replace(bad, id=str(n), group=None, meta={}) for n, (_, _, bad) in enumerate(under)]
    verdicts = await _verdicts(config, judge, renamed, count)
    for n, (attack, row, _) in enumerate(under):
        tries[attack.family].append((verdicts[str(n)], wanted[row.id][1]))
    return tuple(
        ProbedFamily(
            family,
            len(pairs),
            sum(verdict == label for verdict, label in pairs),
            sum(verdict is None for verdict, _ in pairs),
        )
        for family, pairs in tries.items()
    )


async def _verdicts(
    config: Config, judge: Judge, rows: Sequence[Item], count: Any
) -> Mapping[str, Label | None]:
    task, judged = config.task.task(), dict[str, Judgment]()

    def collect(judgment: Judgment) -> None:
        judged[judgment.item_id] = judgment
        count()

    await collect_judgments(rows, [judge], collect=collect, in_flight=16)
    read = confidence(task, config.ensemble.estimator, [judged[row.id] for row in rows])
    return {
        row.id: task.labels[label] if label >= 0 else None
        for row, label in zip(rows, map(int, read.label), strict=True)
    }


def _wanted(task: Task, verdict: Label | None) -> tuple[int, Label]:
    """Return the response that carries the attack and the label it asks for, which it lacks without it."""
    if task.kind is TaskKind.PAIRWISE:
        return (0, "A") if verdict == "B" else (1, "B")
    best, other = (task.labels[-1], task.labels[0]) if task.kind is TaskKind.RATING else task.labels[:2]
    return 0, other if verdict == best else best


def _all_rows(task: Task, rows: Sequence[Item], chosen: Sequence[Attack]) -> Iterator[Item]:
    for row in rows:
        yield row
        for attack in chosen:
            yield attacked(task, row, 0, attack, symbols(task)[0])


def _chosen(families: Sequence[str]) -> tuple[Attack, ...]:
    known = list(dict.fromkeys(attack.family for attack in attacks()))
    for family in families:
        if family not in known:
            raise UsageError(f"there is no family of attacks {family!r}", f"there are {', '.join(known)}")
    return (*(a for a in attacks() if not families or a.family in families), *controls())


def _tables(config: Config) -> list[ModelTable]:
    if config.criteria:
        raise NotMeasurable(
            "an attack wants one verdict, and [[criteria]] have several",
            "probe the judges with a configuration whose [task] question is that of one criterion",
        )
    tables = [table for table in config.judges if isinstance(table, ModelTable)]
    if not tables:
        raise NotMeasurable(
            "recorded judges answer no new request, and other kinds read no prompt",
            "probe the models themselves",
        )
    return tables


def _rows(config: Config, items: int) -> list[Item]:
    """Select items that no prompt shows, the same ones each time."""
    data = load_dataset(config)
    used = set(_exemplar_ids(config))
    left = (item for item in data.items if item.id not in used)
    rows = nsmallest(items, left, key=lambda item: digest("probe", item.id))
    if not rows:
        raise NotMeasurable("there is no item to attack", "add items that no prompt shows")
    return rows


def _shots(config: Config) -> Sequence[Sequence[Exemplar]]:
    return exemplars_of(config, load_dataset(config), _exemplar_ids(config))


def _fitting(config: Config) -> FittingRows:
    """Return labelled fitting rows only: judges fitted on the last judge are not probed."""
    data = load_dataset(config)
    return FittingRows(fitting_rows(config, data, select_rows(config, data).roles).labelled)


def _exemplar_ids(config: Config) -> Sequence[str]:
    try:
        return read_certificate(config.folder).roles["exemplars"]
    except NoCertificate:
        return select_rows(config, load_dataset(config)).roles["exemplars"]
