"""Read the inputs of the action and the event that started it, all from the environment."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from trustescalate.errors import UsageError

OUTCOMES = ("fail", "undecided", "budget")
"""The outcomes that `fail-on` may leave out; an error always fails the job."""
READ_ONLY = ("dependabot[bot]",)
"""Actors whose pull requests get a token that may only read, and no secrets, as those from forks do."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs of the action. `run` names a recorded run, which is gated as it is."""

    config: Path
    overrides: tuple[str, ...]
    items: Path | None
    run: str | None
    budget_usd: float | None
    budget_calls: int | None
    trust: bool
    fail_on: frozenset[str]
    offline: str
    comment: bool
    name: str

    @property
    def key(self) -> str:
        """Identifies the gate among those of a pull request."""
        return sha256(self.name.encode("utf-8", "replace")).hexdigest()[:16]

    @property
    def marker(self) -> str:
        """The hidden first line of the comment."""
        return f"<!-- trustescalate gate {self.key} -->"


@dataclass(frozen=True, slots=True)
class Event:
    """What started the workflow: a pull request's number, and whether it is from elsewhere.

    `can_write`: whether the token of the workflow may write a comment.
    """

    number: int | None = None
    from_fork: bool = False
    can_write: bool = True


def read_inputs(environment: Mapping[str, str]) -> Inputs:
    """Read `INPUT_…`; an empty one is not given. Raises UsageError with the name of a wrong one."""

    def given(name: str, default: str = "") -> str:
        return environment.get(f"INPUT_{name.upper().replace('-', '_')}", "").strip() or default

    def one_of(name: str, default: str, *choices: str) -> str:
        value = given(name, default).lower()
        if value not in choices:
            raise UsageError(f"input {name}: {value!r} is not one of {', '.join(choices)}", "fix the input")
        return value

    fail_on = frozenset(given("fail-on", ",".join(OUTCOMES)).replace(",", " ").split()) - {"none"}
    unknown = sorted(fail_on - {*OUTCOMES})
    if unknown:
        known = f"list {', '.join(OUTCOMES)}, or none; errors always fail"
        raise UsageError(f"input fail-on: {unknown[0]!r} is no outcome", known)
    config = Path(given("config", "trustescalate.toml"))
    overrides = [text.strip() for text in given("set").splitlines() if text.strip()]
    if baseline := given("baseline"):
        overrides.append(f"gate.baseline={json.dumps(baseline)}")
    items, calls = given("items"), _number("budget-calls", given("budget-calls"))
    if calls is not None and calls != int(calls):
        raise UsageError(f"input budget-calls: {calls:g} is no whole number", "fix the input")
    return Inputs(
        config=config,
        overrides=tuple(overrides),
        items=Path(items) if items else None,
        run=given("run") or None,
        budget_usd=_number("budget-usd", given("budget-usd")),
        budget_calls=None if calls is None else int(calls),
        trust=one_of("trust", "false", "true", "false") == "true",
        fail_on=fail_on,
        offline=one_of("offline", "auto", "auto", "true", "false"),
        comment=one_of("comment", "true", "true", "false") == "true",
        name=given("name", config.as_posix()),
    )


def _number(name: str, text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(f"input {name}: {text!r} is no number above 0", "fix the input")
    return value


def read_event(environment: Mapping[str, str]) -> Event:
    """Read the event of a workflow; one that is about no pull request has no number.

    A head repository that is unknown, as of a fork that was removed, counts as a fork.
    """
    try:
        text = Path(environment.get("GITHUB_EVENT_PATH", "")).read_text(encoding="utf-8")
        payload: Any = json.loads(text)
    except (OSError, ValueError):
        return Event()
    request = payload.get("pull_request") if isinstance(payload, dict) else None
    if not isinstance(request, dict) or not isinstance(request.get("number"), int):
        return Event()
    head = _name(request.get("head"))
    base = _name(request.get("base")) or environment.get("GITHUB_REPOSITORY", "")
    elsewhere = head == "" or head.lower() != base.lower()
    read_only = environment.get("GITHUB_ACTOR", "") in READ_ONLY
    is_target = environment.get("GITHUB_EVENT_NAME", "") == "pull_request_target"
    untrusted = elsewhere or read_only
    return Event(request["number"], untrusted, can_write=is_target or not untrusted)


def _name(side: Any) -> str:
    repository = side.get("repo") if isinstance(side, dict) else None
    name = repository.get("full_name") if isinstance(repository, dict) else None
    return name if isinstance(name, str) else ""
