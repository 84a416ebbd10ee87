"""Read samples of lm-evaluation-harness: what the model said is judged, and every metric is a judge.

A sample is a document under one filter; a filter changes what the metrics see, not what the model said.
Older rows list their arguments and name neither filter nor metrics. Of choices, the likeliest is the
response. Source: lm-evaluation-harness 0.3 to 0.4.13.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from trustescalate.data.importers.base import Files, Format, Found, Notes, Taken, each
from trustescalate.data.importers.choices import with_choices
from trustescalate.data.importers.codes import are_grades, no_verdicts
from trustescalate.data.importers.fields import get, has, kind_of, name, turns
from trustescalate.data.importers.files import Foreign, Record, Unusable, from_text
from trustescalate.data.importers.harness import BINARY, CHECKS, decided
from trustescalate.data.importers.traces import as_prompt
from trustescalate.data.importers.verdicts import judged, verdict
from trustescalate.records import Item, Turn, Vote

ROW = {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"}
HASHES = {"doc_hash", "prompt_hash", "target_hash"}
NO_METRICS = re.compile(r"seed|i?d?index|idx|fold|n_\w+|num_\w+|\w*(?:_id|_idx|tokens|_len|length|time)")
"""The fields of a sample; in rows without a list of metrics, every other number is one."""
NO_FILTER = "none"
INVALID = "[invalid]"
"""What a filter returns where it found no answer."""
_NAME = re.compile(r"(?:samples_)?(.+?)(?:_\d{4}-\d\d-\d\dT[^_]*)?\.jsonl?(?:\.gz)?$")
Prompt = str | tuple[Turn, ...]


def _read(files: Files, notes: Notes) -> Iterator[Taken]:
    notes.task = BINARY
    notes.assume(CHECKS)
    notes.assume(
        "an item is a document under one filter; of choices, the likeliest is the response, and an acc_norm "
        "that differs from acc is of another choice: a failed vote"
    )
    samples = files["samples"]
    for file in samples:
        grades = _grades(file)
        if grades:
            notes.assume(no_verdicts(sorted(grades)))
        task = _NAME.match(file.path.name)
        before = f"{task[1] if task else file.path.name}|" if len(samples) > 1 else ""
        yield from each(file, lambda row, before=before, grades=grades: [_sample(row, before, grades)])  # type: ignore[misc]


def _grades(file: Foreign) -> frozenset[str]:
    """The metrics whose numbers are no 0 or 1: a length, a BLEU score."""
    rows = (record.value for record in file.records() if isinstance(record, Record))
    return frozenset(
        metric
        for row in rows
        if isinstance(row, dict)
        for metric in _metrics(row)
        if are_grades([row.get(metric)])
    )


def _sample(row: Any, before: str, grades: Collection[str]) -> Found:
    document = before + name(row, "doc_id")
    kept = NO_FILTER if row.get("filter") is None else name(row, "filter")
    asked = _arguments(get(row, "arguments"))
    meta: dict[str, Any] = {"filter": kept}
    target = row.get("target")
    target = str(target) if isinstance(target, str | int | float) and str(target).strip() else None
    if len(asked) > 1:
        prompt, choices = _choices(asked)
        replies = get(row, "filtered_resps")
        likelihoods = [_float(get(replies, place, 0)) for place in range(len(choices))]
        response = choices[likelihoods.index(max(likelihoods))]
        prompt = with_choices(prompt, choices)
        meta |= {"choices": choices, "loglik": likelihoods}
        places = list(map(str, range(len(choices))))
        target = choices[places.index(target)] if target in places else None
    else:
        prompt, response = _prompt(asked[0][0]), _reply(row)
    item_id = f"{document}|{kept}"
    votes = [
        judged(item_id, metric, [_verdict(row, metric, metric not in grades and not _is_other(row, metric))])
        for metric in _metrics(row)
    ]
    return Found(Item(item_id, prompt, (response,), target, document, meta), (), tuple(votes))


def _arguments(value: Any) -> Sequence[Sequence[Any]]:
    """The requests of a document: {"gen_args_0": {"arg_0": …}}, or [[context, …]] in older rows."""
    if isinstance(value, dict):
        requests = [
            [asked.get(f"arg_{place}") for place in range(2)] if isinstance(asked, dict) else []
            for asked in (value.get(f"gen_args_{place}") for place in range(len(value)))
        ]
    else:
        requests = [asked if isinstance(asked, list) else [asked] for asked in _list(value)]
    if not requests or not all(requests):
        raise Unusable("arguments hold nothing")
    with_context = [asked for asked in requests if asked[0] != ""]  # without one: a choice by itself
    return with_context or requests


def _prompt(context: Any) -> Prompt:
    """A context: a text, or the messages of a chat, also as JSON in a text."""
    if isinstance(context, list) and len(context) == 1 and isinstance(context[0], str):
        context = context[0]
    if isinstance(context, str) and context.lstrip().startswith("[{"):
        listed = from_text(context)
        context = listed if isinstance(listed, list) else context
    if isinstance(context, list):
        return as_prompt(turns({"arguments": context}, "arguments"))
    if not isinstance(context, str) or not context.strip():
        raise Unusable("the context is empty, or no text")
    return context


def _choices(asked: Sequence[Sequence[Any]]) -> tuple[Prompt, list[str]]:
    """The prompt and the choices; where the contexts differ, what differs is part of the choice."""
    endings = [each[1] for each in asked if len(each) > 1 and isinstance(each[1], str) and each[1]]
    if len(endings) < len(asked):
        raise Unusable("a choice is no text")
    contexts = [each[0] for each in asked]
    if all(context == contexts[0] for context in contexts):
        return _prompt(contexts[0]), endings
    if not all(isinstance(context, str) for context in contexts):
        raise Unusable("the choices have different contexts")
    low, high = min(contexts), max(contexts)
    end = next(
        (place for place, pair in enumerate(zip(low, high, strict=False)) if len(set(pair)) > 1), len(low)
    )
    shared = low[: low.rfind(" ", 0, end) + 1]
    return _prompt(shared), [
        context[len(shared) :] + ending for context, ending in zip(contexts, endings, strict=True)
    ]


def _reply(row: Mapping[str, Any]) -> str:
    """What the model said; of several draws the one that the filter took, where that can be seen."""
    (draws, *_), taken = (_list(row.get(key)) or [None] for key in ("resps", "filtered_resps"))
    drawn = draws if isinstance(draws, list) else [draws]
    texts = [draw for draw in drawn if isinstance(draw, str)]
    kept = taken[0] if isinstance(taken[0], str) else None
    if not texts:
        if kept is None:
            raise Unusable(f"resps hold {kind_of(drawn[0] if drawn else None)}, not what the model said")
        return kept
    if not kept or not kept.strip():
        return texts[0]
    whole = re.compile(rf"(?<!\w){re.escape(kept.strip())}(?!\w)")
    equal = [draw for draw in texts if draw.strip() == kept.strip()]
    return next(iter(equal or [draw for draw in texts if whole.search(draw)]), texts[0])


def _verdict(row: Mapping[str, Any], metric: str, is_verdict: bool) -> Vote:
    """A metric's verdict; a failed vote where it saw nothing, as its filter found no answer to compare."""
    value, seen = row.get(metric), _list(row.get("filtered_resps"))
    unseen = bool(seen) and all(isinstance(each, str) and each.strip() == INVALID for each in seen)
    label = decided(value) if is_verdict and not unseen else None
    return verdict(label, raw=str(value if value is not None else "")[:200])


def _is_other(row: Mapping[str, Any], metric: str) -> bool:
    """Whether a normalised accuracy is that of another choice than the likeliest, which is shown."""
    return metric == "acc_norm" and "acc" in row and row["acc"] != row.get(metric)


def _metrics(row: Mapping[str, Any]) -> list[str]:
    listed = row.get("metrics")
    if isinstance(listed, list):
        return [metric for metric in dict.fromkeys(map(str, listed)) if metric.strip()]
    return [
        key
        for key, value in row.items()
        if key not in ROW | HASHES and isinstance(value, bool | int | float) and not NO_METRICS.fullmatch(key)
    ]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _float(value: Any) -> float:
    try:
        likelihood = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        likelihood = math.nan
    if math.isnan(likelihood):
        raise Unusable(f"a log-likelihood is {str(value)[:40]!r}")
    return likelihood


LM_EVAL = Format(
    "lm_eval",
    "lm-evaluation-harness: samples_<task>.jsonl",
    {"samples": lambda file: has(file, "doc_id", "arguments", "resps", "filtered_resps")},
    ("samples",),
    _read,
)
