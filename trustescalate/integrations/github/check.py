"""Run a project and test the run against [gate], for a step of the action."""

import asyncio
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

from trustescalate.config import needs_trust
from trustescalate.config.override import command_options
from trustescalate.errors import (
    EXIT_BUDGET,
    EXIT_INTERNAL,
    EXIT_NOT_MEASURABLE,
    EXIT_USAGE,
    BudgetReached,
    NotMeasurable,
    TrustEscalateError,
    UsageError,
)
from trustescalate.integrations.github.commands import (
    annotation,
    log,
    no_commands,
    print_masks,
    secret_values,
    without_secrets,
    write_outputs,
    write_summary,
)
from trustescalate.integrations.github.inputs import Event, Inputs, read_event, read_inputs
from trustescalate.integrations.github.offline import (
    NO_CALLS,
    cut_off,
    must_be_recorded,
    must_have_stayed_offline,
    not_recorded,
)
from trustescalate.integrations.github.texts import Outcome, Word, annotations, comment, summary
from trustescalate.project import Project
from trustescalate.records.progress import Hooks
from trustescalate.report.terminal import Screen, gate_lines
from trustescalate.report.text import visible

WORDS: Mapping[int, Word] = {EXIT_BUDGET: "budget", EXIT_NOT_MEASURABLE: "undecided"}
LOG = Screen(100)


def check(environment: Mapping[str, str] = os.environ) -> int:
    """Judge and gate; write masks, annotations, outputs, the step summary and the text of the comment.

    Returns 0 whatever the outcome is, so that the comment is written: the output `conclusion` is the exit
    code that the job ends with.
    """
    environment = dict(environment)  # a configuration names variables, and judging may set these
    root = Path(environment.get("GITHUB_WORKSPACE") or ".")
    given = Path(environment.get("INPUT_CONFIG", "").strip() or "trustescalate.toml")
    secrets = secret_values(given, environment.get("INPUT_SET", "").splitlines(), environment)
    print_masks(secrets)
    inputs, event, offline = None, read_event(environment), False
    try:
        inputs = read_inputs(environment)
        offline = inputs.offline == "true" or (inputs.offline == "auto" and event.from_fork)
        with no_commands():
            outcome = judged(inputs, offline=offline)
            log(visible(without_secrets(_logged(outcome), secrets)))
    except UsageError as error:
        outcome = _ended(error)
    fails = outcome.word == "error" or inputs is None or outcome.word in inputs.fail_on
    for text in annotations(outcome, given, root, secrets, fails=fails):
        log(text)
    write_summary(summary(outcome, secrets, offline=offline), environment)
    file = _comment_file(inputs, event, outcome, secrets, environment, offline=offline)
    write_outputs(
        {**_outputs(outcome, root), "conclusion": outcome.exit_code if fails else 0, "comment-file": file},
        environment,
    )
    return 0


def judged(inputs: Inputs, *, offline: bool) -> Outcome:
    """Run and gate; any error is an outcome, and no bug looks like a breach."""
    try:
        if offline:
            cut_off()
        project = _opened(inputs, offline=offline)
        run = inputs.run or _run(project, inputs, offline=offline)
        verdict, decision = project.gate(None if run == "latest" else run)
        report, _ = project.report(decision.parent.name)
        if offline:
            must_have_stayed_offline()
    except TrustEscalateError as error:
        return _ended(error)
    except OSError as error:
        if offline:
            try:
                must_have_stayed_offline()
            except NotMeasurable as refused:
                return _ended(refused)
        place = f"{error.filename}: " if error.filename else ""
        return Outcome("error", EXIT_USAGE, f"{place}{error.strerror or type(error).__name__}")
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        return Outcome("error", EXIT_INTERNAL, f"internal error: {type(error).__name__}", "this is a bug")
    return Outcome(verdict.status, verdict.exit_code, "", "", verdict, report, decision.parent)


def _opened(inputs: Inputs, *, offline: bool) -> Project:
    hooks = Hooks(notice=lambda text: log(f"note: {visible(text)}"))
    project = Project.open(inputs.config, hooks, overrides=inputs.overrides)
    if offline:
        must_be_recorded(project.config, asking=inputs.run is None)
        return project
    asks = inputs.run is None
    things = [thing for thing in needs_trust(project.config) if asks or thing.used_by == "any"]
    if things and not inputs.trust:
        listing = [f"{inputs.config} names what needs your trust:", *(thing.what for thing in things)]
        raise UsageError("\n  ".join(listing), "read it, then set the input `trust: true`")
    return project


def _run(project: Project, inputs: Inputs, *, offline: bool) -> str:
    """Run the project; return the run's id."""
    limits = {"usd": inputs.budget_usd, "calls": inputs.budget_calls}
    budget = project.config.budget.model_copy(update={k: v for k, v in limits.items() if v is not None})
    words = ["trustescalate", "run", *command_options(inputs.config, inputs.overrides)]
    words += [] if inputs.items is None else ["--items", str(inputs.items)]
    try:
        work = project.run(items=inputs.items, budget=NO_CALLS if offline else budget, command=words)
        return asyncio.run(work).header.id
    except BudgetReached as error:
        if offline:
            raise not_recorded(error) from None
        raise


def _ended(error: TrustEscalateError) -> Outcome:
    return Outcome(WORDS.get(error.exit_code, "error"), error.exit_code, error.message, error.hint)


def _logged(outcome: Outcome) -> str:
    if outcome.verdict is None:
        hint = f"\nhint: {outcome.hint}" if outcome.hint else ""
        return f"error: {outcome.message}{hint}"
    return "\n".join(gate_lines(outcome.verdict.status, outcome.verdict.checks, LOG))


def _comment_file(
    inputs: Inputs | None,
    event: Event,
    outcome: Outcome,
    secrets: tuple[str, ...],
    environment: Mapping[str, str],
    *,
    offline: bool,
) -> str:
    """Write the text of the comment for the next step; empty where there is to be none."""
    if inputs is None or not inputs.comment or event.number is None:
        return ""
    if not event.can_write:
        why = "no comment: the token of this pull request may only read; the step summary has the report"
        log(annotation("notice", why))
        return ""
    file = Path(environment.get("RUNNER_TEMP") or ".") / f"trustescalate-{inputs.key}.md"
    text = comment(outcome, inputs.marker, inputs.name, secrets, offline=offline)
    file.write_text(text, encoding="utf-8", errors="backslashreplace")
    return str(file)


def _outputs(outcome: Outcome, root: Path) -> dict[str, object]:
    """The outputs of the action; one that is not known is empty."""
    names = (
        "run-id",
        "report",
        "report-markdown",
        "junit",
        "certificate",
        "agreement",
        "coverage",
        "abstained",
    )
    known: dict[str, object] = dict.fromkeys(names, "")
    if outcome.report is not None and outcome.folder is not None and outcome.verdict is not None:
        folder, measures = outcome.folder.resolve(), outcome.report.measures
        home = folder.relative_to(root.resolve()) if folder.is_relative_to(root.resolve()) else folder
        files = {"report": "report.html", "report-markdown": "report.md", "junit": "junit.xml"}
        known |= {name: (home / file).as_posix() for name, file in files.items()}
        figures = {
            "agreement": measures.certified_agreement,
            "coverage": measures.coverage,
            "abstained": measures.abstained,
        }
        known |= {name: "" if figure.value is None else figure.value for name, figure in figures.items()}
        known |= {"run-id": folder.name, "certificate": outcome.verdict.certificate}
    return {"verdict": outcome.word, "exit-code": outcome.exit_code, **known}
