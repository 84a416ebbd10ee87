"""Label Studio's exports: JSON, JSON_MIN and CSV. What people chose, in the items' own frame.

Left is not A: `data.left_is` says what stood there. An annotation that was cancelled, that is empty, or whose
author says two different things is counted and gives no label; drafts are not looked at. What judges said is
found in the predictions that annotators were shown. JSON_MIN and CSV leave out what was cancelled, and all
predictions. Source: label-studio 1.23.2, label-studio-sdk.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import groupby
from typing import Any, NamedTuple

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
    name,
    pairwise,
    text,
    verdict,
)
from trustescalate.data.importers.chatbot_arena import goes_on, listed, one_hot
from trustescalate.data.importers.columns import FAIL, PAIR_SPELLINGS, PAIRS, PASS, PROMPT, SINGLE
from trustescalate.data.importers.files import Foreign, Record, Rejected, from_text
from trustescalate.data.importers.harness import BINARY
from trustescalate.errors import DataError
from trustescalate.records import TIE, Annotation, Item, Judgment, Label, Task, TaskKind, Turn, Vote

SIDES = (("left", "right"), *PAIRS, ("summary_1", "summary_2"), ("summary1", "summary2"))
"""Fields that hold the two responses; the first of a pair stands left."""
QUESTIONS = frozenset({"comparison", "preference", "winner", "tie", "verdict", "label", "choice", "overall"})
"""Names of the control whose choice is the label; other choices are criteria, and kept in meta."""
SHOWN: Mapping[str, Label] = {"left": "A", "right": "B"}
_STEMS = ("answer", "response", "output", "summary", "option", "assistant", "model")
PLACES: Mapping[str, Label] = {
    f"{stem}{gap}{end}": label
    for label, ends in (("A", ("a", "1")), ("B", ("b", "2")))
    for stem in _STEMS
    for gap in ("", "_")
    for end in ends
} | {"a_winner": "A", "b_winner": "B", "a_wins": "A", "b_wins": "B"}
ROW = ("annotation_id", "annotator", "lead_time")
"""Columns that JSON_MIN and CSV add to a task's data; the controls stand beside them."""
SOMEONE = "prediction"
NO_PROMPT = "(the prompt is not in the file)"
LONGEST_ANSWER = 10_000
SHORT = 200


class _Seen(NamedTuple):
    """A task's item, and whether B stood left; None where nothing says it."""

    item: Item
    swapped: bool | None


def _read(files: Files, notes: Notes) -> Iterator[Taken]:
    for part in ("tasks", "rows"):
        for file in files[part]:
            records = list(file.records()) if part == "tasks" else list(_joined(file))
            values = [record.value for record in records if isinstance(record, Record)]
            task = _task_of(file, values)
            if notes.task not in (None, task):
                raise DataError(
                    [f"{file.path}: another task than the file before"], "import one kind at once"
                )
            notes.task = task
            _say(values, task, notes)
            for record in records:
                if isinstance(record, Rejected):
                    yield record
                    continue
                try:
                    yield from _taken(record, str(file.path), task)
                except Unusable as error:
                    yield Rejected(str(file.path), record.place, str(error))


def _task_of(file: Foreign, values: list[Any]) -> Task:
    """A comparison, where two responses are shown; else pass or fail, if that is what people chose."""
    data = [
        value["data"] for value in values if isinstance(value, dict) and isinstance(value.get("data"), dict)
    ]
    if not data or any(_sides(each) for each in data):
        return pairwise()
    chosen = {
        choice.strip().casefold()
        for value in values
        if isinstance(value, dict)
        for one in _list(value.get("annotations"))
        for choice in _choices(_results(one))
    }
    if chosen <= {*PASS, *FAIL}:
        return BINARY
    shown = ", ".join(repr(choice[:40]) for choice in sorted(chosen)[:6]) or "nothing"
    raise DataError(
        [f"{file.path}: one response each, labelled {shown}: what does that mean?"],
        "export JSON_MIN, and say it: --columns FILE with [task] and its labels",
    )


def _say(values: list[Any], task: Task, notes: Notes) -> None:
    notes.assume(
        "annotations that were cancelled or hold no choice are counted, and are no labels; drafts neither"
    )
    data = [
        value["data"] for value in values if isinstance(value, dict) and isinstance(value.get("data"), dict)
    ]
    if task.kind is TaskKind.PAIRWISE and any("left_is" not in each for each in data):
        notes.assume("where left_is does not say what stood left, it is the first-named response, which is A")
    if any("winner_model_a" in each for each in data):
        notes.assume(
            "a winner in the data itself is kept in meta as upstream_vote: it is no annotator's label"
        )
    if any(_prompt_key(each) is None for each in data):
        notes.assume(f"where a task has no prompt, it is {NO_PROMPT!r}")


# ── records ──────────────────────────────────────────────────────────────────────────────────────


def _joined(file: Foreign) -> Iterator[Record | Rejected]:
    """Rows of JSON_MIN and CSV, an annotation each, as the tasks that they are cut from."""
    rows: list[Record] = []
    for record in file.records():
        if isinstance(record, Rejected):
            yield record
        elif not isinstance(record.value, dict):
            yield Rejected(str(file.path), record.place, "is no row of columns")
        else:
            rows.append(record)
    order: dict[str, int] = {}
    keyed = [(order.setdefault(_row_key(row.value), len(order)), row) for row in rows]
    for _, together in groupby(sorted(keyed, key=lambda each: each[0]), key=lambda each: each[0]):
        same = [row for _, row in together]
        yield Record(same[0].place, _as_task([row.value for row in same]))


def _row_key(row: Mapping[str, Any]) -> str:
    return repr([row.get(key) for key in ("item_id", "id")])


def _as_task(rows: list[Mapping[str, Any]]) -> Any:
    """A task as the JSON export has it. Rows of one id that differ in their data were mixed up."""
    first = rows[0]
    kept = [key for key in ("item_id", "id", *PROMPT, "left_is", *sum(SIDES, ()), *SINGLE) if key in first]
    if any([row.get(key) for key in kept] != [first[key] for key in kept] for row in rows):
        return None
    annotations = [
        {"id": row.get("annotation_id"), "completed_by": row.get("annotator"), "result": _cells(row)}
        for row in rows
    ]
    extra = [key for key in ("reference", "group", "model_a", "model_b") if key in first]
    return {
        "id": first.get("id"),
        "data": {key: first[key] for key in (*kept, *extra)},
        "annotations": annotations,
    }


def _cells(row: Mapping[str, Any]) -> list[Any]:
    """The controls of a row as results: lists of objects, JSON of these in a cell, or one choice as text."""
    found: list[Any] = []
    for key, cell in row.items():
        value = cell
        if isinstance(cell, str) and cell.startswith("[{") and len(cell) <= LONGEST_ANSWER:
            value = from_text(cell)
        for one in _list(value):
            if isinstance(one, dict) and "selected" in one:
                found.append({"type": "pairwise", "from_name": key, "value": one})
        if key in QUESTIONS:
            chosen = value.get("choices") if isinstance(value, dict) else [value]
            chosen = [each for each in _list(chosen) if isinstance(each, str) and each.strip()]
            found += [{"type": "choices", "from_name": key, "value": {"choices": chosen}}] if chosen else []
    return found


# ── a task ───────────────────────────────────────────────────────────────────────────────────────


def _taken(record: Record, file: str, task: Task) -> Iterator[Taken]:
    value = record.value
    if not isinstance(value, dict):
        raise Unusable("is no task, or rows of one id that show different texts")
    seen = _seen(value, task)
    item_id = seen.item.id
    said: dict[str, set[Label]] = defaultdict(set)
    criteria: dict[str, Any] = {}
    for place, one in enumerate(_list(value.get("annotations"))):
        try:
            who = _who(one)
            said[who] |= _labels(one, seen.swapped, task)
            if other := _criteria(one):
                criteria[who] = other
        except Unusable as error:
            mark = one.get("id") if isinstance(one, dict) and isinstance(one.get("id"), int | str) else place
            yield Rejected(file, record.place, f"annotation {str(mark)[:40]} of {item_id!r}: {error}")
    notes = []
    for who, labels in said.items():
        if len(labels) > 1:
            told = " and ".join(sorted(labels))
            yield Rejected(file, record.place, f"{who!r} says {told} of {item_id!r}: neither is taken")
        elif labels:
            notes.append(Annotation(item_id, who, labels.pop()))
    meta = {**seen.item.meta, **({"criteria": criteria} if criteria else {})}
    item = Item(item_id, seen.item.prompt, seen.item.responses, seen.item.reference, seen.item.group, meta)
    yield Found(item, tuple(notes), tuple(_judgments(value, item_id, seen.swapped, task)))


def _seen(value: Mapping[str, Any], task: Task) -> _Seen:
    data = get(value, "data")
    if not isinstance(data, dict):
        raise Unusable("data is no object of fields")
    key = next((key for key in ("item_id", "id") if data.get(key) not in (None, "")), None)
    item_id = name(data, key) if key else name(value, "id")
    sides = _sides(data) or ()
    single = next((key for key in SINGLE if key in data), None)
    fields = sides if task.kind is TaskKind.PAIRWISE else (single,) if single and not sides else ()
    if not fields:
        raise Unusable(
            "data holds no two responses" if task.responses == 2 else "data holds no single response"
        )
    prompt, responses = _texts(data, _prompt_key(data), fields)
    swapped = _swapped(data) if sides else None
    reference, group = (data.get(key) for key in ("reference", "group"))
    item = Item(
        item_id,
        prompt,
        responses[::-1] if swapped else responses,
        reference if isinstance(reference, str) and reference.strip() else None,
        group if isinstance(group, str) and group.strip() else None,
        _meta(data),
    )
    return _Seen(item, swapped)


def _texts(
    data: Mapping[str, Any], asked: str | None, fields: tuple[str, ...]
) -> tuple[str, tuple[str | tuple[Turn, ...], ...]]:
    """Prompt and responses: texts, or, as Kaggle's table has them, JSON lists of a conversation's turns."""
    if asked is None:
        return NO_PROMPT, tuple(text(data, key) for key in fields)
    plain = [text(data, key) for key in (asked, *fields)]
    if not all(cell.startswith("[") and isinstance(from_text(cell), list) for cell in plain):
        return plain[0], tuple(plain[1:])
    prompts, *said = (listed(data, key) for key in (asked, *fields))
    if any(len(each) != len(prompts) for each in said):
        raise Unusable(f"{asked} and {', '.join(fields)} have different numbers of turns")
    return prompts[0], tuple(goes_on(prompts, each) for each in said)


def _swapped(data: Mapping[str, Any]) -> bool | None:
    if "left_is" not in data:
        return None
    said = data["left_is"].strip().casefold() if isinstance(data["left_is"], str) else None
    label = {**PAIR_SPELLINGS, **PLACES}.get(said) if said else None
    if label not in ("A", "B"):
        raise Unusable(f"left_is is {str(data['left_is'])[:40]!r}: that is neither response")
    return label == "B"


def _meta(data: Mapping[str, Any]) -> dict[str, Any]:
    """Names and the like: short texts that are neither shown nor an id; and a winner that the data names."""
    used = {"id", "item_id", "left_is", "reference", "group", *PROMPT, *SINGLE, *sum(SIDES, ())}
    meta: dict[str, Any] = {
        key: value
        for key, value in data.items()
        if key not in used and isinstance(value, str) and 0 < len(value) <= SHORT
    }
    with suppress(Unusable):  # the vote of somebody else costs no annotation
        if (upstream := one_hot(data)) is not None:
            meta["upstream_vote"] = upstream
    return meta


def _sides(data: Mapping[str, Any]) -> tuple[str, str] | None:
    return next((pair for pair in SIDES if pair[0] in data and pair[1] in data), None)


def _prompt_key(data: Mapping[str, Any]) -> str | None:
    return next((key for key in PROMPT if key in data), None)


# ── what was chosen ──────────────────────────────────────────────────────────────────────────────


def _who(one: Any) -> str:
    """An annotator's number. Some exports hold a whole person: the address of the mail stays there."""
    return (
        name(one, "completed_by", "id")
        if isinstance(get(one, "completed_by"), dict)
        else name(one, "completed_by")
    )


def _labels(one: Mapping[str, Any], swapped: bool | None, task: Task) -> set[Label]:
    """What an annotation says: one label, or several in conflict. Raises Unusable where it is none."""
    if one.get("was_cancelled"):
        raise Unusable("was cancelled")
    found = _spelled(_results(one), swapped, task)
    if not found:
        raise Unusable("holds no choice")
    return found


def _spelled(results: list[Mapping[str, Any]], swapped: bool | None, task: Task) -> set[Label]:
    found: set[Label] = set()
    for result in results:
        if result.get("type") == "pairwise":
            said = get(result, "value", "selected")
            said = SHOWN.get(said) if isinstance(said, str) else None
            if said is None or task.kind is not TaskKind.PAIRWISE:
                raise Unusable("what was selected is neither left nor right")
            found.add(_turned(said) if swapped else said)
    return found | {_spell(choice, swapped, task) for choice in _choices(results)}


def _spell(choice: str, swapped: bool | None, task: Task) -> Label:
    said = choice.strip().casefold()
    if task.kind is not TaskKind.PAIRWISE:
        label = "pass" if said in PASS else "fail" if said in FAIL else None
    elif said in SHOWN:
        return _turned(SHOWN[said]) if swapped else SHOWN[said]
    else:
        label = {**PAIR_SPELLINGS, **PLACES}.get(said.replace(" ", "_")) or PAIR_SPELLINGS.get(said)
        if swapped and label in ("A", "B"):
            raise Unusable(f"the sides were swapped, and {choice[:40]!r} does not say left or right")
    if label is None:
        raise Unusable(f"the choice {choice[:40]!r} is not known")
    return label


def _turned(label: Label) -> Label:
    return {"A": "B", "B": "A"}.get(label, TIE)


def _results(one: Any) -> list[Mapping[str, Any]]:
    found = one.get("result") if isinstance(one, dict) else None
    return [result for result in _list(found) if isinstance(result, dict)]


def _choices(results: list[Mapping[str, Any]]) -> Iterator[str]:
    """What was chosen at the controls that hold the label."""
    for result in results:
        if result.get("type") == "choices" and str(result.get("from_name"))[:SHORT] in QUESTIONS:
            yield from _chosen(result)


def _chosen(result: Mapping[str, Any]) -> list[str]:
    value = result.get("value")
    found = _list(value.get("choices")) if isinstance(value, dict) else []
    return [choice for choice in found if isinstance(choice, str)]


def _criteria(one: Any) -> dict[str, str]:
    """Everything that was chosen, where more than the label was."""
    found = {
        str(result.get("from_name"))[:SHORT]: ", ".join(_chosen(result))
        for result in _results(one)
        if result.get("type") == "choices" and isinstance(result.get("from_name"), str)
    }
    return found if found.keys() - QUESTIONS else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


# ── what judges said ─────────────────────────────────────────────────────────────────────────────


def _judgments(
    value: Mapping[str, Any], item_id: str, swapped: bool | None, task: Task
) -> Iterator[Judgment]:
    """One vote a judge. A prediction is repeated at each annotation; two that differ are a conflict."""
    shown = [one.get("prediction") for one in _list(value.get("annotations")) if isinstance(one, dict)]
    said: dict[str, list[Vote]] = defaultdict(list)
    for one in (*shown, *_list(value.get("predictions"))):
        if isinstance(one, dict) and _list(one.get("result")):
            model = one.get("model_version")
            vote = _vote(one, swapped, task)
            votes = said[model if isinstance(model, str) and model.strip() else SOMEONE]
            votes += [] if any(_same(vote, other) for other in votes) else [vote]
    order = "" if task.kind is not TaskKind.PAIRWISE else "BA" if swapped else "AB"
    for judge, votes in said.items():
        vote = votes[0] if len(votes) == 1 else verdict(None, order=order, why="conflict")
        yield judged(item_id, judge, [vote])


def _same(one: Vote, other: Vote) -> bool:
    return (one.probs, one.failure) == (other.probs, other.failure)


def _vote(one: Mapping[str, Any], swapped: bool | None, task: Task) -> Vote:
    order = "" if task.kind is not TaskKind.PAIRWISE else "BA" if swapped else "AB"
    score = one.get("score")
    raw = f"score {score}" if isinstance(score, float) else ""
    try:
        labels = _spelled(_results(one), swapped, task)
    except Unusable:
        return verdict(None, raw=raw, order=order)
    if len(labels) != 1:
        return verdict(None, raw=raw, order=order, why="conflict" if labels else "none")
    return verdict(labels.pop(), raw=raw, order=order)


def _is_task(file: Foreign) -> bool:
    first = file.head[0]
    return (
        has(file, "data", "annotations")
        and isinstance(first["data"], dict)
        and isinstance(first["annotations"], list)
    )


LABEL_STUDIO = Format(
    "label_studio",
    "Label Studio exports (JSON, JSON_MIN, CSV)",
    {"tasks": _is_task, "rows": lambda file: has(file, *ROW) or set(ROW) <= set(file.columns)},
    ("tasks", "rows"),
    _read,
)
