"""Read flat records of Argilla: submitted responses are labels, discarded ones skips.

The nested export lacks the status of a response, so drafts look like labels there: it is refused. Suggestions
are verdicts of a judge. Source: Argilla's SDK, records.to_list(flatten=True).
"""

from collections.abc import Iterator
from typing import Any

from trustescalate.data.importers.base import Files, Format, Found, Notes, Taken, each
from trustescalate.data.importers.codes import PAIR_SPELLINGS, check_numbers, spelling
from trustescalate.data.importers.fields import answer, has, name, text
from trustescalate.data.importers.files import Foreign, Record, Unusable
from trustescalate.data.importers.verdicts import annotate, judged, pairwise, verdict
from trustescalate.errors import DataError
from trustescalate.records import SKIP, Item, Label

QUESTION = "preference"
FIELDS = ("prompt", "response_a", "response_b")


def _read(files: Files, notes: Notes) -> Iterator[Taken]:
    for file in files["nested"]:
        raise DataError(
            [f"{file.path}: Argilla's nested export does not say which responses were submitted"],
            "export records.to_list(flatten=True) instead",
        )
    notes.task = pairwise()
    notes.assume(f"the question {QUESTION!r} holds the labels; drafts are none, discarded responses skips")
    for file in files["flat"]:
        rows = [record.value for record in file.records() if isinstance(record, Record)]
        values = [row.get(f"{QUESTION}.responses") for row in rows if isinstance(row, dict)]
        labels = [value for each in values if isinstance(each, list) for value in each]
        check_numbers(notes.task, labels, f"{file.path}: {QUESTION}.responses")
        yield from each(file, _record)


def _record(row: Any) -> Iterator[Found]:
    item_id = name(row, "id")
    prompt, (first, second) = text(row, FIELDS[0]), (answer(row, field) for field in FIELDS[1:])
    columns = [row.get(f"{QUESTION}.responses{part}") or [] for part in ("", ".users", ".status")]
    if not all(isinstance(part, list) for part in columns) or len({len(part) for part in columns}) > 1:
        raise Unusable(f"{QUESTION}.responses, .users and .status are not lists of one length")
    notes: dict[str, Label] = {}
    for value, user, status in zip(*columns, strict=True):
        label = SKIP if status == "discarded" else _label(value) if status == "submitted" else None
        if status == "submitted" and label is None:
            raise Unusable(f"the label {value!r} is not known")
        if label is not None and notes.setdefault(str(user), label) != label:
            raise Unusable(f"{user!r} gives two different labels")
    agent, suggested = row.get(f"{QUESTION}.suggestion.agent"), row.get(f"{QUESTION}.suggestion")
    votes = [judged(item_id, agent, [verdict(_label(suggested))])] if isinstance(agent, str) and agent else []
    yield Found(Item(item_id, prompt, (first, second)), annotate(item_id, notes), tuple(votes))


def _label(value: Any) -> Label | None:
    return PAIR_SPELLINGS.get(spelling(value)) if isinstance(value, str) else None


def _is_nested(file: Foreign) -> bool:
    return has(file, "id", "fields", "responses", "suggestions") and isinstance(file.head[0]["fields"], dict)


ARGILLA = Format(
    "argilla",
    "Argilla records (flat)",
    {"flat": lambda file: has(file, *FIELDS, f"{QUESTION}.responses"), "nested": _is_nested},
    ("flat", "nested"),
    _read,
)
