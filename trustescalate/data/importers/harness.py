"""Read logs of evaluation harnesses: promptfoo and DeepEval, one response per item.

Every source of a verdict is a judge, programmatic checks included. A grader that crashed or was unreadable
has a wrong answer in these logs, and is a failed vote here. Repeats of a test are more votes.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from trustescalate.data.importers.base import Files, Format, Found, Notes, Taken, each
from trustescalate.data.importers.fields import LARGEST, answer, get, has, many, name, text, turns
from trustescalate.data.importers.files import Foreign, Record, Rejected, Unusable
from trustescalate.data.importers.traces import as_response, called, ended, passages_in
from trustescalate.data.importers.verdicts import annotate, judged, verdict
from trustescalate.errors import DataError
from trustescalate.records import Item, Task, TaskKind, Turn, Vote

BINARY = Task(TaskKind.BINARY, "Is the response acceptable?", ("pass", "fail"))
CHECKS = "programmatic checks are recorded as judges: they are not human labels"
HUMAN = "reviewer"
COMPARATIVE = ("select-best", "max-score")
"""Assertions of promptfoo whose verdict depends on the other outputs."""


class Gathered:
    """Items by id, with all votes of each judge on them, in their order."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self._votes: dict[str, dict[str, list[Vote]]] = defaultdict(lambda: defaultdict(list))
        self._notes: dict[str, dict[str, str]] = defaultdict(dict)
        self.compared = 0

    def add(
        self, item: Item, votes: Iterable[tuple[str, Vote]], notes: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Add an item, or more votes on a known one."""
        self._items.setdefault(item.id, item)
        for judge, vote in votes:
            before = self._votes[item.id][judge]
            before.append(replace(vote, exemplar_set=len(before)))
        for who, label in notes:
            if self._notes[item.id].setdefault(who, label) != label:
                raise Unusable(f"{who!r} gave this response another label before")

    def results(self) -> Iterator[Found]:
        """Yield every item with its votes and labels."""
        most: dict[str, int] = defaultdict(int)
        for votes in self._votes.values():
            for judge, own in votes.items():
                most[judge] = max(most[judge], len(own))
        for item_id, item in self._items.items():
            votes = self._votes[item_id]
            judgments = tuple(judged(item_id, judge, own, most[judge]) for judge, own in votes.items())
            yield Found(item, annotate(item_id, self._notes[item_id]), judgments)


def decided(passed: Any) -> str | None:
    """Convert a boolean, 0 or 1 to pass or fail; None for everything else."""
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


# ── promptfoo ──────────────────────────────────────────────────────────────────────────────────────


def _read_promptfoo(files: Files, notes: Notes) -> Iterator[Taken]:
    notes.task = BINARY
    notes.assume(CHECKS)
    notes.assume(
        "a rubric is a judge by its metric's name, or its type and place; repeats of a test are further votes"
    )
    for file in files["table"]:
        raise DataError(
            [f"{file.path}: promptfoo's CSV rounds scores and repeats columns"], "give results.json instead"
        )
    gathered = Gathered()
    for file in (*files["results"], *files["rows"]):
        yield from each(file, lambda row: _promptfoo_row(row, gathered), _rows(file))
    yield from gathered.results()
    if gathered.compared:
        notes.assume(
            f"{gathered.compared:,} verdicts of {' and '.join(COMPARATIVE)} are left out: "
            "they compare outputs with one another, and are no pass or fail"
        )


def _rows(file: Foreign) -> Iterator[Record | Rejected]:
    """promptfoo's rows: results.results of a document, or lines."""
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


def _promptfoo_row(row: Any, gathered: Gathered) -> tuple[Found, ...]:
    output = get(row, "response", "output") if isinstance(get(row, "response"), dict) else None
    failed = not output and isinstance(output, str) and (row["response"].get("error") or row.get("error"))
    if failed or not isinstance(output, str):
        raise Unusable("there is no text to judge: the model failed, or its answer is not text")
    test = row.get("testCase") if isinstance(row.get("testCase"), dict) else {}
    description, provider = test.get("description"), row.get("provider")
    model = text(provider, "id") if isinstance(provider, dict) else "model"
    group = mark(get(row, "vars"), description)
    head = f"{description}|" if isinstance(description, str) and description else ""
    prompt = text(row, "prompt", "raw")
    item_id = f"{head}{group}|{model}|{mark(prompt, output)}"
    item = Item(item_id, prompt, (output,), None, group, {"model": model})
    grading = row.get("gradingResult")
    votes, labels = [], []
    rubrics: dict[str, list[Any]] = defaultdict(list)
    for part in _components(grading if isinstance(grading, dict) else {}):
        asked = part.get("assertion")
        if not isinstance(asked, dict):  # a set of assertions is no judge
            continue
        label = decided(part.get("pass"))
        if asked.get("type") == "human":
            labels += [] if label is None else [(HUMAN, label)]
            continue
        if str(asked.get("type")).removeprefix("not-") in COMPARATIVE:
            gathered.compared += 1
            continue
        metric = asked.get("metric")
        judge = text(asked, "type") + (f" {metric}" if isinstance(metric, str) and metric else "")
        if asked.get("value") not in rubrics[judge]:
            rubrics[judge].append(asked.get("value"))
        place = rubrics[judge].index(asked.get("value"))
        judge += f" {place + 1}" if place and not metric else ""
        meta = part.get("metadata")
        errors = [meta.get(key) for key in ("graderError", "error")] if isinstance(meta, dict) else []
        failed = any((part.get("error"), *errors))
        votes.append((judge, verdict(None if failed else label, raw=part.get("reason"))))
    gathered.add(item, votes, labels)
    return ()


def _components(grading: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What was graded by itself: the parts of a grading, also those of a set; without any, the grading."""
    parts = grading.get("componentResults")
    parts = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    if not parts:
        yield grading
    for part in parts:
        inner = part.get("componentResults")
        if not isinstance(inner, list) or not inner:
            yield part
        elif not any(each in parts for each in inner):  # else the parts of the set stand beside it
            yield from _components(part)


# ── DeepEval ───────────────────────────────────────────────────────────────────────────────────────


def _read_deepeval(files: Files, notes: Notes) -> Iterator[Taken]:
    notes.task = BINARY
    notes.assume(CHECKS)
    notes.assume("a metric is a judge by its name and model; it passes as the log says, by its threshold")
    for file in files["cache"]:
        raise DataError([f"{file.path}: DeepEval's cache names no test"], "give test_run.json instead")
    gathered = Gathered()
    for file in files["run"]:
        yield from each(file, lambda case: _deepeval_case(case, gathered), _cases(file))
    yield from gathered.results()


def _cases(file: Foreign) -> Iterator[Record | Rejected]:
    for record in file.records():
        run = None if isinstance(record, Rejected) else _run(record.value)
        if isinstance(record, Rejected):
            yield record
        elif run is None:
            yield Rejected(str(file.path), record.place, "is no test run")
        else:
            for key in ("testCases", "conversationalTestCases"):
                cases = run.get(key)
                rows = enumerate(cases if isinstance(cases, list) else [])
                yield from (Record(f"{key}.{place}", case) for place, case in rows)


def _deepeval_case(case: Any, gathered: Gathered) -> tuple[Found, ...]:
    prompt, response = _asked(case)
    expected = case.get("expectedOutput")
    item_id = f"{name(case, 'name')}|{mark(str(prompt), str(response))}"
    reference = expected if isinstance(expected, str) and expected.strip() else None
    context = passages_in(case.get("retrievalContext") or case.get("context") or [], "retrievalContext")
    if isinstance(response, str) and case.get("toolsCalled"):
        response = ended(called(many(case, "toolsCalled")), response)
    metrics = case.get("metricsData")
    votes = [_metric(metric) for metric in (metrics if isinstance(metrics, list) else [])]
    gathered.add(Item(item_id, prompt, (response,), reference, context=context), votes)
    return ()


def _asked(case: Any) -> tuple[str, str | tuple[Turn, ...]]:
    if "turns" not in case:
        return text(case, "input"), answer(case, "actualOutput")
    talk = turns(case, "turns")
    if len(talk) < 2 or talk[0].role != "user" or talk[-1].role != "assistant":
        raise Unusable("the turns do not go from a question to an answer")
    return talk[0].content, as_response(talk[1:])


def _metric(metric: Any) -> tuple[str, Vote]:
    model = metric.get("evaluationModel") if isinstance(metric, dict) else None
    judge = text(metric, "name") + (f" {model}" if isinstance(model, str) and model else "")
    score = metric.get("score")
    unscored = bool(metric.get("error")) or not isinstance(score, int | float) or not abs(score) < LARGEST
    label = None if unscored else decided(metric.get("success"))
    return judge, verdict(label, raw=metric.get("reason"), cost=metric.get("evaluationCost"))


# ── the formats ────────────────────────────────────────────────────────────────────────────────────


def _is_promptfoo(file: Foreign) -> bool:
    inner = file.head[0].get("results") if isinstance(file.head[0], dict) else None
    return isinstance(inner, dict) and isinstance(inner.get("results"), list)


def _is_deepeval(file: Foreign) -> bool:
    return _run(file.head[0]) is not None


def _run(value: Any) -> Mapping[str, Any] | None:
    inner = value.get("testRunData", value) if isinstance(value, dict) else None
    is_run = isinstance(inner, dict) and ("testCases" in inner or "conversationalTestCases" in inner)
    return inner if is_run else None


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
    kept=("results", "rows"),
)
DEEPEVAL = Format(
    "deepeval",
    "DeepEval: test_run.json",
    {"run": _is_deepeval, "cache": lambda file: has(file, "test_cases_lookup_map")},
    ("run", "cache"),
    _read_deepeval,
    kept=("run",),
)
