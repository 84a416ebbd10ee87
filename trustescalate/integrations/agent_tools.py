"""Let coding agents check, plan, calibrate and gate the projects of one folder; knows no host.

Each tool stands on the functions of the command of its name. A result is one JSON object, bounded in size.
"""

import asyncio
import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from trustescalate.analysis.checks import inspect_project
from trustescalate.analysis.dry_run import estimate_calibration
from trustescalate.analysis.sample_size import DISAGREEMENT, plan_labels
from trustescalate.config import BudgetTable, needs_trust
from trustescalate.config.trust import is_trusted
from trustescalate.errors import EXIT_NOT_MEASURABLE, EXIT_PASSED, NotMeasurable, UsageError, explained
from trustescalate.project import Project
from trustescalate.records.jsonl import digest, to_python
from trustescalate.records.progress import Hooks
from trustescalate.report.text import visible

CONFIG = "trustescalate.toml"
MOST_CHARACTERS = 12_000
"""Of a result."""
LONGEST_TEXT = 2_000
MOST_ENTRIES = 50
"""Of an object."""
LONGEST_LISTS = (30, 8, 2)
"""Entries of a list: the first of these with which a result is short enough."""
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
"""Names of environment variables whose values appear in no result."""
NEXT = {
    "check": "fix every error and read every warning; then call plan, or calibrate without `accept`",
    "plan": "labels come from people; choose alpha before they are tested",
    "certified": "commit certificate*.json* and ledger.jsonl; then call `trustescalate run`",
    "pass": "passed; abstained items of the run still need a person",
    "fail": "a measured breach: report it, and change neither [gate] nor labels to make it pass",
    "undecided": "not measurable, so neither passed nor failed: the checks that are undecided state why",
}
NOTES: ContextVar[list[str]] = ContextVar("NOTES")
"""What the functions say during one call."""


class AgentTools:
    """The tools, for the projects in `folder`. Raises FileNotFoundError where there is none.

    `trust` accepts what these projects name beyond themselves, also what is named later; without it such a
    project is refused with the list, unless the user accepted it on the command line.
    """

    def __init__(self, folder: Path, *, trust: bool = False) -> None:
        self._folder, self._trust = folder.resolve(strict=True), trust

    def check(self, config: str = CONFIG) -> dict[str, Any]:
        """Check configuration and data, and warn of what spoils a guarantee. Makes no model call."""
        return {"hint": NEXT["check"], **inspect_project(self._open(config).config).as_dict()}

    def plan(
        self,
        config: str = CONFIG,
        alpha: float | None = None,
        delta: float | None = None,
        disagreement: float | None = None,
        coverage: float = 0.7,
        read_votes: bool = False,
    ) -> dict[str, Any]:
        """Plan how many human labels are needed, by guesses. Makes no model call.

        `alpha`, the risk level, and `delta`, the failure probability, are by default those of the
        configuration, or 0.15 and 0.1. `disagreement` guesses the selective risk, 0.08 by default, and
        `coverage` the share of released items. `read_votes` plans from the votes of an earlier calibration
        instead: the labels that it reads certify nothing later, so ask the user first.
        """
        given = {"alpha": alpha, "delta": delta, "disagreement": disagreement, "coverage": coverage}
        for name, value in given.items():
            if value is not None and not 0 < value < 1:
                raise UsageError(
                    f"{name} = {value:g} does not lie strictly between 0 and 1", f"change {name}"
                )
        if read_votes and disagreement is not None:
            raise UsageError("`read_votes` and `disagreement` exclude each other", "leave one out")
        without = config == CONFIG and not self._path(config).exists()
        project = None if without else self._open(config)
        planned = plan_labels(
            None if project is None else project.config,
            alpha=alpha,
            delta=delta,
            disagreement=disagreement if disagreement is not None or read_votes else DISAGREEMENT,
            coverage=coverage,
        )
        return {"hint": NEXT["plan"], **planned.as_dict()}

    def calibrate(
        self,
        config: str = CONFIG,
        accept: str = "",
        budget_usd: float | None = None,
        budget_calls: int | None = None,
    ) -> dict[str, Any]:
        """Without `accept`: state calls, tokens and cost of a calibration; nothing is spent or written.

        With `accept`, the code of that answer: ask the judges, test the cascade on the labels, and write
        certificate.json. This costs what was stated, and every test of the same labels counts. Ask the user
        first. The budgets stop it before it spends more; they never raise those of [budget].
        """
        project = self._open(config)
        budget = _lower(project.config.budget, usd=budget_usd, calls=budget_calls)
        cost = asyncio.run(estimate_calibration(project.config, budget)).as_dict()
        code = digest(cost, project.config.model_dump(mode="json"))[:12]
        if not accept:
            hint = f'tell the user this cost; after a yes, call calibrate with accept = "{code}"'
            return {"hint": hint, "dry_run": True, "accept": code, "cost": cost}
        if accept != code:
            hint = "call calibrate without `accept`, tell the user the cost that it states, and take its code"
            raise UsageError("`accept` is not the code of this calibration and its cost", hint)
        certificate = asyncio.run(project.calibrate(budget))
        state = {"exit_code": EXIT_PASSED, "hint": NEXT["certified"]}
        if certificate.status == "none":
            state = {"exit_code": EXIT_NOT_MEASURABLE, "hint": f"no certificate: {certificate.advice}"}
        return {**state, "dry_run": False, "cost": cost, "certificate": to_python(certificate)}

    def gate(
        self, config: str = CONFIG, run: str | None = None, baseline: str | None = None
    ) -> dict[str, Any]:
        """Test a run against [gate], by default the last one: only `status` "pass" is a pass. No model call.

        `run` and `baseline` are ids of runs. Writes decision.json, junit.xml and the report of the run.
        """
        project = self._open(config)
        for named in (run, baseline):
            if named is not None and (Path(named).name != named or named == ".."):
                raise UsageError(f"{named!r} is not the id of a run", "give the name of a folder in runs/")
        for base in (project.config.folder, self._folder):  # in the order in which a path is looked up
            beside = self._path(str(base / (project.config.gate.baseline or "")))
            if beside.exists():
                break
        verdict, path = project.gate(run, baseline=baseline)
        state = {"exit_code": verdict.exit_code, "hint": NEXT[verdict.status]}
        return {**state, **to_python(verdict), "written": str(path)}

    def _open(self, config: str) -> Project:
        """Open a project of the folder. Raises UsageError for one outside, or one that needs trust."""
        path = self._path(config)
        hooks = Hooks(
            notice=NOTES.get([]).append,
            before_asking=lambda: self._must_be_trusted(project, asking=True),
        )
        project = Project.open(path, hooks)
        self._must_be_trusted(project, asking=False)
        return project

    def _path(self, name: str) -> Path:
        with suppress(OSError, RuntimeError, ValueError):  # a loop of links, a NUL
            path = (self._folder / name).resolve()
            if path.is_relative_to(self._folder):
                return path
        raise UsageError(f"{name!r} leads out of {self._folder}", "name a path inside this folder")

    def _must_be_trusted(self, project: Project, *, asking: bool) -> None:
        things = needs_trust(project.config)
        if self._trust or not any(asking or thing.used_by == "any" for thing in things):
            return
        if not is_trusted(project.config.folder, things):
            listing = "\n  ".join(["the project names what needs trust:", *(thing.what for thing in things)])
            hint = "show the user this list; who accepts it adds --trust, here or once on the command line"
            raise UsageError(listing, hint)


def answer(work: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    """What one call returns, with `exit_code` and `hint`, and whether it is an error, which is never a pass.

    >>> def call():
    ...     raise UsageError("no labels", "label some")
    >>> answer(call)
    ({'exit_code': 2, 'hint': 'label some', 'error': 'no labels'}, True)
    """
    notes: list[str] = []
    NOTES.set(notes)
    try:
        return _short({"exit_code": EXIT_PASSED, **work(), **({"notes": notes} if notes else {})}), False
    except Exception as error:
        message, hint, code = explained(error)
        stated = {"exit_code": code, "hint": hint, "error": message}
        return _short(stated | ({"notes": notes} if notes else {})), True


def _lower(budget: BudgetTable, **limits: float | None) -> BudgetTable:
    """The lower of two limits each. Raises UsageError for a limit that is not above 0."""
    changed = {}
    for name, limit in limits.items():
        if limit is not None:
            if not 0 < limit < float("inf"):
                raise UsageError(f"budget_{name} = {limit:g} is not above 0", f"raise budget_{name}")
            own = getattr(budget, name)
            changed[name] = limit if own is None else min(own, limit)
    return budget.model_copy(update=changed)


def _short(value: dict[str, Any]) -> dict[str, Any]:
    """Cut long lists and texts; hide keys and control characters.

    >>> _short({"ids": list(range(100))})["ids"][-2:]
    [29, '… and 70 more']
    """
    named = (value for name, value in os.environ.items() if SECRET.search(name) and len(value) > 7)
    secrets = sorted(named, key=len, reverse=True)
    for longest in LONGEST_LISTS:
        body: dict[str, Any] = _cut(value, longest, secrets)
        if len(json.dumps(body)) <= MOST_CHARACTERS:
            return body
    raise NotMeasurable("the result is too long to be shown", "use the command line")


def _cut(value: Any, longest: int, secrets: list[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, "***")
        text, over = visible(value), len(value) - LONGEST_TEXT
        return f"{text[:LONGEST_TEXT]}… and {over:,} more" if over > 0 else text
    if isinstance(value, dict):
        rows = [(_cut(key, longest, secrets), _cut(each, longest, secrets)) for key, each in value.items()]
        over = len(rows) - MOST_ENTRIES
        return dict(rows[:MOST_ENTRIES]) | ({"…": f"and {over:,} more"} if over > 0 else {})
    if isinstance(value, list | tuple):
        over = len(value) - longest
        cut = [_cut(each, longest, secrets) for each in value[:longest]]
        return [*cut, f"… and {over:,} more"] if over > 0 else cut
    return value
