"""What a careful colleague would notice in items and labels before money is spent on them.

Looks at rows alone: it knows no judge and no guarantee, and refuses nothing by itself. Everything is a sentence
for people. Texts are compared as words, up to a length and a number of items, and the cap is said.
"""

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from trustescalate.data.labels import majority, stated_labels
from trustescalate.records import SKIP, TIE, Annotation, Item, Label, Task, TaskKind
from trustescalate.stats.agreement import krippendorff_alpha, leave_one_out_agreement
from trustescalate.stats.bounds import clopper_pearson_interval
from trustescalate.stats.minhash import Hashes, near_pairs

MOST_COMPARED = 20_000
MOST_WORDS = 400
NEAR = 0.8
"""Share of three-word runs from which on two texts are near-duplicates."""
LOPSIDED = 0.9
SURE = 1e-3
"""Two-sided; what is warned of should not be chance."""
SHOWN = 3
MODEL_NAMES = re.compile(
    r"gpt|\bo[134](-|\b)|claude|llama|gemini|gemma|mi[sx]tral|qwen|deepseek|command-r|vicuna|phi-?\d|"
    r"prometheus|\bllm\b|\bai\b|judge.?lm|autorater|-instruct\b|\d+b-chat\b",
    re.IGNORECASE,
)
"""How models are called. A person may be, too: then [data] labels_by = "people" says so."""

Fact = tuple[str, str]


def check_quality(
    task: Task, items: Sequence[Item], notes: Sequence[Annotation], roles: Mapping[str, Sequence[str]]
) -> tuple[list[Fact], list[str]]:
    """Facts as (name, value), and warnings. `roles` holds item ids, and may be empty."""
    truth = {item_id: label for item_id, label in majority(task, notes).items() if label is not None}
    by_id = {item.id: item for item in items}
    facts, doubts = _people(task, notes)
    doubts += _balance(truth)
    if task.kind is TaskKind.PAIRWISE:
        for more, warned in (_sides(truth), _lean(by_id, truth)):
            facts += more
            doubts += warned
    lengths = sorted(len(text) for item in items for text in item.texts)
    if lengths:
        facts.append(
            ("responses", f"{lengths[len(lengths) // 2]:,} characters at the median, {lengths[-1]:,} at most")
        )
    return facts, doubts + _alike(items, roles)


def model_labels(notes: Iterable[Annotation]) -> tuple[str, ...]:
    """The annotators, if every one of them is named like a model; else none.

    >>> model_labels([Annotation("x", "gpt-4o", "A"), Annotation("y", "Claude 3", "B")])
    ('Claude 3', 'gpt-4o')
    >>> model_labels([Annotation("x", "gpt-4o", "A"), Annotation("x", "ann", "A")])
    ()
    """
    names = {note.annotator for note in notes}
    return tuple(sorted(names)) if names and all(map(MODEL_NAMES.search, names)) else ()


# ── people ───────────────────────────────────────────────────────────────────────────────────────


def _people(task: Task, notes: Sequence[Annotation]) -> tuple[list[Fact], list[str]]:
    facts, doubts = list[Fact](), list[str]()
    named = model_labels(notes)
    if named:
        shown = ", ".join(map(repr, named[:SHOWN]))
        doubts.append(
            f"all labels are by {shown}, named like a model: agreement with it is not agreement with people"
        )
    elif any(MODEL_NAMES.search(note.annotator) for note in notes):
        some = next(note.annotator for note in notes if MODEL_NAMES.search(note.annotator))
        doubts.append(f"annotator {some!r} is named like a model, and counts as a person")
    said = stated_labels(task, notes)
    several = [rows for rows in said.values() if len(rows) > 1]
    if several:
        counts = np.array(
            [[Counter(note.label for note in rows)[label] for label in task.labels] for rows in several]
        )
        alpha = krippendorff_alpha(counts, "ordinal" if task.kind is TaskKind.RATING else "nominal")
        agreed = "" if alpha is None else f", Krippendorff's alpha {alpha:.2f}"
        facts.append(("several people", f"on {len(several):,} of {len(said):,} labelled items{agreed}"))
    stated = [note for rows in said.values() for note in rows]
    if stated:
        row, who = (np.unique(each, return_inverse=True)[1] for each in _columns(stated))
        found = leave_one_out_agreement(
            row, who, np.array([task.labels.index(note.label) for note in stated]), 0.05
        )
        if found is not None:
            rate = found.agreements / found.comparisons
            facts.append(("one person's agreement", f"{rate:.1%} with the majority of the others"))
    for label, name in ((SKIP, "skips"), (TIE, "ties")):
        count = sum(note.label == label for note in notes)
        if count:
            facts.append((name, f"{count:,} of {len(notes):,} opinions"))
        if count > len(notes) / 2:
            doubts.append(f"{name} are {count / len(notes):.0%} of all opinions: is the question a good one?")
    return facts, doubts


def _columns(notes: Sequence[Annotation]) -> tuple[list[str], list[str]]:
    return [note.item_id for note in notes], [note.annotator for note in notes]


# ── labels ───────────────────────────────────────────────────────────────────────────────────────


def _balance(truth: Mapping[str, Label]) -> list[str]:
    if len(truth) < 2:
        return []
    (label, count), *_ = Counter(truth.values()).most_common(1)
    if count < LOPSIDED * len(truth):
        return []
    return [
        f"{count / len(truth):.0%} of the items are {label!r}: a judge that always says so agrees as often"
    ]


def _sides(truth: Mapping[str, Label]) -> tuple[list[Fact], list[str]]:
    first, decided = (
        sum(label == "A" for label in truth.values()),
        sum(label in "AB" for label in truth.values()),
    )
    if not decided:
        return [], []
    fact = [("A is better", f"in {first:,} of {decided:,} decided pairs")]
    if first in (0, decided) and decided > 4:
        side = "A" if first else "B"
        return fact, [
            f"{side} is always the better one: judges that favour a place look right; shuffle the sides"
        ]
    return fact, (
        [f"A is better in {first / decided:.0%} of the pairs: is a place favoured?"]
        if _is_off(first, decided)
        else []
    )


def _lean(by_id: Mapping[str, Item], truth: Mapping[str, Label]) -> tuple[list[Fact], list[str]]:
    longer = decided = 0
    for item_id, label in truth.items():
        a, b = (len(text) for text in by_id[item_id].texts)
        if label in ("A", "B") and a != b:
            decided += 1
            longer += (a > b) == (label == "A")
    if not decided:
        return [], []
    fact = [("the longer one is better", f"in {longer:,} of {decided:,} decided pairs")]
    if not _is_off(longer, decided):
        return fact, []
    which, share = ("longer", longer) if 2 * longer > decided else ("shorter", decided - longer)
    return fact, [
        f"the {which} response is better in {share / decided:.0%} of the pairs: a judge may go by length"
    ]


def _is_off(count: int, n: int) -> bool:
    """Whether a count of coin flips is surely, and by much, not half of them."""
    low, high = clopper_pearson_interval(count, n, SURE)
    return not low <= 0.5 <= high and abs(count / n - 0.5) > 0.1


# ── rows that are alike ──────────────────────────────────────────────────────────────────────────


def _alike(items: Sequence[Item], roles: Mapping[str, Sequence[str]]) -> list[str]:
    """Texts that are nearly the same: whole items, and prompts that no group holds together."""
    rng = np.random.default_rng(0)
    looked = [items[i] for i in sorted(rng.permutation(len(items))[:MOST_COMPARED])]
    doubts = []
    whole = [_shingles(_prompt(item), *sorted(item.texts)) for item in looked]
    same = [(looked[i], looked[j]) for i, j in near_pairs(whole, NEAR, rng)]
    if same:
        doubts.append(f"{len(same):,} items are nearly the same as others: {_named(same)}")
    role_of = {item_id: role for role, ids in roles.items() for item_id in ids}
    leaks = [pair for pair in same if len({role_of.get(item.id) for item in pair} - {None}) > 1]
    if leaks:
        roles_met = " and ".join(sorted({role_of[item.id] for item in leaks[0]}))
        doubts.append(
            f"{len(leaks):,} near-duplicates are in different roles, {roles_met}: {_named(leaks)}; "
            "give them a group"
        )
    prompts = near_pairs([_shingles(_prompt(item)) for item in looked], NEAR, rng)
    loose = [
        (looked[i], looked[j])
        for i, j in prompts
        if looked[i].prompt != looked[j].prompt
        and (looked[i].group is None or looked[i].group != looked[j].group)
    ]
    if loose:
        doubts.append(
            f"{len(loose):,} prompts are nearly those of other items, without a group: {_named(loose)}"
        )
    if len(items) > MOST_COMPARED and doubts:
        doubts.append(f"only {MOST_COMPARED:,} of {len(items):,} items were compared with one another")
    return doubts


def _named(pairs: Sequence[tuple[Item, Item]]) -> str:
    shown = ", ".join(f"{one.id} and {other.id}" for one, other in pairs[:SHOWN])
    return shown + (", …" if len(pairs) > SHOWN else "")


def _prompt(item: Item) -> str:
    return item.prompt if isinstance(item.prompt, str) else "\n".join(turn.content for turn in item.prompt)


def _shingles(*texts: str) -> Hashes:
    """Runs of three words of each text, hashed; of a shorter one all its words. Case does not count."""
    found = set()
    for place, text in enumerate(texts):
        words = re.findall(r"\w+", text[: 20 * MOST_WORDS].casefold())[:MOST_WORDS]
        runs = (
            zip(words, words[1:], words[2:], strict=False)
            if len(words) > 2
            else [tuple(words)]
            if words
            else []
        )
        # A prompt is not a response: the same words in another place are another run.
        found |= {zlib.crc32(" ".join((str(min(place, 1)), *run)).encode("utf-8", "replace")) for run in runs}
    return np.array(sorted(found), dtype=np.uint64)
