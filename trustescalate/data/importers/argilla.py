"""Read flat records of Argilla: submitted responses are labels, discarded ones skips.

The nested export lacks the status of a response, so drafts look like labels there: it is refused. Suggestions
are verdicts of a judge. Source: Argilla's SDK, records.to_list(flatten=True).
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from trustescalate.data.importers.base import Files, Format, Found, Notes, Taken, each
from trustescalate.data.importers.codes import check_numbers
from trustescalate.data.importers.columns import PROMPT
from trustescalate.data.importers.fields import answer, has, name, text
from trustescalate.data.importers.files import Foreign, Record, Rejected, Unusable
from trustescalate.data.importers.names import QUESTIONS, SIDES, Names, named_reader
from trustescalate.data.importers.verdicts import annotate, judged, pairwise, verdict
from trustescalate.errors import DataError
from trustescalate.records import SKIP, Item, Label

HOW = "--columns FILE with [import] prompt, responses and label (the question), and [task] with its labels"


def _read(files: Files, notes: Notes) -> Iterator[Taken]:
    return _read_named(files, notes, None)


def _read_named(files: Files, notes: Notes, given: Names | None) -> Iterator[Taken]:
    for file in files["nested"]:
        raise DataError(
            [f"{file.path}: Argilla's nested export does not say which responses were submitted"],
            "export records.to_list(flatten=True) instead",
        )
    for file in files["flat"]:
        names, left_out = _names(file, given or Names().of(pairwise()))
        notes.left_out |= dict.fromkeys(left_out)
        notes.task = names.task
        notes.assume(
            f"the question {names.label!r} holds the labels; drafts are none, discarded responses skips"
        )
        rows = [record.value for record in file.records() if isinstance(record, Record)]
        values = [_in(row, f"{names.label}.responses") for row in rows]
        labels = [value for each in values if isinstance(each, list) for value in each]
        check_numbers(names.task, labels, f"{file.path}: {names.label}.responses", names.spelled)
        suggested = [_in(row, f"{names.label}.suggestion") for row in rows]
        where = f"{file.path}: {names.label}.suggestion"
        check_numbers(names.task, suggested, where, names.spelled, by_judge=True)
        yield from each(file, lambda row, names=names: _record(row, names))  # type: ignore[misc]


def _names(file: Foreign, given: Names) -> tuple[Names, list[str]]:
    """The names in a file, and what is left out. Raises DataError that names all of it, where one lacks."""
    keys = dict.fromkeys(key for row in file.head if isinstance(row, dict) for key in row)
    questions = [key.removesuffix(".responses") for key in keys if f"{key}.status" in keys]
    fields = [
        key for key in keys if "." not in key and any(isinstance(_in(row, key), str) for row in file.head)
    ]
    pair = next((pair for pair in SIDES if set(pair) <= keys.keys()), ())
    names = replace(
        given,
        prompt=given.prompt or next((key for key in PROMPT if key in keys), None),
        responses=given.responses or pair,
        label=given.label or next((key for key in QUESTIONS if key in questions), None),
    )
    lacking = [
        what
        for what, known in (
            ("the prompt", names.prompt in keys),
            ("the responses", bool(names.responses) and set(names.responses) <= keys.keys()),
            ("the labels", names.label in questions),
        )
        if not known
    ]
    if lacking:
        shown = (
            f"fields {', '.join(map(repr, fields[:20]))}, questions {', '.join(map(repr, questions[:20]))}"
        )
        raise DataError(
            [f"{file.path}: nothing is known to hold {' and '.join(lacking)}; there are {shown}"],
            f"name them: {HOW}",
        )
    parts = "", ".users", ".status"
    read = {names.prompt, *names.responses, *names.given, "id", "status", "_server_id"}
    read |= {f"{names.label}.responses{part}" for part in parts}
    read |= {f"{names.label}.suggestion{part}" for part in ("", ".agent", ".score")}
    others = [key for key in keys if key not in read and not key.endswith(parts[1:])]
    return names, [key for key in others if not key.endswith((".suggestion.agent", ".suggestion.score"))]


def _in(row: Any, key: str) -> Any:
    return row.get(key) if isinstance(row, dict) else None


def _record(row: Any, names: Names) -> Iterator[Taken]:
    item_id, question = name(row, names.id or "id"), names.label
    prompt = text(row, names.prompt or "")
    shown = tuple(answer(row, field) for field in names.responses)
    columns = [row.get(f"{question}.responses{part}") or [] for part in ("", ".users", ".status")]
    if not all(isinstance(part, list) for part in columns) or len({len(part) for part in columns}) > 1:
        raise Unusable(f"{question}.responses, .users and .status are not lists of one length")
    notes: dict[str, Label] = {}
    for value, user, status in zip(*columns, strict=True):
        label = SKIP if status == "discarded" else _label(value, names) if status == "submitted" else None
        if status == "submitted" and label is None:
            why = f"the label {str(value)[:40]!r} is not known; define it in [import] labels"
            yield Rejected(item_id, f"{question}.responses", why)
        if label is not None and notes.setdefault(str(user), label) != label:
            raise Unusable(f"{user!r} gives two different labels")
    agent, suggested = row.get(f"{question}.suggestion.agent"), row.get(f"{question}.suggestion")
    votes = (
        [judged(item_id, agent, [verdict(_label(suggested, names))])]
        if isinstance(agent, str) and agent
        else []
    )
    reference, group = (_in(row, field) if field else None for field in (names.reference, names.group))
    reference, group = (
        each if isinstance(each, str) and each.strip() else None for each in (reference, group)
    )
    yield Found(Item(item_id, prompt, shown, reference, group), annotate(item_id, notes), tuple(votes))


def _label(value: Any, names: Names) -> Label | None:
    is_label = isinstance(value, str | int) and not isinstance(value, bool)
    return names.spelled.get(str(value).strip().casefold()) if is_label else None


def _is_flat(file: Foreign) -> bool:
    row = file.head[0]
    return has(file, "id") and any(
        key.endswith(".responses") and f"{key}.users" in row and f"{key}.status" in row for key in row
    )


def _is_nested(file: Foreign) -> bool:
    return has(file, "id", "fields", "responses", "suggestions") and isinstance(file.head[0]["fields"], dict)


ARGILLA = Format(
    "argilla",
    "Argilla records (flat)",
    {"flat": _is_flat, "nested": _is_nested},
    ("flat", "nested"),
    _read,
    named=named_reader(_read_named, "flat", "nested"),
)
