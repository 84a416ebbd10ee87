"""Read rubric files of other tools, and write their criteria as [[criteria]] tables.

Read: the rubrics of Prometheus and Ragas (a text for each score), also inside rows; weighted lists as
autorubric and HealthBench write them; levels by number. A criterion of negative weight becomes the question
whether the response is free of it, at the weight without its sign: the weighted total then differs by a
constant factor and summand. Sources: prometheus-eval, autorubric (rubric.py), HealthBench (simple-evals).
"""

import json
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from trustescalate.config import parse_config
from trustescalate.config.criteria import CriterionTable
from trustescalate.data.importers.files import Rejected, open_foreign
from trustescalate.errors import ConfigError, DataError, UsageError
from trustescalate.records import SKIP
from trustescalate.records.jsonl import write_atomically

MOST_CRITERIA = 50
LARGEST = sys.float_info.max
LONGEST_NAME = 60
SCORE = re.compile(r"(?:orig_)?score_?(\d{1,2})(?:_description)?")
TEXTS = ("requirement", "criterion", "criteria", "orig_criteria", "description", "question", "text")
NAMES = ("name", "id", "title", "code", "label")
WEIGHTS = ("weight", "points")
MEASURES = ("options", "scale", "levels", "labels")
NESTED = ("rubric", "rubrics", "criteria", "sections")
YES_NO = ("yes", "no")
HINT = "name a new folder for a set, as --to set; only a rubric, JSON or JSON lines, goes to a .toml file"


@dataclass(frozen=True, slots=True)
class Criterion:
    """A criterion as [[criteria]] holds it; either `scale` or `labels` is set."""

    name: str
    question: str
    weight: float = 1.0
    scale: tuple[int, int] | None = None
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Rubric:
    """The criteria of a rubric file, the kind of task that they need, and what was assumed."""

    kind: str
    criteria: tuple[Criterion, ...]
    assumed: tuple[str, ...]
    written: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {**asdict(self), "toml": self.toml()}

    def toml(self) -> str:
        """The tables, to be put into a configuration. All texts are escaped."""
        lines = [f"# Put these tables into trustescalate.toml, and set in [task]: kind = {_toml(self.kind)}"]
        return "\n".join([*lines, *criterion_tables(self.criteria), ""])

    def lines(self) -> list[str]:
        """For a terminal: the tables where they were not written to a file."""
        if self.written is None:
            return self.toml().splitlines()
        return [f"criteria:    {len(self.criteria):,}", f"written:     {self.written}"]


def criterion_tables(criteria: Iterable[Criterion | CriterionTable]) -> list[str]:
    """The lines of [[criteria]] tables. All texts are escaped."""
    lines = list[str]()
    for each in criteria:
        lines += ["", "[[criteria]]", f"name = {_toml(each.name)}", f"question = {_toml(each.question)}"]
        if each.scale is not None:
            lines.append(f"scale = [{each.scale[0]}, {each.scale[1]}]")
        if each.labels is not None:
            lines.append(f"labels = [{', '.join(map(_toml, each.labels))}]")
        lines.append(f"weight = {each.weight!r}")
        if isinstance(each, CriterionTable) and each.alpha is not None:
            lines.append(f"alpha = {each.alpha!r}")
    return lines


def import_rubric(paths: Sequence[Path], to: Path | None = None) -> Rubric:
    """Read one rubric file, and write its [[criteria]] to a file if one is named.

    Raises DataError for a file without a rubric and for a criterion that cannot be asked, UsageError where
    the file to write exists.
    """
    if to is not None and to.exists():
        raise UsageError(f"{to} exists already", "name a new file")
    if len(paths) != 1:
        raise UsageError("a rubric is one file", "import one rubric at a time")
    rubric = _rubric(paths[0], list(_values(paths[0])))
    if to is None:
        return rubric
    write_atomically(to, rubric.toml().encode())
    return replace(rubric, written=str(to))


# ── finding the criteria ───────────────────────────────────────────────────────────────────────────


def _values(path: Path) -> Iterator[tuple[str, Any]]:
    """All records of a file with their places."""
    for record in open_foreign(path).records():
        if isinstance(record, Rejected):
            raise DataError([str(record)], HINT)
        yield f"{path}:{record.place}", record.value


def _rubric(path: Path, values: Sequence[tuple[str, Any]]) -> Rubric:
    # not `canonical`, which has no NaN: a weight is refused later, with its criterion
    lists = {
        json.dumps(listed, sort_keys=True): listed
        for at, value in values
        if (listed := list(_criteria(value, at)))
    }
    rows = [value for _, value in values if isinstance(value, dict) and _inner(value) is not None]
    if len(lists) > 1 and rows and len(rows) == len(values) and not any(map(_is_section, rows)):
        why = f"{len(lists):,} rows have a rubric of their own, and [[criteria]] are asked of every item"
        raise DataError(
            [f"{path}: {why}"],
            "keep one row, or judge such rows with one question and the rubric in the prompt",
        )
    criteria = [each for listed in lists.values() for each in listed]
    if not criteria:
        raise DataError([f"{path}: holds no rubric: no criterion with a text"], HINT)
    if len(criteria) > MOST_CRITERIA:
        raise DataError(
            [f"{path}: {len(criteria):,} criteria, and one request asks at most {MOST_CRITERIA}"],
            "keep the rows of the rubrics that every item is judged by",
        )
    rubric = _together(path, criteria)
    _must_be_accepted(path, rubric)
    if len(lists) > 1 and not all(where for where, _, _ in criteria):
        several = f"the file holds {len(lists):,} rubrics: each becomes a criterion that every item is asked"
        return replace(rubric, assumed=(several, *rubric.assumed))
    return rubric


def _must_be_accepted(path: Path, rubric: Rubric) -> None:
    """Raise DataError where a configuration with these tables would be refused."""
    judge = {"name": "judge", "backend": "openai", "model": "any"}
    task = {"kind": rubric.kind} | ({"labels": YES_NO} if rubric.kind == "choice" else {})
    around = {"version": 1, "task": task, "judges": [judge]}
    try:
        parse_config({**around, **tomllib.loads(rubric.toml())}, path)
    except ConfigError as error:
        _, *lines = error.message.split("\n  ")
        raise DataError(
            [f"{path}: {line}" for line in lines],
            "nothing was written; change the criteria, or divide them into several rubrics",
        ) from None


def _criteria(value: Any, at: str) -> Iterator[tuple[str, str | None, Mapping[str, Any]]]:
    """The criteria in a value: where each stands, the name that its key gives it, and its fields."""
    if isinstance(value, list):
        for place, each in enumerate(value):
            yield from _criteria(each, f"{at}.{place}")
    elif isinstance(value, dict) and (key := _inner(value)) is not None:
        scale = {"scale": value["scale"]} if isinstance(value.get("scale"), dict) else {}
        for where, name, fields in _criteria(value[key], key):
            yield where, name, {**scale, **fields}
    elif isinstance(value, dict) and _is_criterion(value):
        # The place of a row says nothing of its rubric, which other rows may repeat.
        yield "" if _is_scored(value) and "name" not in value else at, None, _own(value)
    elif isinstance(value, dict) and value and all(isinstance(each, dict) for each in value.values()):
        for name, each in value.items():
            if _is_criterion(each):
                yield name, name, _own(each)


def _is_criterion(value: Mapping[str, Any]) -> bool:
    if _is_scored(value):
        return True
    text = next((key for key in TEXTS if isinstance(value.get(key), str)), None)
    return text in ("requirement", "criterion") or (
        text is not None and bool({*WEIGHTS, *MEASURES, *NAMES} & value.keys())
    )


def _is_scored(value: Mapping[str, Any]) -> bool:
    return any(SCORE.fullmatch(key) and isinstance(text, str) for key, text in value.items())


def _inner(value: Mapping[str, Any]) -> str | None:
    return next((key for key in NESTED if isinstance(value.get(key), list | dict)), None)


def _is_section(row: Mapping[str, Any]) -> bool:
    return _inner(row) == "criteria"


def _own(value: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a criterion alone: a row has others, and each has its own."""
    known = {*TEXTS, *NAMES, *WEIGHTS, *MEASURES, "scale_type"} - ({"id"} if _is_row(value) else set())
    return {key: each for key, each in value.items() if key in known or SCORE.fullmatch(key)}


def _is_row(value: Mapping[str, Any]) -> bool:
    return bool({"orig_instruction", "instruction", "orig_response", "response"} & value.keys())


# ── one criterion ──────────────────────────────────────────────────────────────────────────────────


def _together(path: Path, given: Sequence[tuple[str, str | None, Mapping[str, Any]]]) -> Rubric:
    problems, criteria, names = list[str](), list[Criterion](), set[str]()
    assumed: dict[str, None] = {}
    for place, (where, key, fields) in enumerate(given, 1):
        try:
            criterion = _criterion(fields, key, assumed)
        except ValueError as error:
            problems.append(f"{path}: criterion {where or place}: {error}")
            continue
        name, number = criterion.name, 1
        while name.casefold() in names:
            number += 1
            name = f"{criterion.name} {number}"
        names.add(name.casefold())
        criteria.append(replace(criterion, name=name))
    if problems:
        raise DataError(problems, "nothing was written; fix the criteria named above and try again")
    kind = "rating" if any(each.scale for each in criteria) else "binary"
    if any(each.labels not in (None, YES_NO) for each in criteria):
        kind = "choice"
        criteria = [_with_labels(each) for each in criteria]
    elif kind == "rating":
        if any(each.labels for each in criteria):
            assumed["in a rubric with scales, yes is grade 1 and no is grade 0"] = None
        criteria = [_with_scale(each) for each in criteria]
    return Rubric(kind, tuple(criteria), tuple(assumed))


def _criterion(fields: Mapping[str, Any], key: str | None, assumed: dict[str, None]) -> Criterion:
    scores = {int(m[1]): text for name, text in fields.items() if (m := SCORE.fullmatch(name)) and text}
    text = next((fields[each] for each in TEXTS if isinstance(fields.get(each), str)), "")
    if not text.strip() and not scores:
        raise ValueError("has no text")
    text = text.strip() or "How good is the response?"
    levels = fields.get("levels")
    if isinstance(levels, dict) and levels and all(str(level).isdecimal() for level in levels):
        scores |= {int(level): str(each) for level, each in levels.items()}
    scale, labels = _measure(fields, scores, assumed)
    weight = _weight(fields)
    if weight < 0 and labels != YES_NO:
        raise ValueError(f"weight {weight:g}: only a yes/no criterion may count against a response")
    described = "".join(f"\nScore {score}: {scores[score]}" for score in sorted(scores))
    if described:
        question = f"{text}\n{described}"
    elif labels != YES_NO or (text.endswith("?") and weight > 0):
        question = text
    elif weight > 0:
        question = f"Does the response meet this requirement? {text}"
    else:
        question = f"Is the response free of this? {text}"
        assumed["a criterion of negative weight asks whether the response is free of it"] = None
    named = next((fields[each] for each in NAMES if isinstance(fields.get(each), str | int)), key)
    return Criterion(_name(text if named is None else str(named)), question, abs(weight), scale, labels)


def _weight(fields: Mapping[str, Any]) -> float:
    value = next((fields[key] for key in WEIGHTS if fields.get(key) is not None), 1.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise ValueError(f"weight {str(value)[:40]!r} is no number")
    if value == 0:
        raise ValueError("weight 0: it counts nothing; remove it, or give it a weight")
    return float(value)


def _measure(
    fields: Mapping[str, Any], scores: Mapping[int, str], assumed: dict[str, None]
) -> tuple[tuple[int, int] | None, tuple[str, ...] | None]:
    """The scale or the labels of a criterion; by default yes and no."""
    options = fields.get("options") or fields.get("labels")
    scale = fields.get("scale")
    if isinstance(options, list) and options:
        kept = [each for each in options if not (isinstance(each, dict) and each.get("na"))]
        if len(kept) < len(options):
            assumed[f"an option that is not applicable is a {SKIP!r}, and no label"] = None
        names = [str(each.get("label") if isinstance(each, dict) else each) for each in kept]
        if fields.get("scale_type") != "nominal" and all(name.isdecimal() for name in names):
            return _scale([int(name) for name in names]), None
        if len(set(names)) != len(names) or len(names) < 2 or not all(map(str.strip, names)) or SKIP in names:
            raise ValueError("needs two or more options with different labels")
        return None, tuple(names)
    if isinstance(scale, dict) and {"min", "max"} <= scale.keys():
        return _scale([scale["min"], scale["max"]]), None
    if isinstance(scale, list) and len(scale) > 1:
        return _scale(scale), None
    return (_scale(list(scores)), None) if scores else (None, YES_NO)


def _scale(grades: Sequence[Any]) -> tuple[int, int]:
    whole = [int(each) for each in grades if type(each) in (int, float) and float(each).is_integer()]
    if len(whole) < len(grades) or not 0 <= min(whole) < max(whole) < min(whole) + 26:
        raise ValueError(
            "a scale goes from a whole number to a larger one, with at most 26 grades, from 0 on"
        )
    return min(whole), max(whole)


def _with_scale(criterion: Criterion) -> Criterion:
    if criterion.labels is None:
        return criterion
    question = f"{criterion.question}\n\nScore 0: no\nScore 1: yes"
    return replace(criterion, question=question, scale=(0, 1), labels=None)


def _with_labels(criterion: Criterion) -> Criterion:
    if criterion.scale is None:
        return criterion
    low, high = criterion.scale
    return replace(criterion, scale=None, labels=tuple(map(str, range(low, high + 1))))


def _name(text: str) -> str:
    """A name on one line: printable, and not too long, cut at a word.

    >>> _name("Is the model\\nproficient in empathy?")
    'Is the model proficient in empathy?'
    """
    shown = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    if len(shown) > LONGEST_NAME:
        shown = shown[:LONGEST_NAME].rsplit(" ", 1)[0]
    return shown or "criterion"


def _toml(text: str) -> str:
    """A text as TOML: characters that cannot be seen are escaped."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in quoted)
