"""Logs of evaluation harnesses: promptfoo, DeepEval, lm-evaluation-harness. One response each, pass or fail.

Whatever gave a verdict is a judge, a programmatic check too: it is no person. A grader that crashed or could
not be read looks like a wrong answer in these logs, and is a failure here. Repeats of a test are more votes.
"""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from trustescalate.data.importers.base import (
    Files,
    Format,
    Found,
    Notes,
    Taken,
    Unusable,
    get,
    has,
    judged,
    many,
    name,
    number,
    text,
    turns,
    verdict,
)
from trustescalate.data.importers.files import Foreign, Record, Rejected
from trustescalate.errors import DataError
from trustescalate.records import Annotation, Item, Task, TaskKind, Turn, Vote

BINARY = Task(TaskKind.BINARY, "Is the response acceptable?", ("pass", "fail"))
CHECKS = "programmatic checks are recorded as judges: they are not people's labels"
HUMAN = "reviewer"


class Gathered:
    """Items by id, with all votes of each judge on them, in the order in which they came."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self._votes: dict[str, dict[str, list[Vote]]] = defaultdict(lambda: defaultdict(list))
        self._notes: dict[str, dict[str, str]] = defaultdict(dict)

    def add(
        self, item: Item, votes: Iterable[tuple[str, Vote]], notes: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Take an item, or more votes on one that was taken before."""
        self._items.setdefault(item.id, item)
        for judge, vote in votes:
            before = self._votes[item.id][judge]
            before.append(replace(vote, exemplar_set=len(before)))
        for who, label in notes:
            if self._notes[item.id].setdefault(who, label) != label:
                raise Unusable(f"{who!r} said something else of this response before")

    def found(self) -> Iterator[Found]:
        """Everything that was taken."""
        most: dict[str, int] = defaultdict(int)
        for votes in self._votes.values():
            for judge, said in votes.items():
                most[judge] = max(most[judge], len(said))
        for item_id, item in self._items.items():
            yield Found(
                item,
                tuple(Annotation(item_id, who, label) for who, label in self._notes[item_id].items()),
                tuple(
                    judged(item_id, judge, votes, most[judge])
                    for judge, votes in self._votes[item_id].items()
                ),
            )


def decided(passed: Any) -> str | None:
    """pass or fail from a boolean, or a 0 or 1; None for everything else."""
    if not isinstance(passed, bool | int | float) or passed not in (0, 1):
        return None
    return "pass" if passed else "fail"


def mark(*texts: Any) -> str:
    """A short hash of texts, for ids where a log has none.

    >>> mark("a", {"b": 1}) == mark("a", {"b": 1})
    True
    """
    plain = json.dumps(texts, sort_keys=True, default=str)
    return hashlib.sha256(plain.encode("utf-8", "replace")).hexdigest()[:12]


# ── promptfoo ────────────────────────────────────────────────────────────────────────────────────


def _read_promptfoo(files: Files, notes: Notes) -> Iterator[Taken]:
    notes.task = BINARY
    notes.assume(CHECKS)
    notes.assume("a rubric is a judge by its metric's name; repeats of a test are further votes")
    for file in files["table"]:
        raise DataError(
            [f"{file.path}: promptfoo's CSV rounds scores and repeats columns"], "give results.json instead"
        )
    gathered = Gathered()
    for file in (*files["results"], *files["rows"]):
        for record in _rows(file):
            try:
                if isinstance(record, Rejected):
                    yield record
                else:
                    _promptfoo_row(record.value, gathered)
            except Unusable as error:
                yield Rejected(str(file.path), record.place, str(error))
    yield from gathered.found()


def _rows(file: Foreign) -> Iterator[Record | Rejected]:
    """promptfoo's rows: of a document those in results.results, else the lines."""
    for record in file.records():
        if isinstance(record, Rejected) or file.shape == "lines":
            yield record
        else:
            try:
                rows = many(record.value, "results", "results")
            except Unusable as error:
                yield Rejected(str(file.path), record.place, str(error))
                continue
            yield from (Record(place, row) for place, row in enumerate(rows))


def _promptfoo_row(row: Any, gathered: Gathered) -> None:
    output = get(row, "response", "output") if isinstance(get(row, "response"), dict) else None
    if not isinstance(output, str) or not output.strip():
        raise Unusable("there is no text to judge: the model failed, or answered with something else")
    test = row.get("testCase") if isinstance(row.get("testCase"), dict) else {}
    said, provider = test.get("description"), row.get("provider")
    model = text(provider, "id") if isinstance(provider, dict) else "model"
    group = mark(get(row, "vars"), said)
    head = f"{said}|" if isinstance(said, str) and said else ""
    prompt = text(row, "prompt", "raw")
    item = Item(
        f"{head}{group}|{model}|{mark(prompt, output)}", prompt, (output,), None, group, {"model": model}
    )
    grading = row.get("gradingResult")
    parts = grading.get("componentResults") if isinstance(grading, dict) else None
    votes, labels = [], []
    for part in parts if isinstance(parts, list) else []:
        asked = part.get("assertion") if isinstance(part, dict) else None
        if not isinstance(asked, dict):  # a part of an assert-set tells of nobody
            continue
        label = decided(part.get("pass"))
        if asked.get("type") == "human":
            labels += [] if label is None else [(HUMAN, label)]
            continue
        metric = asked.get("metric")
        judge = text(asked, "type") + (f" {metric}" if isinstance(metric, str) and metric else "")
        meta = part.get("metadata")
        failed = isinstance(meta, dict) and bool(meta.get("graderError"))
        votes.append((judge, verdict(None if failed else label, raw=_raw(part.get("reason")))))
    gathered.add(item, votes, labels)


def _raw(value: Any) -> str:
    return value if isinstance(value, str) else ""


# ── DeepEval ─────────────────────────────────────────────────────────────────────────────────────


def _read_deepeval(files: Files, notes: Notes) -> Iterator[Taken]:
    notes.task = BINARY
    notes.assume(CHECKS)
    notes.assume("a metric is a judge by its name and model; it passes as the log says, by its threshold")
    for file in files["cache"]:
        raise DataError([f"{file.path}: DeepEval's cache names no test"], "give test_run.json instead")
    gathered = Gathered()
    for file in files["run"]:
        for record in file.records():
            if isinstance(record, Rejected):
                yield record
                continue
            value = _run(record.value)
            if value is None:
                yield Rejected(str(file.path), record.place, "is no test run")
                continue
            for key in ("testCases", "conversationalTestCases"):
                cases = value.get(key)
                for place, case in enumerate(cases if isinstance(cases, list) else []):
                    try:
                        _deepeval_case(case, gathered)
                    except Unusable as error:
                        yield Rejected(str(file.path), f"{key}.{place}", str(error))
    yield from gathered.found()


def _deepeval_case(case: Any, gathered: Gathered) -> None:
    prompt, response = _asked(case)
    expected = case.get("expectedOutput")
    item = Item(
        f"{name(case, 'name')}|{mark(str(prompt), str(response))}",
        prompt,
        (response,),
        expected if isinstance(expected, str) and expected.strip() else None,
    )
    metrics = case.get("metricsData")
    gathered.add(item, [_metric(metric) for metric in (metrics if isinstance(metrics, list) else [])])


def _asked(case: Any) -> tuple[str, str | tuple[Turn, ...]]:
    if not isinstance(case, dict) or "turns" not in case:
        return text(case, "input"), text(case, "actualOutput")
    talk = turns(case, "turns")
    if len(talk) < 2 or talk[0].role != "user" or talk[-1].role != "assistant":
        raise Unusable("the turns do not go from a question to an answer")
    return talk[0].content, talk[1].content if len(talk) == 2 else talk[1:]


def _metric(metric: Any) -> tuple[str, Vote]:
    model = metric.get("evaluationModel") if isinstance(metric, dict) else None
    judge = text(metric, "name") + (f" {model}" if isinstance(model, str) and model else "")
    unscored = metric.get("error") is not None or not isinstance(metric.get("score"), int | float)
    cost = metric.get("evaluationCost")
    vote = verdict(None if unscored else decided(metric.get("success")), raw=_raw(metric.get("reason")))
    paid = isinstance(cost, int | float) and not isinstance(cost, bool) and 0 < cost < 1e6
    return judge, replace(vote, cost=float(cost)) if paid else vote


# ── lm-evaluation-harness ────────────────────────────────────────────────────────────────────────


def _read_lm_eval(files: Files, notes: Notes) -> Iterator[Taken]:
    notes.task = BINARY
    notes.assume(CHECKS)
    notes.assume("an item is a document under one filter; of choices, the likeliest is the response")
    for file in files["samples"]:
        for record in file.records():
            try:
                if isinstance(record, Rejected):
                    yield record
                else:
                    yield _sample(record.value)
            except Unusable as error:
                yield Rejected(str(file.path), record.place, str(error))


def _sample(row: Any) -> Found:
    document, kept = name(row, "doc_id"), name(row, "filter")
    asked = get(row, "arguments")
    if not isinstance(asked, dict) or not asked:
        raise Unusable("arguments hold nothing")
    prompt = text(asked, "gen_args_0", "arg_0")
    meta: dict[str, Any] = {"filter": kept}
    target: str | None = text(row, "target")
    said = get(row, "filtered_resps")
    if len(asked) > 1:
        choices = [text(asked, f"gen_args_{place}", "arg_1") for place in range(len(asked))]
        likelihoods = [_float(get(said, place, 0)) for place in range(len(choices))]
        response = choices[likelihoods.index(max(likelihoods))]
        meta |= {"choices": choices, "loglik": likelihoods}
        places = list(map(str, range(len(choices))))
        target = choices[places.index(target)] if target and target in places else None
    else:
        response = text(row, "filtered_resps", 0)
    item_id = f"{document}|{kept}"
    item = Item(item_id, prompt, (response,), target, document, meta)
    judgments = []
    for metric in many(row, "metrics"):
        if not isinstance(metric, str):
            raise Unusable("metrics is no list of names")
        label = decided(number(row, metric)) if metric in row else None
        judgments.append(judged(item_id, metric, [verdict(label, raw=str(row.get(metric, "")))]))
    return Found(item, (), tuple(judgments))


def _float(value: Any) -> float:
    try:
        found = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        found = math.nan
    if math.isnan(found):
        raise Unusable(f"a log-likelihood is {str(value)[:40]!r}")
    return found


# ── the formats ──────────────────────────────────────────────────────────────────────────────────


def _is_promptfoo(file: Foreign) -> bool:
    inner = file.head[0].get("results") if isinstance(file.head[0], dict) else None
    return isinstance(inner, dict) and isinstance(inner.get("results"), list)


def _is_deepeval(file: Foreign) -> bool:
    return _run(file.head[0]) is not None


def _run(value: Any) -> Mapping[str, Any] | None:
    inner = value.get("testRunData", value) if isinstance(value, dict) else None
    found = isinstance(inner, dict) and ("testCases" in inner or "conversationalTestCases" in inner)
    return inner if found else None


PROMPTFOO = Format(
    "promptfoo",
    "promptfoo: results.json or .jsonl",
    {
        "results": _is_promptfoo,
        "rows": lambda file: has(file, "gradingResult", "testCase", "testIdx", "promptIdx"),
        "table": lambda file: "Grader Reason" in file.columns and "Status" in file.columns,
    },
    ("results", "rows", "table"),
    _read_promptfoo,
)
DEEPEVAL = Format(
    "deepeval",
    "DeepEval: test_run.json",
    {"run": _is_deepeval, "cache": lambda file: has(file, "test_cases_lookup_map")},
    ("run", "cache"),
    _read_deepeval,
)
LM_EVAL = Format(
    "lm_eval",
    "lm-evaluation-harness: samples_<task>.jsonl",
    {"samples": lambda file: has(file, "doc_id", "doc", "arguments", "resps", "filtered_resps", "filter")},
    ("samples",),
    _read_lm_eval,
)
