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
from typing import Any

from trustescalate.data.importers.base import Files, Format, Found, Notes, Taken
from trustescalate.data.importers.chatbot_arena import goes_on, one_hot
from trustescalate.data.importers.chatbot_arena import listed as listed_texts
from trustescalate.data.importers.codes import FAIL, PAIR_SPELLINGS, PASS, check_numbers
from trustescalate.data.importers.columns import PROMPT, SINGLE
from trustescalate.data.importers.fields import answer, get, has, name, text
from trustescalate.data.importers.files import Foreign, Record, Rejected, Unusable, from_text
from trustescalate.data.importers.harness import BINARY
from trustescalate.data.importers.label_studio_rows import ROW, joined_rows, listed
from trustescalate.data.importers.names import SIDES, Names, named_reader
from trustescalate.data.importers.verdicts import SWAPPED, judged, pairwise, verdict
from trustescalate.errors import DataError
from trustescalate.records import Annotation, Item, Judgment, Label, Task, Turn, Vote

SHOWN: Mapping[str, Label] = {"left": "A", "right": "B"}
_STEMS = ("answer", "response", "output", "summary", "option", "assistant", "model")
PLACES: Mapping[str, Label] = {
    f"{stem}{gap}{end}": label
    for label, ends in (("A", ("a", "1")), ("B", ("b", "2")))
    for stem in _STEMS
    for gap in ("", "_")
    for end in ends
} | {"a_winner": "A", "b_winner": "B", "a_wins": "A", "b_wins": "B"}
HOW = "--columns FILE with [import] prompt, responses and label (the control), and [task] with its labels"
_KNOWN = {"id", "item_id", "left_is", "reference", "group"}
SOMEONE = "prediction"
NO_PROMPT = "(the prompt is not in the file)"
SHORT = 200


def _read(files: Files, notes: Notes) -> Iterator[Taken]:
    return _read_named(files, notes, None)


def _read_named(files: Files, notes: Notes, given: Names | None) -> Iterator[Taken]:
    for part in ("tasks", "rows"):
        for file in files[part]:
            records = list(file.records()) if part == "tasks" else list(joined_rows(file, given or Names()))
            values = [record.value for record in records if isinstance(record, Record)]
            names = given or Names().of(_task_of(file, values))
            _check_fields(file, values, names)
            if notes.task not in (None, names.task):
                raise DataError(
                    [f"{file.path}: another task than the file before"], "import one kind at once"
                )
            notes.task = names.task
            choices = _choices(_all_results(values), names)
            check_numbers(names.task, choices, str(file.path), names.spelled)
            results = [each for value in values for one in _predictions(value) for each in _results(one)]
            predicted = _choices(results, names)
            check_numbers(names.task, predicted, f"{file.path}: predictions", names.spelled, by_judge=True)
            _say(values, names, notes)
            for record in records:
                if isinstance(record, Rejected):
                    yield record
                    continue
                try:
                    yield from _taken(record, str(file.path), names)
                except Unusable as error:
                    yield Rejected(str(file.path), record.place, str(error))


def _task_of(file: Foreign, values: list[Any]) -> Task:
    """A comparison if two responses are shown; else pass or fail, if these are the choices."""
    data = [value["data"] for value in values if _has_data(value)]
    results = _all_results(values)
    if not data or any(_sides(each) for each in data):
        return pairwise()
    if any(result.get("type") == "pairwise" for result in results):
        return pairwise()
    if {choice.strip().casefold() for choice in _choices(results, Names())} <= {*PASS, *FAIL}:
        return BINARY
    raise DataError(
        [f"{file.path}: one response each, with labels of no known meaning: {_controls(results)}"],
        f"define them: {HOW}",
    )


def _check_fields(file: Foreign, values: list[Any], names: Names) -> None:
    """Refuse a file without any of the named fields, or without a label at the named control, by name."""
    data = [value["data"] for value in values if _has_data(value)]
    unknown = [key for key in names.given if data and not any(key in each for each in data)]
    if unknown:
        raise DataError([f"{file.path}: data holds no field {', '.join(map(repr, unknown))}"], "fix [import]")
    if data and not any(_fields(each, names) for each in data):
        seen = ", ".join(
            repr(key[:40]) for key in list(dict.fromkeys(key for each in data for key in each))[:20]
        )
        what = "two responses" if names.is_pairwise else "a response"
        raise DataError(
            [f"{file.path}: no field of data is known to hold {what}; there are {seen}"], f"name them: {HOW}"
        )
    results = _all_results(values)
    chosen = [result for result in results if result.get("type") in ("choices", "pairwise", "rating")]
    if chosen and not any(_is_label(result, names) for result in chosen):
        raise DataError(
            [f"{file.path}: no control is known to hold the label; there are {_controls(chosen)}"],
            f"name it: {HOW}",
        )


def _all_results(values: list[Any]) -> list[Mapping[str, Any]]:
    tasks = [value for value in values if isinstance(value, dict)]
    return [each for task in tasks for one in listed(task.get("annotations")) for each in _results(one)]


def _has_data(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("data"), dict)


def _controls(results: list[Mapping[str, Any]]) -> str:
    """The controls with the first of their values."""
    values: dict[str, dict[str, None]] = defaultdict(dict)
    for result in results:
        values[str(result.get("from_name"))[:40]] |= dict.fromkeys(
            repr(each[:40]) for each in _chosen(result)
        )
    return "; ".join(
        f"{control!r}" + (f" ({', '.join(list(given)[:6])})" if given else "")
        for control, given in list(values.items())[:10]
    )


def _say(values: list[Any], names: Names, notes: Notes) -> None:
    notes.assume(
        "annotations that were cancelled or hold no choice are counted, and are no labels; nor are drafts"
    )
    data = [value["data"] for value in values if _has_data(value)]
    if names.is_pairwise and any("left_is" not in each for each in data):
        notes.assume("without left_is, the left response is the first-named one, which is A")
    kept = {key for each in data for key in _meta(each, names)}
    used = {key for each in data for key in (*_fields(each, names), _prompt_key(each, names))}
    notes.left_out |= dict.fromkeys(sorted({key for each in data for key in each} - kept - used - _KNOWN))
    if any("winner_model_a" in each for each in data):
        notes.assume(
            "a winner in the data itself is kept in meta as upstream_vote: it is no annotator's label"
        )
    if any(_prompt_key(each, names) is None for each in data):
        notes.assume(f"where a task has no prompt, it is {NO_PROMPT!r}")


# ── a task ─────────────────────────────────────────────────────────────────────────────────────────


def _taken(record: Record, file: str, names: Names) -> Iterator[Taken]:
    value = record.value
    if not isinstance(value, dict):
        raise Unusable("is no task, or rows of one id that show different texts")
    item, swapped = _read_item(value, names)
    labels_of: dict[str, set[Label]] = defaultdict(set)
    criteria: dict[str, Any] = {}
    for place, one in enumerate(listed(value.get("annotations"))):
        try:
            who = _who(one)
            labels_of[who] |= _labels(one, swapped, names)
            if other := _criteria(one, names):
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
    yield Found(item, tuple(notes), tuple(_judgments(value, item.id, swapped, names)))


def _read_item(value: Mapping[str, Any], names: Names) -> tuple[Item, bool | None]:
    """A task's item, and whether B was shown on the left; None where it is unknown."""
    data = get(value, "data")
    if not isinstance(data, dict):
        raise Unusable("data is no object of fields")
    usual = (names.id,) if names.id else ("item_id", "id")
    key = next((key for key in usual if data.get(key) not in (None, "")), None)
    item_id = name(data, key) if key else name(value, "id")
    if not (fields := _fields(data, names)):
        raise Unusable(f"data holds no {'two responses' if names.is_pairwise else 'single response'}")
    prompt, responses = _texts(data, _prompt_key(data, names), fields)
    swapped = _swapped(data) if names.is_pairwise else None
    reference, group = (data.get(key) for key in (names.reference or "reference", names.group or "group"))
    item = Item(
        item_id,
        prompt,
        responses[::-1] if swapped else responses,
        reference if isinstance(reference, str) and reference.strip() else None,
        group if isinstance(group, str) and group.strip() else None,
        _meta(data, names),
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
    prompts, *responses = (listed_texts(data, key) for key in (asked, *fields))
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


def _meta(data: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """Short texts that are neither shown nor an id, and a winner that the data names."""
    used = {*_KNOWN, *PROMPT, *SINGLE, *sum(SIDES, ()), *names.given}
    meta: dict[str, Any] = {
        key: value
        for key, value in data.items()
        if key not in used and isinstance(value, str) and 0 < len(value) <= SHORT
    }
    with suppress(Unusable):  # an unusable upstream vote rejects no annotation
        if (upstream := one_hot(data)) is not None:
            meta["upstream_vote"] = upstream
    return meta


def _fields(data: Mapping[str, Any], names: Names) -> tuple[str, ...]:
    """The fields of the responses; none where the data does not hold as many as are judged."""
    if names.responses:
        return names.responses if all(key in data for key in names.responses) else ()
    sides = _sides(data) or ()
    single = next((key for key in SINGLE if key in data), None)
    return sides if names.is_pairwise else (single,) if single and not sides else ()


def _sides(data: Mapping[str, Any]) -> tuple[str, ...] | None:
    return next((pair for pair in SIDES if pair[0] in data and pair[1] in data), None)


def _prompt_key(data: Mapping[str, Any], names: Names) -> str | None:
    return next((key for key in ((names.prompt,) if names.prompt else PROMPT) if key in data), None)


# ── choices ────────────────────────────────────────────────────────────────────────────────────────


def _who(one: Any) -> str:
    """An annotator's number. Some exports hold a user record, whose e-mail address is not read."""
    is_record = isinstance(get(one, "completed_by"), dict)
    return name(one, "completed_by", "id") if is_record else name(one, "completed_by")


def _labels(one: Mapping[str, Any], swapped: bool | None, names: Names) -> set[Label]:
    """The label of an annotation, or several in conflict. Raises Unusable without one."""
    if one.get("was_cancelled"):
        raise Unusable("was cancelled")
    labels = _spelled(_results(one), swapped, names)
    if not labels:
        raise Unusable("holds no choice")
    return labels


def _spelled(results: list[Mapping[str, Any]], swapped: bool | None, names: Names) -> set[Label]:
    labels = {_spell(choice, swapped, names) for choice in _choices(results, names)}
    for result in results:
        if result.get("type") == "pairwise":
            selected = get(result, "value", "selected")
            label = SHOWN.get(selected) if isinstance(selected, str) else None
            if label is None or not names.is_pairwise:
                raise Unusable("the selected side is neither left nor right")
            labels.add(SWAPPED[label] if swapped else label)
    return labels


def _spell(choice: str, swapped: bool | None, names: Names) -> Label:
    spelling = choice.strip().casefold()
    label = names.spelled.get(spelling)
    if names.is_pairwise and label is None:
        if spelling in SHOWN:
            return SWAPPED[SHOWN[spelling]] if swapped else SHOWN[spelling]
        label = PLACES.get(spelling.replace(" ", "_")) or names.spelled.get(spelling.replace(" ", "_"))
    if swapped and names.is_pairwise and label in ("A", "B"):
        raise Unusable(f"the sides were swapped, and {choice[:40]!r} does not say left or right")
    if label is None:
        raise Unusable(f"the choice {choice[:40]!r} is not known")
    return label


def _results(one: Any) -> list[Mapping[str, Any]]:
    results = one.get("result") if isinstance(one, dict) else None
    return [result for result in listed(results) if isinstance(result, dict)]


def _choices(results: list[Mapping[str, Any]], names: Names) -> Iterator[str]:
    """The choices at the controls with the label."""
    for result in results:
        if result.get("type") != "pairwise" and _is_label(result, names):
            yield from _chosen(result)


def _is_label(result: Mapping[str, Any], names: Names) -> bool:
    if result.get("type") == "pairwise" and names.label is None:
        return True
    is_choice = result.get("type") in (("choices", "pairwise", "rating") if names.label else ("choices",))
    return is_choice and str(result.get("from_name"))[:SHORT] in names.questions


def _chosen(result: Mapping[str, Any]) -> list[str]:
    value = result.get("value")
    choices = listed(value.get("choices")) if isinstance(value, dict) else []
    rating = value.get("rating") if isinstance(value, dict) else None
    choices = [str(rating)] if isinstance(rating, int) and not isinstance(rating, bool) else choices
    return [choice for choice in choices if isinstance(choice, str)]


def _criteria(one: Any, names: Names) -> dict[str, str]:
    """All choices by control, if there are more than the label."""
    choices = {
        str(result.get("from_name"))[:SHORT]: ", ".join(_chosen(result))
        for result in _results(one)
        if result.get("type") == "choices" and isinstance(result.get("from_name"), str)
    }
    return choices if choices.keys() - names.questions else {}


# ── verdicts of judges ─────────────────────────────────────────────────────────────────────────────


def _judgments(
    value: Mapping[str, Any], item_id: str, swapped: bool | None, names: Names
) -> Iterator[Judgment]:
    """One vote per judge. A prediction is repeated at each annotation; two different ones are a conflict."""
    votes_of: dict[str, list[Vote]] = defaultdict(list)
    for one in _predictions(value):
        if listed(one.get("result")):
            model = one.get("model_version")
            vote = _vote(one, swapped, names)
            votes = votes_of[model if isinstance(model, str) and model.strip() else SOMEONE]
            votes += [] if any(_same(vote, other) for other in votes) else [vote]
    order = "" if not names.is_pairwise else "BA" if swapped else "AB"
    for judge, votes in votes_of.items():
        vote = votes[0] if len(votes) == 1 else verdict(None, order=order, why="conflict")
        yield judged(item_id, judge, [vote])


def _predictions(value: Any) -> list[Mapping[str, Any]]:
    """The predictions of a task, those that its annotations repeat first."""
    task = value if isinstance(value, dict) else {}
    shown = [one.get("prediction") for one in listed(task.get("annotations")) if isinstance(one, dict)]
    return [one for one in (*shown, *listed(task.get("predictions"))) if isinstance(one, dict)]


def _same(one: Vote, other: Vote) -> bool:
    return (one.probs, one.failure) == (other.probs, other.failure)


def _vote(one: Mapping[str, Any], swapped: bool | None, names: Names) -> Vote:
    order = "" if not names.is_pairwise else "BA" if swapped else "AB"
    score = one.get("score")
    raw = f"score {score}" if isinstance(score, float) else ""
    try:
        labels = _spelled(_results(one), swapped, names)
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
    named=named_reader(_read_named, "tasks", "rows"),
)
