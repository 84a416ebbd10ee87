"""Read Label Studio's exports: JSON, JSON_MIN and CSV, with labels in the items' own frame.

The left response need not be A: `data.left_is` names it. A cancelled or empty annotation, or two different
ones of one annotator, is counted and gives no label; drafts are ignored. Verdicts of judges come from the
predictions that annotators were shown. JSON_MIN and CSV omit cancelled annotations and predictions. Source:
label-studio 1.23.2, label-studio-sdk.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from typing import Any

from trustescalate.data.importers.base import Files, Format, Found, Notes, Taken
from trustescalate.data.importers.chatbot_arena import goes_on, listed, one_hot
from trustescalate.data.importers.codes import FAIL, PAIR_SPELLINGS, PASS, check_numbers
from trustescalate.data.importers.columns import PAIRS, PROMPT, SINGLE
from trustescalate.data.importers.fields import answer, get, has, name, text
from trustescalate.data.importers.files import Foreign, Record, Rejected, Unusable, from_text
from trustescalate.data.importers.harness import BINARY
from trustescalate.data.importers.verdicts import SWAPPED, judged, pairwise, verdict
from trustescalate.errors import DataError
from trustescalate.records import Annotation, Item, Judgment, Label, Task, TaskKind, Turn, Vote

SIDES = (("left", "right"), *PAIRS, ("summary_1", "summary_2"), ("summary1", "summary2"))
"""Fields of the two responses; the first of a pair is shown on the left."""
QUESTIONS = frozenset({"comparison", "preference", "winner", "tie", "verdict", "label", "choice", "overall"})
"""Names of the control with the label; other choices are criteria, kept in meta."""
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
"""Columns that JSON_MIN and CSV add to a task's data, besides the controls."""
SOMEONE = "prediction"
NO_PROMPT = "(the prompt is not in the file)"
LONGEST_ANSWER = 10_000
SHORT = 200


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
            check_numbers(task, _chosen_at_all(values), str(file.path))
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
    """A comparison if two responses are shown; else pass or fail, if these are the choices."""
    data = [
        value["data"] for value in values if isinstance(value, dict) and isinstance(value.get("data"), dict)
    ]
    if not data or any(_sides(each) for each in data):
        return pairwise()
    chosen = {choice.strip().casefold() for choice in _chosen_at_all(values)}
    if chosen <= {*PASS, *FAIL}:
        return BINARY
    shown = ", ".join(repr(choice[:40]) for choice in sorted(chosen)[:6]) or "nothing"
    raise DataError(
        [f"{file.path}: one response each, with the unknown labels {shown}"],
        "export JSON_MIN, and define them: --columns FILE with [task] and its labels",
    )


def _chosen_at_all(values: list[Any]) -> Iterator[str]:
    for value in values:
        for one in _list(value.get("annotations")) if isinstance(value, dict) else ():
            yield from _choices(_results(one))


def _say(values: list[Any], task: Task, notes: Notes) -> None:
    notes.assume(
        "annotations that were cancelled or hold no choice are counted, and are no labels; nor are drafts"
    )
    data = [
        value["data"] for value in values if isinstance(value, dict) and isinstance(value.get("data"), dict)
    ]
    if task.kind is TaskKind.PAIRWISE and any("left_is" not in each for each in data):
        notes.assume("without left_is, the left response is the first-named one, which is A")
    if any("winner_model_a" in each for each in data):
        notes.assume(
            "a winner in the data itself is kept in meta as upstream_vote: it is no annotator's label"
        )
    if any(_prompt_key(each) is None for each in data):
        notes.assume(f"where a task has no prompt, it is {NO_PROMPT!r}")


# ── records ────────────────────────────────────────────────────────────────────────────────────────


def _joined(file: Foreign) -> Iterator[Record | Rejected]:
    """Join rows of JSON_MIN and CSV, an annotation each, to tasks."""
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
    """A task as in the JSON export; None where rows of one id differ in their data."""
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
    results: list[Any] = []
    for key, cell in row.items():
        value = cell
        if isinstance(cell, str) and cell.startswith("[{") and len(cell) <= LONGEST_ANSWER:
            value = from_text(cell)
        for one in _list(value):
            if isinstance(one, dict) and "selected" in one:
                results.append({"type": "pairwise", "from_name": key, "value": one})
        if key in QUESTIONS:
            chosen = value.get("choices") if isinstance(value, dict) else [value]
            chosen = [each for each in _list(chosen) if isinstance(each, str) and each.strip()]
            if chosen:
                results.append({"type": "choices", "from_name": key, "value": {"choices": chosen}})
    return results


# ── a task ─────────────────────────────────────────────────────────────────────────────────────────


def _taken(record: Record, file: str, task: Task) -> Iterator[Taken]:
    value = record.value
    if not isinstance(value, dict):
        raise Unusable("is no task, or rows of one id that show different texts")
    item, swapped = _read_item(value, task)
    labels_of: dict[str, set[Label]] = defaultdict(set)
    criteria: dict[str, Any] = {}
    for place, one in enumerate(_list(value.get("annotations"))):
        try:
            who = _who(one)
            labels_of[who] |= _labels(one, swapped, task)
            if other := _criteria(one):
                criteria[who] = other
        except Unusable as error:
            mark = one.get("id") if isinstance(one, dict) and isinstance(one.get("id"), int | str) else place
            yield Rejected(file, record.place, f"annotation {str(mark)[:40]} of {item.id!r}: {error}")
    notes = []
    for who, labels in labels_of.items():
        if len(labels) > 1:
            both = " and ".join(sorted(labels))
            yield Rejected(file, record.place, f"{who!r} says {both} of {item.id!r}: neither is taken")
        elif labels:
            notes.append(Annotation(item.id, who, labels.pop()))
    if criteria:
        item = replace(item, meta={**item.meta, "criteria": criteria})
    yield Found(item, tuple(notes), tuple(_judgments(value, item.id, swapped, task)))


def _read_item(value: Mapping[str, Any], task: Task) -> tuple[Item, bool | None]:
    """A task's item, and whether B was shown on the left; None where it is unknown."""
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
    return item, swapped


def _texts(
    data: Mapping[str, Any], asked: str | None, fields: tuple[str, ...]
) -> tuple[str, tuple[str | tuple[Turn, ...], ...]]:
    """Prompt and responses: texts, or JSON lists of turns as in Kaggle's table."""
    if asked is None:
        return NO_PROMPT, tuple(answer(data, key) for key in fields)
    plain = [text(data, asked), *(answer(data, key) for key in fields)]
    if not all(cell.startswith("[") and isinstance(from_text(cell), list) for cell in plain):
        return plain[0], tuple(plain[1:])
    prompts, *responses = (listed(data, key) for key in (asked, *fields))
    if any(len(each) != len(prompts) for each in responses):
        raise Unusable(f"{asked} and {', '.join(fields)} have different numbers of turns")
    return prompts[0], tuple(goes_on(prompts, each) for each in responses)


def _swapped(data: Mapping[str, Any]) -> bool | None:
    if "left_is" not in data:
        return None
    left = data["left_is"].strip().casefold() if isinstance(data["left_is"], str) else None
    label = {**PAIR_SPELLINGS, **PLACES}.get(left) if left else None
    if label not in ("A", "B"):
        raise Unusable(f"left_is is {str(data['left_is'])[:40]!r}: that is neither response")
    return label == "B"


def _meta(data: Mapping[str, Any]) -> dict[str, Any]:
    """Short texts that are neither shown nor an id, and a winner that the data names."""
    used = {"id", "item_id", "left_is", "reference", "group", *PROMPT, *SINGLE, *sum(SIDES, ())}
    meta: dict[str, Any] = {
        key: value
        for key, value in data.items()
        if key not in used and isinstance(value, str) and 0 < len(value) <= SHORT
    }
    with suppress(Unusable):  # an unusable upstream vote rejects no annotation
        if (upstream := one_hot(data)) is not None:
            meta["upstream_vote"] = upstream
    return meta


def _sides(data: Mapping[str, Any]) -> tuple[str, str] | None:
    return next((pair for pair in SIDES if pair[0] in data and pair[1] in data), None)


def _prompt_key(data: Mapping[str, Any]) -> str | None:
    return next((key for key in PROMPT if key in data), None)


# ── choices ────────────────────────────────────────────────────────────────────────────────────────


def _who(one: Any) -> str:
    """An annotator's number. Some exports hold a user record, whose e-mail address is not read."""
    is_record = isinstance(get(one, "completed_by"), dict)
    return name(one, "completed_by", "id") if is_record else name(one, "completed_by")


def _labels(one: Mapping[str, Any], swapped: bool | None, task: Task) -> set[Label]:
    """The label of an annotation, or several in conflict. Raises Unusable without one."""
    if one.get("was_cancelled"):
        raise Unusable("was cancelled")
    labels = _spelled(_results(one), swapped, task)
    if not labels:
        raise Unusable("holds no choice")
    return labels


def _spelled(results: list[Mapping[str, Any]], swapped: bool | None, task: Task) -> set[Label]:
    labels = {_spell(choice, swapped, task) for choice in _choices(results)}
    for result in results:
        if result.get("type") == "pairwise":
            selected = get(result, "value", "selected")
            label = SHOWN.get(selected) if isinstance(selected, str) else None
            if label is None or task.kind is not TaskKind.PAIRWISE:
                raise Unusable("the selected side is neither left nor right")
            labels.add(SWAPPED[label] if swapped else label)
    return labels


def _spell(choice: str, swapped: bool | None, task: Task) -> Label:
    spelling = choice.strip().casefold()
    if task.kind is not TaskKind.PAIRWISE:
        label = "pass" if spelling in PASS else "fail" if spelling in FAIL else None
    elif spelling in SHOWN:
        return SWAPPED[SHOWN[spelling]] if swapped else SHOWN[spelling]
    else:
        label = {**PAIR_SPELLINGS, **PLACES}.get(spelling.replace(" ", "_")) or PAIR_SPELLINGS.get(spelling)
        if swapped and label in ("A", "B"):
            raise Unusable(f"the sides were swapped, and {choice[:40]!r} does not say left or right")
    if label is None:
        raise Unusable(f"the choice {choice[:40]!r} is not known")
    return label


def _results(one: Any) -> list[Mapping[str, Any]]:
    results = one.get("result") if isinstance(one, dict) else None
    return [result for result in _list(results) if isinstance(result, dict)]


def _choices(results: list[Mapping[str, Any]]) -> Iterator[str]:
    """The choices at the controls with the label."""
    for result in results:
        if result.get("type") == "choices" and str(result.get("from_name"))[:SHORT] in QUESTIONS:
            yield from _chosen(result)


def _chosen(result: Mapping[str, Any]) -> list[str]:
    value = result.get("value")
    choices = _list(value.get("choices")) if isinstance(value, dict) else []
    return [choice for choice in choices if isinstance(choice, str)]


def _criteria(one: Any) -> dict[str, str]:
    """All choices by control, if there are more than the label."""
    choices = {
        str(result.get("from_name"))[:SHORT]: ", ".join(_chosen(result))
        for result in _results(one)
        if result.get("type") == "choices" and isinstance(result.get("from_name"), str)
    }
    return choices if choices.keys() - QUESTIONS else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


# ── verdicts of judges ─────────────────────────────────────────────────────────────────────────────


def _judgments(
    value: Mapping[str, Any], item_id: str, swapped: bool | None, task: Task
) -> Iterator[Judgment]:
    """One vote per judge. A prediction is repeated at each annotation; two different ones are a conflict."""
    shown = [one.get("prediction") for one in _list(value.get("annotations")) if isinstance(one, dict)]
    votes_of: dict[str, list[Vote]] = defaultdict(list)
    for one in (*shown, *_list(value.get("predictions"))):
        if isinstance(one, dict) and _list(one.get("result")):
            model = one.get("model_version")
            vote = _vote(one, swapped, task)
            votes = votes_of[model if isinstance(model, str) and model.strip() else SOMEONE]
            votes += [] if any(_same(vote, other) for other in votes) else [vote]
    order = "" if task.kind is not TaskKind.PAIRWISE else "BA" if swapped else "AB"
    for judge, votes in votes_of.items():
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
    kept=("tasks", "rows"),
)
