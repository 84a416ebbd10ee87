"""Check the quality of items and labels: balance, bias, duplicates, and leaks between roles.

The checks read rows alone, without judges or guarantees, and raise nothing; their results are sentences.
Texts are compared as words, up to a length and a number of items, and a warning states the cap.
"""

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from trustescalate.data.annotation.answers import count_reasons
from trustescalate.data.labels import majority, stated_labels
from trustescalate.records import (
    EMPTY_RESPONSE,
    SKIP,
    TIE,
    Annotation,
    Item,
    Label,
    Task,
    TaskKind,
    Turn,
    spoken,
)
from trustescalate.records.criteria import ask_several, row_name
from trustescalate.records.item_columns import items_by_id
from trustescalate.stats.agreement import krippendorff_alpha, leave_one_out_agreement
from trustescalate.stats.bounds import clopper_pearson_interval
from trustescalate.stats.minhash import Hashes, near_pairs

MOST_COMPARED = 20_000
MOST_WORDS = 400
NEAR = 0.8
"""Share of common three-word runs from which on two texts are near-duplicates."""
LOPSIDED = 0.9
SURE = 1e-3
"""Two-sided level of the tests behind warnings."""
SHOWN = 3
MODEL_NAMES = re.compile(
    r"gpt|\bo[134](-|\b)|claude|llama|gemini|gemma|mi[sx]tral|qwen|deepseek|command-r|vicuna|phi-?\d|"
    r"prometheus|\bllm\b|\bai\b|judge.?lm|autorater|-instruct\b|\d+b-chat\b",
    re.IGNORECASE,
)
"""Names of models. Where an annotator has such a name, [data] labels_by = "people" allows it."""

Fact = tuple[str, str]


def check_quality(
    task: Task, items: Sequence[Item], notes: Sequence[Annotation], roles: Mapping[str, Sequence[str]]
) -> tuple[list[Fact], list[str]]:
    """Return facts as (name, value), and warnings. `roles` holds item ids by role, and may be empty."""
    truth = {item_id: label for item_id, label in majority(task, notes).items() if label is not None}
    by_id = items_by_id(items)
    facts, warnings = _check_annotators(task, notes)
    warnings += _check_balance(truth)
    if task.kind is TaskKind.PAIRWISE:
        for more_facts, more_warnings in (_check_sides(truth), _check_length(by_id, truth)):
            facts += more_facts
            warnings += more_warnings
    lengths, empty = Counter[int](), 0
    for item in items:
        lengths.update(map(len, item.texts))
        empty += sum(map(_is_empty, item.responses))
    if lengths:
        middle = _median_high(lengths)
        facts.append(("responses", f"{middle:,} characters at the median, {max(lengths):,} at most"))
    if empty:
        facts.append(("empty responses", f"{empty:,}, shown as {EMPTY_RESPONSE!r}"))
    return facts, warnings + _check_duplicates(items, roles)


def _median_high(counts: Mapping[int, int]) -> int:
    """The median of numbers that are counted; of an even number the higher one of the middle two."""
    numbers = sorted(counts)
    sums = np.cumsum([counts[number] for number in numbers])
    return numbers[int(np.searchsorted(sums, sums[-1] // 2, "right"))]


def _is_empty(response: str | tuple[Turn, ...]) -> bool:
    """Whether an assistant says nothing, and calls no tool."""
    calls = not isinstance(response, str) and any(turn.tool_calls for turn in response)
    return not calls and not spoken(response).strip()


def model_labels(notes: Iterable[Annotation]) -> tuple[str, ...]:
    """Return the annotators if every one of them is named like a model, else none.

    >>> model_labels([Annotation("x", "gpt-4o", "A"), Annotation("y", "Claude 3", "B")])
    ('Claude 3', 'gpt-4o')
    >>> model_labels([Annotation("x", "gpt-4o", "A"), Annotation("x", "ann", "A")])
    ()
    """
    names = {note.annotator for note in notes}
    return tuple(sorted(names)) if names and all(map(MODEL_NAMES.search, names)) else ()


# ── annotators ─────────────────────────────────────────────────────────────────────────────────────


def _check_annotators(task: Task, notes: Sequence[Annotation]) -> tuple[list[Fact], list[str]]:
    facts, warnings = list[Fact](), list[str]()
    models = model_labels(notes)
    if models:
        names = ", ".join(map(repr, models[:SHOWN]))
        warnings.append(
            f"all labels are by {names}, named like a model: agreement with it is not agreement with humans"
        )
    elif name := next((note.annotator for note in notes if MODEL_NAMES.search(note.annotator)), None):
        warnings.append(f"annotator {name!r} is named like a model, and counts as a human")
    by_item = stated_labels(task, notes)
    several = [rows for rows in by_item.values() if len(rows) > 1]
    if several:
        counts = np.array(
            [[Counter(note.label for note in rows)[label] for label in task.labels] for rows in several]
        )
        alpha = krippendorff_alpha(counts, "ordinal" if task.kind is TaskKind.RATING else "nominal")
        agreed = "" if alpha is None else f", Krippendorff's alpha {alpha:.2f}"
        facts.append(
            ("several annotators", f"on {len(several):,} of {len(by_item):,} labelled items{agreed}")
        )
    stated = [note for rows in by_item.values() for note in rows]
    if stated:
        rows = np.unique([note.item_id for note in stated], return_inverse=True)[1]
        annotators = np.unique([note.annotator for note in stated], return_inverse=True)[1]
        labels = np.array([task.labels.index(note.label) for note in stated])
        if left_out := leave_one_out_agreement(rows, annotators, labels, 0.05):
            rate = left_out.agreements / left_out.comparisons
            facts.append(
                ("leave-one-out agreement", f"{rate:.1%} of an annotator with the majority of the others")
            )
    for label, name in ((SKIP, "skips"), (TIE, "ties")):
        count = sum(note.label == label for note in notes)
        if count:
            facts.append((name, f"{count:,} of {len(notes):,} annotations{_reasons(notes, label)}"))
        if count > len(notes) / 2:
            warnings.append(
                f"{name} are {count / len(notes):.0%} of all annotations: the question may be unclear"
            )
    return facts, warnings


def _reasons(notes: Sequence[Annotation], label: Label) -> str:
    """The reasons of the skips, where any has one."""
    reasons = [note.reason for note in notes if note.label == label]
    if label != SKIP or not any(reasons):
        return ""
    return ": " + ", ".join(f"{reason} ({count:,})" for reason, count in count_reasons(reasons).items())


# ── labels ─────────────────────────────────────────────────────────────────────────────────────────


def _check_balance(truth: Mapping[str, Label]) -> list[str]:
    if len(truth) < 2:
        return []
    (label, count), *_ = Counter(truth.values()).most_common(1)
    if count < LOPSIDED * len(truth):
        return []
    return [f"{count / len(truth):.0%} of the items are {label!r}: a constant verdict agrees as often"]


def _check_sides(truth: Mapping[str, Label]) -> tuple[list[Fact], list[str]]:
    first = sum(label == "A" for label in truth.values())
    decided = first + sum(label == "B" for label in truth.values())
    if not decided:
        return [], []
    fact = [("A is better", f"in {first:,} of {decided:,} decided pairs")]
    if first in (0, decided) and decided > 4:
        side = "A" if first else "B"
        return fact, [
            f"{side} is always the better one: a judge with position bias agrees too; shuffle the sides"
        ]
    if _is_biased(first, decided):
        return fact, [f"A is better in {first / decided:.0%} of the pairs: check for position bias"]
    return fact, []


def _check_length(by_id: Mapping[str, Item], truth: Mapping[str, Label]) -> tuple[list[Fact], list[str]]:
    longer = decided = 0
    for item_id, label in truth.items():
        a, b = (len(text) for text in by_id[item_id].texts)
        if label in ("A", "B") and a != b:
            decided += 1
            longer += (a > b) == (label == "A")
    if not decided:
        return [], []
    fact = [("the longer one is better", f"in {longer:,} of {decided:,} decided pairs")]
    if not _is_biased(longer, decided):
        return fact, []
    which, share = ("longer", longer) if 2 * longer > decided else ("shorter", decided - longer)
    return fact, [
        f"the {which} response is better in {share / decided:.0%} of the pairs: "
        "a judge with length bias agrees too"
    ]


def _is_biased(count: int, n: int) -> bool:
    """Whether a count of coin flips differs from half of them, significantly and by more than 0.1."""
    low, high = clopper_pearson_interval(count, n, SURE)
    return not low <= 0.5 <= high and abs(count / n - 0.5) > 0.1


# ── duplicates ─────────────────────────────────────────────────────────────────────────────────────


def _check_duplicates(items: Sequence[Item], roles: Mapping[str, Sequence[str]]) -> list[str]:
    """Near-duplicates: whole items, and prompts without a common group. Rows of one item are one."""
    if ask_several(items):
        items = list({row_name(item).item_id: item for item in items}.values())
    rng = np.random.default_rng(0)
    compared = [items[i] for i in sorted(rng.permutation(len(items))[:MOST_COMPARED])]
    warnings = []
    whole = [_shingles(item.prompt_text, *sorted(item.texts)) for item in compared]
    same = [(compared[i], compared[j]) for i, j in near_pairs(whole, NEAR, rng)]
    if same:
        warnings.append(f"{len(same):,} items are nearly the same as others: {_named(same)}")
    role_of = {item_id: role for role, ids in roles.items() for item_id in ids}
    leaks = [pair for pair in same if len({role_of.get(item.id) for item in pair} - {None}) > 1]
    if leaks:
        roles_met = " and ".join(sorted({role_of[item.id] for item in leaks[0]}))
        warnings.append(
            f"{len(leaks):,} near-duplicates are in different roles, {roles_met}: {_named(leaks)}; "
            "give them a group"
        )
    prompts = near_pairs([_shingles(item.prompt_text) for item in compared], NEAR, rng)
    pairs = [(compared[i], compared[j]) for i, j in prompts]
    loose = [
        (one, other)
        for one, other in pairs
        if one.asked != other.asked and (one.group is None or one.group != other.group)
    ]
    if loose:
        warnings.append(
            f"{len(loose):,} prompts are nearly those of other items, without a group: {_named(loose)}"
        )
    if len(items) > MOST_COMPARED and warnings:
        warnings.append(f"only {MOST_COMPARED:,} of {len(items):,} items were compared with one another")
    return warnings


def _named(pairs: Sequence[tuple[Item, Item]]) -> str:
    shown = ", ".join(
        f"{row_name(one).item_id} and {row_name(other).item_id}" for one, other in pairs[:SHOWN]
    )
    return shown + (", …" if len(pairs) > SHOWN else "")


def _shingles(*texts: str) -> Hashes:
    """Hash the runs of three words of each text, or all words of a shorter one, without case."""
    hashes = set()
    for place, text in enumerate(texts):
        words = re.findall(r"\w+", text[: 20 * MOST_WORDS].casefold())[:MOST_WORDS]
        runs = (
            zip(words, words[1:], words[2:], strict=False) if len(words) > 2 else [tuple(words)] * bool(words)
        )
        # A prompt is not a response: the same words in another place are another run.
        hashes |= {
            zlib.crc32(" ".join((str(min(place, 1)), *run)).encode("utf-8", "replace")) for run in runs
        }
    return np.array(sorted(hashes), dtype=np.uint64)
