"""Estimate calls, tokens, cost and time without a model call."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trustescalate.analysis.sample_size import GUESSED_THRESHOLD
from trustescalate.calibration.scoring import Scorer
from trustescalate.cascade.runner import (
    Cascade,
    cascade_of,
    certified_cascade,
    collect_judgments,
    run_cascade,
)
from trustescalate.config import (
    AskedTable,
    CallableJudge,
    OpenAIJudge,
    RewardJudge,
    ScoreJudge,
)
from trustescalate.data.batch import must_be_labelled
from trustescalate.data.dataset import load_dataset, load_items
from trustescalate.errors import NoCertificate
from trustescalate.judges.base import Ask, Backend, Judge, Tariff
from trustescalate.judges.registry import open_judges
from trustescalate.judges.simulated import SimulatedBackend
from trustescalate.project import Project
from trustescalate.records import Decision, Item, Judgment, Reply, Request, Usage
from trustescalate.records.jsonl import digest
from trustescalate.records.policies import Policy

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

    cascade = _certified_or_guessed(project, judges, _scorer(project))
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


def _scorer(project: Project) -> Scorer:
    """The certificate's, if it is about these judges; else the configuration's."""
    config = project.config
    try:
        certificate = project.certificate()
    except NoCertificate:
        return Scorer(config.task.task(), config.ensemble.estimator)
    same = certificate.estimator == config.ensemble.estimator and certificate.task == config.task.task()
    if same and {seal.judge for seal in certificate.judges} == {judge.name for judge in config.judges}:
        return Scorer.of(certificate)
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
