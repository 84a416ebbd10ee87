"""What can be said before money is spent: a check of the data, a plan of labels, a rehearsal."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trustescalate.attempts import first_share
from trustescalate.batch import must_be_labelled, to_label
from trustescalate.cascade import Cascade, cascade_of, certified_cascade, collect_judgments, run_cascade
from trustescalate.config import (
    AskedTable,
    CallableJudge,
    Config,
    GuaranteeTable,
    OpenAIJudge,
    RewardJudge,
    ScoreJudge,
    parse_config,
)
from trustescalate.dataset import ITEM, Dataset, duplicates, load_dataset, load_items
from trustescalate.doubts import facts_and_doubts
from trustescalate.errors import CertificateMismatch, DataError, NoCertificate, NotMeasurable
from trustescalate.jsonl import digest, read_rows
from trustescalate.judges.base import Ask, Backend, Judge, Tariff
from trustescalate.judges.registry import needs_rows, open_judges
from trustescalate.labels import majority
from trustescalate.ledger import labels_of, read_ledger, row_digest
from trustescalate.project import Project
from trustescalate.scoring import Scorer
from trustescalate.selection import Selection, must_be_clusters
from trustescalate.simulate import SimulatedBackend
from trustescalate.stats.conformal import fewest_rows
from trustescalate.stats.planning import coverage_ceiling, label_floor, labels_needed, max_errors, power
from trustescalate.types import SKIP, Annotation, Clusters, Decision, Item, Judgment, Reply, Request, Usage
from trustescalate.values import Policy, values_of

MOST_VALUES_SHOWN = 12
GUESSED_THRESHOLD = 0.8
FEW_PILOT = 30
"""With fewer unlabelled rows the expected coverage of a policy is little more than a guess."""

ENOUGH_TO_FIT = 50
"""From so many rows on a logistic score can be better than a plain one."""

# ── check ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Inspection:
    """What `check` found: facts as (name, value), and what a careful colleague would warn of."""

    facts: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {"facts": dict(self.facts), "warnings": list(self.warnings)}


def inspect_project(project: Project) -> Inspection:
    """Read everything, ask nobody. Raises ConfigError or DataError as any other command would."""
    config, data = project.config, load_dataset(project.config)
    selected = project.select(data)
    roles = selected.roles
    task, promise = config.task.task(), config.guarantee
    truth = majority(task, data.annotations)
    said = Counter("no majority" if label is None else label for label in truth.values())
    facts = (
        ("task", f"{task.kind}: {task.question} ({', '.join(task.labels)})"),
        ("items", f"{len(data.items):,}, of which {len(data.labelled):,} are labelled{_picked(data)}"),
        ("annotators", f"{len({row.annotator for row in data.annotations})}"),
        ("labels", ", ".join(f"{label} {count:,}" for label, count in sorted(said.items())) or "none"),
        ("roles", ", ".join(f"{role} {len(ids):,}" for role, ids in roles.items())),
        ("promise", _promised(promise)),
        *_test_facts(selected),
        *_ledger_facts(project, data, selected),
        *_batch_facts(project, data),
        *_value_facts(project, data, roles),
        *_score_facts(project),
        ("votes an item", f"up to {config.ensemble.members * (1 + config.ensemble.swap)} a judge"),
        ("judges", ", ".join(f"{judge.name} ({judge.backend})" for judge in config.judges)),
    )
    seen, doubts = facts_and_doubts(task, data.items, data.annotations, roles)
    return Inspection((*facts, *seen), (*_warnings(project, data, selected), *doubts))


def _promised(promise: GuaranteeTable) -> str:
    if promise.claim == "expected":
        return f"alpha {promise.alpha:g} in expectation only; every judge is asked about every item"
    return f"alpha {promise.alpha:g}, delta {promise.delta:g}, path {promise.path}"


def inspect_data(path: Path) -> Inspection:
    """Look at a folder or a file of items without a configuration; annotations.jsonl lies beside it.

    The task is what the rows look like. Raises DataError for rows that no task fits.
    """
    items_path = path / "items.jsonl" if path.is_dir() else path
    notes_path = items_path.with_name("annotations.jsonl")
    first = next((row.record for row in read_rows(items_path, Item).rows), None)
    said = (
        {row.record.label for row in read_rows(notes_path, Annotation).rows} if notes_path.exists() else set()
    )
    judge = {"name": "nobody", "backend": "replay", "votes": "votes.jsonl"}
    files = {"items": items_path.name} | ({"annotations": notes_path.name} if notes_path.exists() else {})
    given = {"version": 1, "task": _guessed(first, said - {SKIP}), "data": files, "judges": [judge]}
    config = parse_config(given, items_path.with_name("trustescalate.toml"))
    task, data = config.task.task(), load_dataset(config)
    counts = Counter(said or "no majority" for said in majority(task, data.annotations).values())
    facts = (
        ("task", f"looks {task.kind} ({', '.join(task.labels)}); there is no configuration"),
        ("items", f"{len(data.items):,}, of which {len(data.labelled):,} are labelled"),
        ("annotators", f"{len({row.annotator for row in data.annotations})}"),
        ("labels", ", ".join(f"{label} {count:,}" for label, count in sorted(counts.items())) or "none"),
    )
    seen, doubts = facts_and_doubts(task, data.items, data.annotations, {})
    loose = [_sharing(ids) for ids in duplicates(data.items)[:5]]
    return Inspection((*facts, *seen), (*loose, *doubts))


def _guessed(item: Item | None, labels: set[str]) -> dict[str, Any]:
    if item is not None and len(item.responses) == 2:
        return {"kind": "pairwise"}
    if labels <= {"pass", "fail"}:
        return {"kind": "binary"}
    if all(label.isdecimal() and len(label) < 3 for label in labels) and len(labels) > 1:
        return {"kind": "rating", "scale": [min(map(int, labels)), max(map(int, labels))]}
    return {"kind": "choice", "labels": sorted(labels)}


def _test_facts(selected: Selection) -> list[tuple[str, str]]:
    """How the rows to certify with come about, where they are not simply all, one of each group."""
    found, weights = list[tuple[str, str]](), selected.weighting
    if (given := selected.drawn_from) is not None:
        found.append(("clusters", _cluster_fact(given)))
    if weights is not None:
        found.append(("weights", f"{weights.kept:,} of {weights.offered:,} rows kept ({weights.source})"))
    if selected.region is not None:
        rows = len(selected.roles["region"])
        found.append(("region", f"{rows:,} rows where the tested policies accept, besides those from all"))
    if selected.look is not None:
        look = selected.look
        found.append(("look", f"{look.number} of {len(look.sizes)}, with {look.share:g} of delta"))
    return found


def _ledger_facts(project: Project, data: Dataset, selected: Selection) -> list[tuple[str, str]]:
    """How often the labels to certify with were tested, and which labels may not be any more."""
    ledger, certify = read_ledger(project.config.folder), set(selected.roles["certify"])
    labels = labels_of([item for item in data.items if item.id in certify], data.annotations)
    times, before = ledger.times(labels), ledger.before(labels)
    tested = [times[row] for row, _ in labels.rows if times[row]]
    found = [("tested before", "none of the labels to certify with")]
    if before:
        found = [
            (
                "tested before",
                f"{len(tested):,} of {len(labels.rows):,} labels to certify with, at most "
                f"{max(times.values())} times; {ledger.spent(labels):.3g} of delta is spent",
            )
        ]
    read = [item.id for item in data.labelled if row_digest(item) in ledger.chosen_by]
    if read:
        commands = ", ".join(sorted(set(ledger.chosen_by.values())))
        found.append(("read to choose by", f"{len(read):,} labels ({commands}): no other test may use them"))
    return found


def _cluster_fact(given: Clusters) -> str:
    least, middle, most = given.sizes
    tested = {
        "one_each": "one row of each is tested",
        "row_weighted": f"one row of each, kept in {given.kept:,} in proportion to its size",
        "bet": f"tested by betting, with at most {given.largest} rows to a cluster",
    }
    return (
        f"{given.count:,} by {given.by}, of {least:,} to {most:,} labelled rows (median {middle:,}); "
        f"{tested[given.test]}"
    )


def _picked(data: Dataset) -> str:
    """Labels that certify nothing, where there are any."""
    picked = len(data.annotated) - len(data.labelled) - len(data.in_region)
    return f"; {picked:,} more were picked for people, and certify nothing" if picked else ""


def _batch_facts(project: Project, data: Dataset) -> tuple[tuple[str, str], ...]:
    drawn = project.draw(data)
    if drawn is None:
        return ()
    missing = len(to_label(drawn, data))
    said = f"{drawn.size:,} items; {len(drawn.drawn):,} rows drawn to be labelled, {missing:,} still to do"
    return (("batch", said),)


def _value_facts(
    project: Project, data: Dataset, roles: Mapping[str, Sequence[str]]
) -> tuple[tuple[str, str], ...]:
    counts = _value_counts(project, data, roles)
    if not counts:
        return ()
    shown = [f"{value} {n:,}" for value, n in counts.most_common(MOST_VALUES_SHOWN)]
    more = [f"and {len(counts) - MOST_VALUES_SHOWN:,} more"] if len(counts) > MOST_VALUES_SHOWN else []
    return ((f"a promise for each {project.config.groups.by}", ", ".join([*shown, *more])),)


def _value_counts(project: Project, data: Dataset, roles: Mapping[str, Sequence[str]]) -> Counter[str]:
    """Certification rows by value of [groups] by, those without a value left out."""
    by, certify = project.config.groups.by, set(roles["certify"])
    if by is None:
        return Counter()
    return Counter(values_of([item for item in data.items if item.id in certify], by).values())


def _value_warnings(project: Project, counts: Counter[str]) -> list[str]:
    given, promise = project.config.groups, project.config.guarantee
    held = {value: given.weights.get(value, 1.0) for value, n in counts.items() if n >= given.fewest}
    found = []
    for value, n in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
        at = f"{given.by} {value!r}: {n} rows to certify with"
        if value not in held:
            found.append(f"{at}, fewer than {given.fewest}: it is not tested, and abstains")
            continue
        share = promise.delta * held[value] / sum(held.values())
        floor = label_floor(given.alpha.get(value, promise.alpha), share)
        if n < floor:
            found.append(f"{at}; fewer than {floor} certify nothing with its share of delta")
    return found[:5]


def _score_facts(project: Project) -> tuple[tuple[str, str], ...]:
    given = project.config.ensemble
    if not given.fitted:
        return ()
    who = "people on dev rows" if given.learn_from == "people" else "the last judge's verdicts"
    curve = f", {given.recalibrate}" if given.recalibrate else ""
    return (("scores", f"{given.estimator}{curve}, fitted to {who}"),)


def _too_few(promise: GuaranteeTable, selected: Selection, rows: int) -> list[str]:
    if selected.missing:
        return [f"the first look needs {selected.missing:,} more rows to certify with"]
    share = first_share(promise.attempts) if selected.look is None else selected.look.share
    floor, can = label_floor(promise.alpha, promise.delta * share), "certify"
    if promise.claim == "expected":
        floor, can = fewest_rows(promise.alpha), "release"
    return [f"{rows} rows to certify with; fewer than {floor} can {can} nothing"] if rows < floor else []


def _pilot_warnings(config: Config, pilot: int) -> list[str]:
    if config.guarantee.path == "tierwise" or pilot >= min(FEW_PILOT, config.guarantee.pilot):
        return []
    return [
        f"{pilot} items without labels, or rows in the roles dev and holdout, to lay out the path; below "
        f"{FEW_PILOT} testing may start at poor places: bring more, or set [roles] dev = 0.2"
    ]


def _warnings(project: Project, data: Dataset, selected: Selection) -> list[str]:
    config, roles = project.config, selected.roles
    certify = len(roles["certify"]) + len(roles.get("region", ()))
    drawn = project.draw(data)
    found = _cluster_warnings(project, data) if drawn is None else []
    try:
        if drawn is None or not to_label(drawn, data):
            project.exemplars(data, roles["exemplars"])
    except DataError as error:
        found += error.problems
    try:
        project.ledger(roles["certify"])
    except CertificateMismatch as error:
        found.append(error.message)
    if drawn is None:
        found += _too_few(config.guarantee, selected, certify)
    if needs_rows(config):
        from trustescalate.judges.classical import FEWEST

        fitted = len(project.fitting_rows(data, roles))
        if fitted < FEWEST:
            found.append(
                f"{fitted} rows to fit a classical judge on, it needs {FEWEST}: set [roles] dev = 0.3"
            )
    found += _pilot_warnings(config, len(roles["pilot"]))
    found += _value_warnings(project, _value_counts(project, data, roles))
    rows = len(roles["dev"]) + (len(roles["pilot"]) if config.ensemble.learn_from == "dearest" else 0)
    if config.ensemble.fitted and rows < ENOUGH_TO_FIT:
        found.append(
            f"{rows} rows to fit scores on; below {ENOUGH_TO_FIT} they are no better than plain ones"
        )
    for judge in config.judges:
        if isinstance(judge, OpenAIJudge | ScoreJudge):
            name = judge.api_key_env or ("OPENAI_API_KEY" if judge.base_url is None else None)
            if name is not None and not os.environ.get(name):
                found.append(f"judge {judge.name}: the variable {name} is not set")
    if drawn is None and not data.unlabelled:
        found.append("every item is labelled, so `run` needs --items")
    return found


def _cluster_warnings(project: Project, data: Dataset) -> list[str]:
    found = []
    try:
        must_be_clusters(project.config, data)
    except NotMeasurable as error:
        found.append(f"{error.message}; {error.hint}")
    if project.config.data.group == ITEM:
        return found
    return found + [_sharing(ids) for ids in duplicates(data.items)[:5]]


def _sharing(ids: Sequence[str]) -> str:
    named = ", ".join(ids[:4]) + (", …" if len(ids) > 4 else "")
    return f"items {named} share a prompt and no group; set [data] group if they hang together"


# ── plan ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Plan:
    """How many certification rows a promise needs. None: no number would do."""

    alpha: float
    delta: float
    disagreement: float
    coverage: float
    floor: int
    needed: int | None
    ceiling: float | None
    rows: tuple[int, ...]
    allowed: tuple[int, ...]
    power: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For a terminal."""
        needed = "no number of labels up to ten million would do"
        if self.needed is not None:
            needed = f"label about {self.needed:,} rows (power 0.8)"
        said = [
            f"To promise at most {self.alpha:g} disagreement with probability {1 - self.delta:g}:",
            f"  fewer than {self.floor} released certification rows can never do it",
            f"  with {self.disagreement:g} disagreement and {self.coverage:g} released: {needed}",
        ]
        if self.ceiling is not None:
            said.append(f"  no method of any kind can release more than {self.ceiling:.1%} of the items")
        said.append(f"  {'rows':>8} {'errors allowed':>16} {'power':>8}")
        for rows, allowed, chance in zip(self.rows, self.allowed, self.power, strict=True):
            said.append(f"  {rows:>8,} {allowed if allowed >= 0 else '—':>16} {chance:>8.2f}")
        return said


def plan_labels(
    alpha: float, delta: float, disagreement: float, coverage: float, overall: float | None
) -> Plan:
    """Labels that a certificate takes, from guesses: disagreement among released verdicts, share released.

    Raises ValueError when a guess is not a share, or nothing is released. One test at delta; a path of tests
    costs a little more.

    >>> plan_labels(0.15, 0.1, 0.08, 0.7, None).needed
    166
    """
    if not (0 <= disagreement <= 1 and 0 < coverage <= 1):
        raise ValueError(f"disagreement and coverage must be shares, not {disagreement} and {coverage}")
    accepted = labels_needed(disagreement, alpha, delta)
    rows = np.array([50, 100, 200, 300, 500, 1_000, 2_000])
    released = (rows * coverage).astype(np.int64)
    return Plan(
        alpha,
        delta,
        disagreement,
        coverage,
        label_floor(alpha, delta),
        None if accepted is None else int(np.ceil(accepted / coverage)),
        None if overall is None else coverage_ceiling(overall, alpha),
        tuple(map(int, rows)),
        tuple(map(int, max_errors(released, alpha, delta))),
        tuple(map(float, power(released, disagreement, alpha, delta))),
    )


# ── dry run ──────────────────────────────────────────────────────────────────────────────────────

REHEARSED = 100
REHEARSAL_HEAD = ("", "judge", "items", "calls", "input tokens", "output", "USD", "min")
LATENCY = 1.0
"""Seconds that a call is assumed to take."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one judge would be asked in one phase. Tokens are counted at four characters each."""

    phase: str
    judge: str
    items: int
    calls: int
    input_tokens: int
    output_tokens: int
    usd: float
    minutes: float


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A dry run with simulated stand-ins. `estimates` covers calibration, a run at most, and a run about."""

    items: int
    estimates: tuple[Estimate, ...]

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {"simulated": True, **asdict(self)}

    def lines(self) -> list[str]:
        """For a terminal."""
        said = [
            "Dry run: simulated stand-ins answered; four characters a token, one second a call.",
            "{:<16} {:<24} {:>8} {:>9} {:>13} {:>8} {:>10} {:>6}".format(*REHEARSAL_HEAD),
        ]
        for row in self.estimates:
            said.append(
                f"{row.phase:<16} {row.judge:<24} {row.items:>8,} {row.calls:>9,} {row.input_tokens:>13,} "
                f"{row.output_tokens:>8,} {row.usd:>10.4f} {row.minutes:>6.1f}"
            )
        for phase in dict.fromkeys(row.phase for row in self.estimates):
            usd = sum(row.usd for row in self.estimates if row.phase == phase)
            said.append(f"{phase}: {usd:.4f} USD in all")
        return said


async def rehearse(project: Project, items: Path | None) -> Rehearsal:
    """What calibrating and running would cost with the user's own configuration, data and prices.

    Up to 100 items are put through the whole path, with simulated models in the place of real ones, and the
    counts are scaled up. Of a batch all is asked by calibration: the run costs nothing. With the claim
    "expected" a run asks every judge about every item. Shares of escalated items are those of the simulation
    unless there is a certificate.
    """
    config, data = project.config, load_dataset(project.config)
    drawn = project.draw(data)
    if drawn is not None:
        must_be_labelled(drawn, data, config.folder)
    roles = project.roles(data)
    todo = load_items(items, config) if items else data.unlabelled or data.labelled
    by_id = {item.id: item for item in data.items}
    fitted = roles["dev"] if config.asks_dev else ()
    tested = (*roles["certify"], *roles.get("region", ()))
    asked = [by_id[item_id] for item_id in dict.fromkeys((*tested, *roles["pilot"], *fitted))]
    whole = config.guarantee.claim == "expected"
    phases: list[tuple[str, Sequence[Item]]] = [
        ("calibrate", asked),
        ("run, every judge" if whole else "run, at most", todo),
    ]
    if drawn is not None:
        todo = tuple(by_id[item_id] for item_id in (*roles["certify"], *roles["undrawn"]))
        phases = [("calibrate, at most", todo)]
    judges, _ = open_judges(
        config,
        project.exemplars(data, roles["exemplars"]),
        wrap=_bare,
        notice=lambda _: None,
        opened=lambda table, _: _stand_in(project, table),
        rows=project.fitting_rows(data, roles),
    )
    estimates: list[Estimate] = []
    for phase, rows in phases:
        votes: list[Judgment] = []
        sample = rows[:REHEARSED]
        await collect_judgments(sample, judges, collect=votes.append, in_flight=16)
        estimates += _estimates(project, phase, votes, len(rows), len(sample))
    if drawn is None and not whole:
        estimates += _estimates(
            project,
            "run, about",
            await _cascade(project, judges, todo[:REHEARSED]),
            len(todo),
            len(todo[:REHEARSED]),
        )
    return Rehearsal(len(todo), tuple(estimates))


async def _cascade(project: Project, judges: Sequence[Judge], items: Sequence[Item]) -> list[Judgment]:
    made: list[Judgment] = []

    def record(judgments: Sequence[Judgment], decision: Decision) -> None:  # noqa: ARG001
        made.extend(judgments)

    cascade = _certified_or_guessed(project, judges, _scorer(project, items))
    await run_cascade(items, cascade, record=record, in_flight=16)
    return made


def _certified_or_guessed(project: Project, judges: Sequence[Judge], scorer: Scorer) -> Cascade:
    """The certificate's cascade, if it has one for so many judges; else one with a threshold of .8."""
    try:
        certificate = project.certificate()
    except NoCertificate:
        certificate = None
    if certificate is None or certificate.status != "certified" or len(certificate.judges) != len(judges):
        return cascade_of(Policy((GUESSED_THRESHOLD,) * len(judges), pooled=False), judges, scorer, None)
    return certified_cascade(certificate, judges, scorer)


def _scorer(project: Project, items: Sequence[Item]) -> Scorer:
    """The certificate's, if it is about these judges; else without any fit, so that all votes are asked."""
    config = project.config
    try:
        certificate = project.certificate()
    except NoCertificate:
        return Scorer(config.task.task(), config.ensemble.estimator)
    same = certificate.estimator == config.ensemble.estimator and certificate.task == config.task.task()
    if same and {seal.judge for seal in certificate.judges} == {judge.name for judge in config.judges}:
        return Scorer.of(certificate, {item.id: item for item in items})
    return Scorer(config.task.task(), config.ensemble.estimator)


def _bare(ask: Ask, endpoint: str, tariff: Tariff) -> Ask:  # noqa: ARG001
    return ask


class _Guess:
    """In the place of a function or a reward model: any answer in its form, the same to the same request."""

    async def complete(self, request: Request) -> Reply:
        value = int(digest(request)[:8], 16) / 2**32
        size = sum(len(message.content) for message in request.messages) // 4
        probs = dict(zip(request.symbols, (value, 1 - value), strict=False))
        return Reply(json.dumps(probs) if probs else repr(value), None, "stop", Usage(1, size))


def _stand_in(project: Project, table: AskedTable) -> Backend:
    if isinstance(table, CallableJudge | RewardJudge | ScoreJudge):
        return _Guess()
    place, last = project.config.judges.index(table), len(project.config.judges) - 1
    return SimulatedBackend("M" if place == last else "XS" if place == 0 else "S")


def _estimates(
    project: Project, phase: str, judgments: Sequence[Judgment], items: int, sample: int
) -> list[Estimate]:
    found = []
    for table in project.config.judges:
        mine = [judgment for judgment in judgments if judgment.judge == table.name]
        usage = sum((judgment.usage for judgment in mine), Usage())
        scale = items / max(1, sample)
        calls = round(usage.calls * scale)
        found.append(
            Estimate(
                phase,
                table.name,
                round(len(mine) * scale),
                calls,
                round(usage.input_tokens * scale),
                round(usage.output_tokens * scale),
                sum(judgment.cost for judgment in mine) * scale,
                calls * LATENCY / (table.concurrency if isinstance(table, OpenAIJudge) else 1) / 60,
            )
        )
    return found
