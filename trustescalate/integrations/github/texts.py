"""Write an outcome as the comment, the step summary and the annotations of a pull request."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from trustescalate.integrations.github.commands import annotation, without_secrets
from trustescalate.report.gate import Verdict
from trustescalate.report.markdown import code, escape, first_screen, render_markdown
from trustescalate.report.sections import Check, Report

LONGEST_COMMENT = 65_536
LONGEST_SUMMARY = 1_000_000
"""Bytes; a step may write 1 MiB."""
MOST_ANNOTATIONS = 10
"""GitHub shows ten of a kind for a step."""
SHORTENED = "*This is shortened: it was too long.*"
OFFLINE = (
    "Judged from recorded votes, without network and secrets: this pull request is from a fork, or the "
    "input offline asks for it."
)
LINKED = re.compile(r"[0-9a-f]{6}(?=[0-9a-f])|(?<=[a-z])-(?=[0-9])", re.IGNORECASE)
"""What GitHub may turn into a link beside what `escape` breaks: commits, and GH-1 or KEY-1."""
PLACE = re.compile(r"^\s*(\S[^:\n]*):(\d+): ", re.MULTILINE)
KEYS = {
    "coverage": "min_coverage",
    "abstention": "max_abstention",
    "cost": "max_cost_usd",
    "age of the certificate": "max_certificate_age_days",
    "distribution shift": "allow_shift",
    "judges answered": "max_failure_share",
}
"""The key of [gate] that a check is about; other checks are found by how their names begin or end."""
Word = Literal["pass", "fail", "undecided", "budget", "error"]
SIGNS: dict[Word, str] = {"pass": "✅", "fail": "❌", "undecided": "⚠️", "budget": "⚠️", "error": "❌"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the gate ended: with a verdict on a run and its report, or with an error before."""

    word: Word
    exit_code: int
    message: str = ""
    hint: str = ""
    verdict: Verdict | None = None
    report: Report | None = None
    folder: Path | None = None

    @property
    def failing(self) -> tuple[Check, ...]:
        """The checks that did not pass, breaches first."""
        checks = () if self.verdict is None else self.verdict.checks
        return tuple(check for status in ("fail", "undecided") for check in checks if check.status == status)


def comment(outcome: Outcome, marker: str, name: str, secrets: Sequence[str], *, offline: bool) -> str:
    """The comment: the marker, then the report's first screen. It depends on nothing but the result."""
    parts = [inert(part, secrets) for part in (*_head(outcome, offline), *_screen(outcome))]
    foot = inert(
        f"<sub>Gate {code(name)}. The summary of the workflow run has the whole report.</sub>", secrets
    )
    return "\n\n".join([marker, *_bounded(parts, LONGEST_COMMENT - len(marker) - _size(foot) - 4), foot])


def summary(outcome: Outcome, secrets: Sequence[str], *, offline: bool) -> str:
    """The step summary: the whole report, or its first screen where that is too long."""
    head = _head(outcome, offline)
    if outcome.report is not None:
        text = inert("\n\n".join([*head, render_markdown(outcome.report.page())]), secrets)
        if len(text.encode()) <= LONGEST_SUMMARY:
            return text
    parts = [inert(part, secrets) for part in (*head, *_screen(outcome))]
    return "\n\n".join(_bounded(parts, LONGEST_SUMMARY // 4))


def inert(text: str, secrets: Sequence[str]) -> str:
    """Take secrets out of rendered Markdown, as they are and as escaped, and break what GitHub would link.

    >>> inert("deadbeef and GH-1", [])
    'deadbe<!-- -->ef and GH-<!-- -->1'
    """
    hidden = without_secrets(without_secrets(text, secrets), [escape(value) for value in secrets])
    return LINKED.sub(r"\g<0><!-- -->", hidden)


def _head(outcome: Outcome, offline: bool) -> list[str]:
    parts = [f"> {escape(OFFLINE)}"] if offline else []
    if outcome.report is None:
        parts.append(f"## {SIGNS[outcome.word]} Release gate: {outcome.word}")
        parts += [f"**{escape(text.strip())}**" for text in outcome.message.splitlines() if text.strip()]
        parts += [f"**What would help.** {escape(outcome.hint)}"] if outcome.hint else []
    return parts


def _screen(outcome: Outcome) -> list[str]:
    """The first screen without the id of the run and the next commands, which are of the runner's folder."""
    if outcome.report is None or outcome.folder is None:
        return []
    page, run = outcome.report.page(), outcome.folder.name
    facts = tuple(fact for fact in page.facts if run not in fact)
    return first_screen(replace(page, facts=facts, follow=()))


def _bounded(parts: Sequence[str], room: int) -> list[str]:
    """Leave out what does not fit, and say so."""
    kept: list[str] = []
    room -= len(SHORTENED) + 2
    for part in parts:
        size = _size(part) + 2
        if size <= room:
            kept.append(part)
            room -= size
    return kept if len(kept) == len(parts) else [*kept, SHORTENED]


def _size(text: str) -> int:
    """Characters as JavaScript counts them, which is never fewer than others do."""
    return len(text.encode("utf-16-le")) // 2


def annotations(
    outcome: Outcome, config: Path, root: Path, secrets: Sequence[str], *, fails: bool
) -> list[str]:
    """An annotation for each check that did not pass, at its key; or for an error, at the place it names.

    `fails`: the outcome fails the job, so it is an error and not a warning.
    """
    if outcome.word == "pass":
        return []
    level = "error" if fails else "warning"
    if outcome.verdict is None:
        return list(_of_error(outcome, level, config, root, secrets))[:MOST_ANNOTATIONS]
    try:
        lines = config.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    return [
        _at(level if check.status == "fail" or outcome.word != "fail" else "warning",
            without_secrets(f"{check.observed}, required: {check.required}: {check.message}", secrets),
            f"Release gate: {check.name}: {check.status}", config, gate_line(lines, check), root)
        for check in outcome.failing[:MOST_ANNOTATIONS]
    ]  # fmt: skip


def _of_error(
    outcome: Outcome, level: str, config: Path, root: Path, secrets: Sequence[str]
) -> Iterator[str]:
    title, text = f"Release gate: {outcome.word}", without_secrets(outcome.message, secrets)
    places = list(_places(text))
    for file, line, start in places:
        yield _at(level, text[start:].partition("\n")[0], title, file, line, root)
    if not places:
        hint = f" ({without_secrets(outcome.hint, secrets)})" if outcome.hint else ""
        yield _at(level, text + hint, title, config, 1, root)


def _places(text: str) -> Iterator[tuple[Path, int, int]]:
    for match in PLACE.finditer(text):
        path = Path(match[1])
        if path.is_file():
            yield path, int(match[2]), match.end()


def _at(level: str, text: str, title: str, file: Path, line: int, root: Path) -> str:
    """An annotation at a file of the checkout; elsewhere it has no place."""
    place = file.resolve()
    if not place.is_file() or not place.is_relative_to(root.resolve()):
        return annotation(level, text, title=title)
    name = place.relative_to(root.resolve()).as_posix()
    return annotation(level, text, title=title, file=name, line=line)


def gate_line(lines: Sequence[str], check: Check) -> int:
    """The line of a configuration that states what a check requires; else that of [gate], else the first."""
    key = KEYS.get(check.name, "min_rate")
    if check.name.startswith("agreement"):
        key = "min_agreement"
    for word in ("drop", "gain"):
        if f", {word}" in check.name:
            key = f"{'max' if word == 'drop' else 'min'}_{word}"
    table, head = "", 1
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text.startswith("["):
            table = text.partition("#")[0].strip()
            head = number if table == "[gate]" else head
        elif table == "[gate]" and text.partition("=")[0].strip() == key:
            return number
    return head
