"""Decide what the codes of a column mean, from all of its rows, before any row is taken.

Words that name a side or a verdict are known, and so are numbers where all tools use them alike: 1 and 2 (and
1.5) for two responses, 0 and 1 for fail and pass. Every other set of codes has two readings at least: the
column is refused as a whole, with the lines of configuration that say which one is right.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trustescalate.data.importers.fields import LARGEST
from trustescalate.data.importers.verdicts import TIES
from trustescalate.errors import DataError
from trustescalate.records import SKIP, TIE, Label, Task, TaskKind

Counts = Mapping[str, int]
"""How many rows hold each spelling of a column, in lower case, without empty cells."""

PAIR_SPELLINGS: Mapping[str, Label] = {
    **dict.fromkeys(("a", "(a)", "1", "response_a", "model_a", "output_1", "response_1", "answer_a"), "A"),
    **dict.fromkeys(("b", "(b)", "2", "response_b", "model_b", "output_2", "response_2", "answer_b"), "B"),
    **dict.fromkeys(("[[a]]", "a>b", "a>>b", "model_1", "answer_1", "assistant_a", "first"), "A"),
    **dict.fromkeys(("[[b]]", "b>a", "b>>a", "model_2", "answer_2", "assistant_b", "second"), "B"),
    **dict.fromkeys((*TIES, "[[c]]", "a=b", "1.5"), TIE),
}
PASS, FAIL = ("1", "pass", "true", "yes", "y", "correct"), ("0", "fail", "false", "no", "n", "incorrect")
EMPTY = ("", "nan", "none", "null", "n/a", "na", "<na>", "#n/a")
FAILED = frozenset({"-1", "error", "invalid", "[invalid]", "unparsable", "parse_error", "failed", "refused"})
"""Spellings of a judge's verdict that could not be read."""
SCALES = (
    ("bronze", "silver", "gold", "platinum", "diamond"),
    ("very poor", "poor", "fair", "average", "good", "very good", "excellent", "outstanding"),
    ("very bad", "bad", "ok", "okay", "good", "very good", "great", "perfect"),
    ("terrible", "bad", "mediocre", "average", "good", "great", "excellent"),
    ("very low", "low", "medium", "moderate", "high", "very high"),
    ("strongly disagree", "disagree", "neutral", "agree", "strongly agree"),
    ("never", "rarely", "sometimes", "often", "always"),
    ("irrelevant", "partially relevant", "somewhat relevant", "relevant", "highly relevant"),
    ("not relevant", "partially relevant", "somewhat relevant", "relevant", "highly relevant"),
)
"""Words of known order, from the lowest."""
MOST_CODES = 1000
"""Different spellings that are counted of a column; more of them are no codes."""
SHOWN = 8
RARE = 0.01
"""Of a word in fewer rows than this share, or in one row, only these rows are refused."""


def cell_text(value: Any) -> str:
    """A cell as text: 1 and 1.0 are equal, an empty cell and NaN are empty."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        whole = value.removesuffix(".0").removesuffix(",0")
        return whole if whole.lstrip("-").isdigit() else value
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def spelling(value: Any) -> str:
    """The spelling of a code, by which cells are compared.

    >>> spelling(1.0), spelling(" Tie "), spelling("Response A")
    ('1', 'tie', 'response_a')
    """
    words = cell_text(value).strip().casefold()
    return words.replace(" ", "_") if words.replace(" ", "_") in PAIR_SPELLINGS else words


def count_code(counts: Counter[str], value: Any) -> None:
    """Count a cell of a column."""
    code = spelling(value)
    if code not in EMPTY and (code in counts or len(counts) < MOST_CODES):
        counts[code] += 1


def known_codes(
    task: Task,
    counts: Counts,
    given: Mapping[str, Label],
    *,
    where: str,
    by_judge: bool = False,
    how: str = "say it in [import] of a file, --columns FILE",
) -> Mapping[str, Label]:
    """Return the label of each spelling of one column. Raises DataError where that is not plain.

    `given` is what the user says: the usual meaning of other numbers stays only if it gives other labels.
    `by_judge` says that unknown spellings may be failed verdicts.

    >>> from trustescalate.data.importers.verdicts import pairwise
    >>> task = pairwise()
    >>> known_codes(task, {"1": 5, "2": 4}, {}, where="label")["2"]
    'B'
    >>> known_codes(task, {"0": 5, "1": 4}, {}, where="label")
    Traceback (most recent call last):
    trustescalate.errors.DataError: 1 problem in the data
      label holds '0' (5), '1' (4), which can mean different things; no row was taken
    """
    for label in given.values():
        if label not in task.annotation_labels:
            raise DataError(
                [f"[import] labels: {label!r} is not one of {', '.join(task.annotation_labels)}"], "fix it"
            )
    own = {
        name: label for label in task.annotation_labels for name in (label, label.casefold(), spelling(label))
    }
    defined = {name: label for key, label in given.items() for name in (key.casefold(), spelling(key))}
    pairs = task.kind is TaskKind.PAIRWISE
    numbers = {code for code in counts if is_number(code) and code not in own}
    if by_judge and numbers != {"-1", "1"} and not (pairs and "0" in numbers):
        numbers.discard("-1")
    coded = numbers | (counts.keys() & {"true", "false"} if pairs else set())
    known = {**usual_codes(task), **own}
    bare = coded - defined.keys()
    usual = {known[code] for code in bare if code in known}
    stray = (
        pairs and len(bare) == 1 and any(known.get(code) in usual - {TIE} for code in counts.keys() - coded)
    )
    if stray or not bare <= usual_numbers(task) or usual & {defined.get(code) for code in coded}:
        known = {code: label for code, label in known.items() if code in own or not is_number(code)}
    known |= defined
    unknown = [code for code in counts if code not in known and not (by_judge and _is_failed(code, numbers))]
    rows = sum(counts.values())
    asked = {
        code
        for code in unknown
        if (code in coded and task.kind is not TaskKind.RATING) or counts[code] > max(1, RARE * rows)
    }
    if asked:
        raise _question(task, counts, asked, where, defined, how)
    return known


def check_numbers(
    task: Task, codes: Iterable[Any], where: str, spelled: Mapping[str, Label], *, by_judge: bool = False
) -> None:
    """Raise DataError where a tool's labels are numbers without a plain meaning; `spelled` has all known."""
    counts, usual = Counter[str](), usual_codes(task)
    for code in codes:
        if is_number(spelling(code)):
            count_code(counts, code)
    defined = {
        code: label
        for code, label in spelled.items()
        if label != usual.get(code) and code != label.casefold()
    }
    how = f'say it in a file, --columns FILE, with [task] kind = "{task.kind}", and in [import]'
    known_codes(task, counts, defined, where=where, by_judge=by_judge, how=how)


def are_grades(values: Iterable[Any]) -> bool:
    """Whether numbers are grades on a scale, on which 1 is no "pass": some of them lie outside 0 to 1.

    >>> are_grades([1, 5, 3]), are_grades([1, 0, 0.5, True, "7", float("nan")])
    (True, False)
    """
    numbers = (each for each in values if isinstance(each, int | float))
    return any(-LARGEST < each < LARGEST and not 0 <= each <= 1 for each in numbers)


def no_verdicts(names: Iterable[str]) -> str:
    """The assumption about judges that give grades."""
    return (
        f"{', '.join(map(repr, names))} give grades on a scale, of which none says pass or fail: "
        "their numbers are failed votes"
    )


def usual_codes(task: Task) -> Mapping[str, Label]:
    """The codes with a known meaning in a task, besides its labels."""
    if task.kind is TaskKind.PAIRWISE:
        return PAIR_SPELLINGS
    if task.labels == ("pass", "fail"):
        return dict.fromkeys(PASS, "pass") | dict.fromkeys(FAIL, "fail")
    return {}


def usual_numbers(task: Task) -> set[str]:
    """The numbers that mean the same in all tools, where a column holds no others."""
    return {"1", "1.5", "2"} if task.kind is TaskKind.PAIRWISE else {"0", "1"}


def _is_failed(code: str, numbers: set[str]) -> bool:
    return (code in FAILED and code not in numbers) or len(code) > 20


def is_number(code: str) -> bool:
    """Whether a spelling is a number."""
    try:
        return math.isfinite(float(code.replace(",", ".")))
    except ValueError:
        return False


def task_of(counts: Counts, spelled: Mapping[str, str], where: str) -> tuple[Task, str | None]:
    """The task of single responses with these labels, and an assumption. Raises DataError if it is not plain.

    `spelled` holds the spelling of each code as the file has it.

    >>> task_of({"high": 2, "low": 3}, {"high": "High", "low": "Low"}, "label")[0].labels
    ('Low', 'High')
    """
    if counts.keys() <= {*PASS, *FAIL}:
        numbers = "label 1 is read as 'pass', 0 as 'fail'" if counts.keys() & {"0", "1"} else None
        return Task(TaskKind.BINARY, "Is the response acceptable?", ("pass", "fail")), numbers
    for scale in SCALES:
        if counts.keys() <= set(scale) and len(counts) > 1:
            labels = tuple(spelled[word] for word in scale if word in counts)
            task = Task(TaskKind.CHOICE, "Which grade fits the response?", labels)
            return task, f"the labels are in this order, from the lowest: {', '.join(labels)}"
    words = sorted(counts, key=_place)
    whole = [int(code) for code in words if re.fullmatch(r"-?[0-9]{1,3}", code)]
    lines = []
    if len(whole) == len(words) and 0 <= whole[0] < whole[-1] <= 10:
        lines = [f'kind = "rating", scale = [{whole[0]}, {whole[-1]}] (the highest is the best)']
    if len(words) <= SHOWN:
        listed = ", ".join(_quoted(spelled.get(word, word)) for word in words)
        lines += [f'kind = "choice", labels = [{listed}] (in the order that you mean)']
    raise DataError(
        [f"{where}: the labels have no known meaning: {_listed(counts, words)}; no row was taken"],
        "say it in a file, --columns FILE, in [task]: "
        + (" or ".join(lines) or 'kind = "rating" or "choice", and its scale or labels'),
    )


def _question(
    task: Task, counts: Counts, asked: set[str], where: str, defined: Mapping[str, Label], how: str
) -> DataError:
    """The refusal of a column, with the lines that answer."""
    codes = sorted({*asked, *(counts.keys() & defined.keys())}, key=_place)
    readings = [] if defined else _readings(task, codes)
    readings = readings or [{code: defined.get(code, "...") for code in codes}]
    lines = [", ".join(f"{_quoted(code)} = {_quoted(each[code])}" for code in codes) for each in readings]
    answers = ", or ".join(f"labels = {{ {line} }}" for line in lines)
    is_name = task.kind is TaskKind.PAIRWISE and not all(map(is_number, codes))
    why = "which [import] labels does not define all" if defined else "which can mean different things"
    return DataError(
        [f"{where} holds {_listed(counts, codes)}, {why}; no row was taken"],
        f"{how}: {answers}; the labels are {', '.join(task.annotation_labels)}"
        + ("; but a model's name has no side: write the side of each row" if is_name else ""),
    )


def _place(code: str) -> tuple[float, str]:
    return (float(code.replace(",", ".")) if is_number(code) else 0.0), code


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _readings(task: Task, codes: Sequence[str]) -> list[dict[str, Label]]:
    """What numbers or truth values can mean, the most usual first."""
    if task.kind is not TaskKind.PAIRWISE:
        if task.labels == ("pass", "fail") and len(codes) == 2:
            return [dict(zip(codes, pair, strict=True)) for pair in (("fail", "pass"), ("pass", "fail"))]
        return []
    if set(codes) <= {"true", "false"}:
        return [{"true": "A", "false": "B"}, {"true": "B", "false": "A"}]
    if not all(map(is_number, codes)):
        return []
    values = [float(code.replace(",", ".")) for code in codes]
    if len(codes) < 2:
        return [{codes[0]: "A"}, {codes[0]: "B"}] if codes[0] == "1" else []
    middle = (values[0] + values[-1]) / 2
    rising = {
        code: "A" if value < middle else "B" if value > middle else TIE
        for code, value in zip(codes, values, strict=True)
    }
    falling = {code: {"A": "B", "B": "A"}.get(label, label) for code, label in rising.items()}
    other = {
        ("0", "1", "2"): {"0": TIE, "1": "A", "2": "B"},
        ("1", "2", "3"): {"1": "A", "2": "B", "3": TIE},
        ("0", "1", "2", "3"): {"0": TIE, "1": "A", "2": "B", "3": SKIP},
        ("-1", "1", "2"): {"-1": SKIP, "1": "A", "2": "B"},
    }.get(tuple(codes))
    signed = values[0] < 0 or middle < 1
    return [*((falling, rising) if signed else (rising, falling)), *([other] if other else [])]


def _listed(counts: Counts, codes: Sequence[str]) -> str:
    shown = [f"{code[:40]!r} ({counts[code]:,})" for code in codes[:SHOWN] if code in counts]
    return ", ".join(shown) + (f" and {len(codes) - SHOWN} more" if len(codes) > SHOWN else "")
