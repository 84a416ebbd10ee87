"""promptfoo: judge outputs with a certified cascade, as a Python assertion and as a Python provider.

promptfoo loads a Python file. Write one beside its configuration that imports both functions:
`from trustescalate.integrations.promptfoo import call_api, get_assert`.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from trustescalate.errors import UsageError
from trustescalate.integrations.fields import context_of, messages_or_text
from trustescalate.integrations.shared import SharedCascade, passing_value
from trustescalate.records import Item, TaskKind

OURS = ("cascade", "threshold", "prompt", "response", "baseline", "reference", "context", "item_id")
THEIRS = ("basePath", "workers", "timeout", "pythonExecutable")
"""The keys of a configuration: those that are read here, and those that promptfoo reads."""

FAR = 1e9

opened = cache(SharedCascade)


def get_assert(output: Any, context: Mapping[str, Any]) -> dict[str, Any]:
    """Judge an output as an assertion `type: python`. Its `config` may have these keys.

    `cascade` is the path of trustescalate.toml, `threshold` the value from which a verdict passes; `prompt`,
    `baseline`, `reference`, `context` and `item_id` name variables of the test. Without `prompt`, the prompt
    is the one that promptfoo sent. The named metrics are `certified`, the value of a released verdict, and
    `abstained`. An abstention fails with a reason that begins with "Abstained"; its score is 0, or below 0
    where a threshold of the test could pass it. So do errors of the cascade; without a threshold they are
    raised, which fails the row too.
    """
    config, test = context.get("config") or {}, context.get("test") or {}
    inverted = any(each.get("type") == "not-python" for each in _asserts(test))
    try:
        cascade = _cascade(config)
        passing = passing_value(cascade.task, config.get("threshold"))
        given = context.get("vars") or {}
        verdict = cascade.judge(_item(cascade, config, given, context.get("prompt"), output))
    except Exception as error:
        if inverted or not _failing(test):
            raise
        return {"pass": False, "score": _failing(test), "reason": f"{type(error).__name__}: {error}"}
    shown = {"reason": verdict.explanation, "metadata": verdict.metadata}
    if verdict.value is not None:
        metrics = {"abstained": 0, "certified": verdict.value}
        return {"pass": verdict.value >= passing, "score": verdict.value, "namedScores": metrics, **shown}
    if inverted:
        raise UsageError(verdict.explanation, "`not-python` would make a pass of it")
    return {"pass": False, "score": _failing(test), "namedScores": {"abstained": 1}, **shown}


def call_api(prompt: str, options: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """Judge a variable of the test as a provider: the output is the label, an abstention an error of the row.

    `config` has the keys of `get_assert`, without `threshold`; `response` names the variable that holds the
    response ("response"). promptfoo keeps the process, and with it the cascade, open.
    """
    config, given = options.get("config") or {}, context.get("vars") or {}
    cascade = _cascade(config)
    response = _named(config, given, "response", "response")
    verdict = cascade.judge(_item(cascade, config, given, prompt, response))
    if verdict.label is None:
        return {"error": verdict.explanation, "metadata": verdict.metadata}
    return {"output": verdict.label, "metadata": verdict.metadata}


def _cascade(config: Mapping[str, Any]) -> SharedCascade:
    unknown = [key for key in config if key not in OURS + THEIRS]
    if unknown:
        raise UsageError(f"unknown config: {', '.join(unknown)}", f"known: {', '.join(OURS)}")
    return opened(config.get("cascade", "trustescalate.toml"))


def _item(
    cascade: SharedCascade, config: Mapping[str, Any], given: Mapping[str, Any], sent: Any, response: Any
) -> Item:
    pair = cascade.task.kind is TaskKind.PAIRWISE
    asked = _named(config, given, "prompt")
    return cascade.item(
        messages_or_text(_text(sent if asked is None else asked)),
        _text(response),
        baseline=_text(_named(config, given, "baseline", "baseline")) if pair else None,
        reference=_text(reference) if (reference := _named(config, given, "reference")) is not None else None,
        context=context_of(_named(config, given, "context"), "context"),
        item_id=_text(item_id) if (item_id := _named(config, given, "item_id")) is not None else None,
    )


def _named(config: Mapping[str, Any], given: Mapping[str, Any], key: str, default: str | None = None) -> Any:
    """The variable that `config` names under `key`; None where it names none."""
    name = config.get(key, default)
    if name is None:
        return None
    if name not in given:
        raise UsageError(f"the test has no variable {name!r}", f"config.{key} names one that is there")
    return given[name]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _asserts(test: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """All assertions of a test, with those of its sets."""
    for each in test.get("assert") or ():
        yield each
        yield from _asserts(each)


def _failing(test: Mapping[str, Any]) -> float:
    """The score that fails a row: with a threshold, promptfoo passes a row by its mean score alone.

    Other assertions may give any number as their score; it is taken to be below `FAR`.
    """
    asserts = list(_asserts(test))
    if all(each.get("threshold") is None for each in (test, *asserts)):
        return 0.0
    weights = [weight for each in asserts if (weight := float(each.get("weight", 1))) > 0] or [1.0]
    share: float = sum(weights) / min(weights)
    return -FAR * share * share
