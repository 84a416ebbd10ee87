"""Read MLflow traces with assessments; the kind of source separates human from judge assessments.

An overridden assessment is not valid and does not count. An expectation is a reference, no verdict. Spans of
tools are calls and results before the response, and spans of retrievers are passages.
Source: MLflow, its trace format.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from functools import partial
from typing import Any

from trustescalate.data.importers.base import Files, Format, Found, Notes, Reader, Taken, each
from trustescalate.data.importers.codes import are_grades, no_verdicts
from trustescalate.data.importers.columns import ColumnsFile
from trustescalate.data.importers.fields import answer, get, has, text
from trustescalate.data.importers.files import Foreign, Record, Unusable, from_text
from trustescalate.data.importers.harness import BINARY, CHECKS, decided
from trustescalate.data.importers.traces import (
    as_prompt,
    as_response,
    conversation_in,
    ended,
    from_answer,
    retrieved,
    tool_spans,
)
from trustescalate.data.importers.verdicts import annotate, judged, verdict
from trustescalate.errors import DataError
from trustescalate.records import Item, Label, Turn, Vote

INPUTS, OUTPUTS = "mlflow.spanInputs", "mlflow.spanOutputs"
YES, NO = ("yes", "true", "pass", "correct"), ("no", "false", "fail", "incorrect")


def _read(files: Files, notes: Notes) -> Iterator[Taken]:
    return _read_named(files, notes, None)


def _named(given: ColumnsFile) -> Reader:
    """A reader of traces with the assessment that the user named as the label."""
    return lambda files, notes: _read_named(files, notes, given.columns.label)


def _read_named(files: Files, notes: Notes, label: str | None) -> Iterator[Taken]:
    notes.task = BINARY
    notes.assume(CHECKS)
    notes.assume(
        "an assessment other than yes or no is left out from a human, and a failed vote from a judge"
    )
    for file in files["traces"]:
        values: dict[str, list[Any]] = defaultdict(list)
        asked = Counter[str]()
        for record in file.records():
            for one in _assessments(record.value) if isinstance(record, Record) else ():
                source, question = one.get("source"), one.get("assessment_name")
                is_human = isinstance(source, dict) and source.get("source_type") == "HUMAN"
                if is_human and "feedback" in one and isinstance(question, str):
                    asked[question] += 1
                if isinstance(one.get("feedback"), dict):
                    values[str(one.get("assessment_name"))].append(one["feedback"].get("value"))
        grades = frozenset(name for name, each in values.items() if are_grades(each))
        if grades:
            notes.assume(no_verdicts(sorted(grades)))
        main = [question for question, count in asked.items() if count > 1]
        wanted = label
        if wanted is None and len(main) == 1 < len(asked):
            wanted = main[0]
            notes.assume(f"what people assessed once is not the label, which is {wanted!r}")
        if wanted not in asked if wanted else len(asked) > 1:
            raise DataError(
                [f"{file.path}: people assessed {', '.join(map(repr, sorted(asked)))}, and one is the label"],
                f"name it: --columns FILE with [import] label = {min(asked, default='correct')!r}",
            )
        yield from each(file, partial(_trace, grades=grades, asked=wanted or next(iter(asked), None)))


def _assessments(row: Any) -> list[dict[str, Any]]:
    info = row.get("info") if isinstance(row, dict) else None
    assessments = info.get("assessments") if isinstance(info, dict) else None
    return [one for one in assessments if isinstance(one, dict)] if isinstance(assessments, list) else []


def _trace(row: Any, grades: Collection[str], asked: str | None) -> Iterator[Found]:
    trace = text(row, "info", "trace_id")
    spans = _spans(row)
    prompt = _content(row, INPUTS, "request_preview")
    response = _content(row, OUTPUTS, "response_preview")
    if not isinstance(response, str):
        response = as_response(from_answer(prompt, response))
    elif used := tool_spans(spans[1:]):
        response = ended(used, response)
    votes: dict[str, list[Vote]] = defaultdict(list)
    notes: dict[str, Label] = {}
    references = []
    for one in _assessments(row):
        if one.get("valid") is False:
            continue
        if "expectation" in one:
            value = get(one, "expectation", "value")
            references += [value] if isinstance(value, str) else []
            continue
        kind, who = text(one, "source", "source_type"), text(one, "source", "source_id")
        feedback = get(one, "feedback")
        failed = not isinstance(feedback, dict) or bool(feedback.get("error"))
        label = None if failed else _label(feedback.get("value"))
        if (
            not failed
            and str(one.get("assessment_name")) in grades
            and type(feedback.get("value")) in (int, float)
        ):
            label = None
        if kind == "HUMAN":
            is_label = str(one.get("assessment_name")) == asked
            if is_label and label is not None and notes.setdefault(who, label) != label:
                raise Unusable(f"{who!r} gives two different labels")
        else:
            judge = f"{text(one, 'assessment_name')} {who}"
            votes[judge].append(verdict(label, raw=one.get("rationale"), member=len(votes[judge])))
    reference = references[0] if references else None
    item = Item(trace, prompt, (response,), reference, context=retrieved(spans))
    yield Found(
        item,
        annotate(trace, notes),
        tuple(judged(trace, judge, own) for judge, own in votes.items()),
    )


def _spans(row: Any) -> list[Any]:
    data = row.get("data")
    spans = data.get("spans") if isinstance(data, dict) else None
    return spans if isinstance(spans, list) else []


def _content(row: Any, attribute: str, preview: str) -> str | tuple[Turn, ...]:
    """The text of a span's inputs or outputs, or their conversation; else all of them as JSON.

    Previews may be cut.
    """
    spans, packed = _spans(row), None
    if spans and isinstance(spans[0], dict):
        attributes = spans[0].get("attributes")
        packed = attributes.get(attribute) if isinstance(attributes, dict) else None
    packed = packed if isinstance(packed, str) else answer(row, "info", preview)
    value = from_text(packed)
    if packed.strip() == "null":
        raise Unusable(f"{attribute} is null")
    if (talk := conversation_in(value, attribute)) is not None:
        return as_prompt(talk) if attribute == INPUTS else talk
    if isinstance(value, dict) and len(value) == 1:
        value = next(iter(value.values()))
    content = value if isinstance(value, str) else packed
    if not content.strip() and attribute == INPUTS:
        raise Unusable(f"{attribute} holds no text")
    return content


def _label(value: Any) -> Label | None:
    if isinstance(value, str):
        word = value.strip().casefold()
        return "pass" if word in YES else "fail" if word in NO else None
    return decided(value)


def _is_trace(file: Foreign) -> bool:
    return (
        has(file, "info", "data")
        and isinstance(file.head[0]["info"], dict)
        and "trace_id" in file.head[0]["info"]
    )


MLFLOW = Format(
    "mlflow", "MLflow traces with assessments", {"traces": _is_trace}, ("traces",), _read, named=_named
)
