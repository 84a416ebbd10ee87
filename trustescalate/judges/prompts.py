"""Write the messages that a judge receives; `judges.reply_parsing` parses its replies.

Texts to be judged are material, never instructions. Each stands between two marks with a tag computed from
everything shown, so that a text cannot contain its own closing mark; nothing is substituted twice. The
wording itself is a file (`judges.templates`).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from trustescalate.judges.reply_parsing import are_readable
from trustescalate.judges.templates import NONCED, Wording, fill, read_wording
from trustescalate.records import Item, Label, Message, Mode, Task, TaskKind, Turn, parts, visible
from trustescalate.records.criteria import AskedCriterion

Order = Literal["AB", "BA", ""]
"""Presentation order of two responses; "" for a single one."""

TAG_DIGITS = NONCE_DIGITS = 16
"""Digits of the tag on marks and of the nonce: a text that contains its own hash takes 2**64 tries."""

HUMAN = ("Human verdict: ", "Human verdicts:\n")
"""What comes before the label of an example, and before its labels on several criteria."""
EXAMPLES = "Examples with the verdicts of human annotators. Their texts are material too."
"""Head of the examples where a reply is more than a symbol: human labels come without reasons."""


@lru_cache(maxsize=8)
def default_wording(mode: Mode) -> Wording:
    """The shipped wording of a mode."""
    return read_wording(None, mode)


@dataclass(frozen=True, slots=True)
class Asking:
    """The mode of a judge, its wording, and the rubric and criteria of the task.

    `criteria` are instructions for one verdict; `each` are criteria with a verdict of their own.
    """

    mode: Mode = "direct"
    wording: Wording = field(default_factory=lambda: default_wording("direct"))
    rubric: str = ""
    criteria: tuple[str, ...] = ()
    each: tuple[AskedCriterion, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """The messages of one request, the nonce on its verdict line, if any, and the texts to be judged.

    `row` is the place of the row's own criterion among several.
    """

    messages: tuple[Message, ...]
    nonce: str
    material: tuple[str, ...]
    row: int = 0


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A labelled item shown to the judge. `swapped` shows its two responses in reverse.

    With several criteria `labels` are its labels on each, in order, and `label` is unused.
    """

    item: Item
    label: Label
    swapped: bool = False
    labels: tuple[Label, ...] = ()


@lru_cache(maxsize=64)
def symbols(task: Task) -> tuple[str, ...]:
    """The strings a judge answers with, one per label, in task order.

    The labels themselves where their first characters differ (so that one token tells them apart) and the
    reader reads each of them as itself, else the letters A, B, C, … explained in the prompt.

    >>> symbols(Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B", "tie")))
    ('A', 'B', 'tie')
    >>> symbols(Task(TaskKind.CHOICE, "Covered?", ("full", "fair", "none")))
    ('A', 'B', 'C')
    >>> symbols(Task(TaskKind.CHOICE, "Which sign?", ("<", "=", ">")))
    ('A', 'B', 'C')
    """
    first = {label[:1].casefold() for label in task.labels}
    if len(first) == len(task.labels) and are_readable(task.labels):
        return task.labels
    return tuple(chr(ord("A") + i) for i in range(len(task.labels)))


def orders(task: Task, *, swap: bool) -> tuple[Order, ...]:
    """The orders in which the responses of an item are presented."""
    if task.kind is not TaskKind.PAIRWISE:
        return ("",)
    return ("AB", "BA") if swap else ("AB",)


def swapped_index(task: Task) -> tuple[int, ...]:
    """For each symbol shown in reversed order, the index of the label it means: A and B change places."""
    place = {label: i for i, label in enumerate(task.labels)}
    mirror = {"A": "B", "B": "A"}
    return tuple(place[mirror.get(label, label)] for label in task.labels)


def messages(
    task: Task, exemplars: Sequence[Exemplar], item: Item, *, swapped: bool = False
) -> tuple[Message, ...]:
    """The whole conversation in the shipped direct wording."""
    return conversation(task, prefix(task, exemplars), item, swapped=swapped).messages


def prefix(task: Task, exemplars: Sequence[Exemplar], asking: Asking | None = None) -> tuple[Message, ...]:
    """All messages but the last: the same for every item, byte for byte.

    In the mode "direct" an example is a question and its answer. In the others it is material in the system
    message: an answer without the reasoning or confidence that is asked for would be copied.
    """
    asking = asking or Asking()
    mirror = dict(zip(task.labels, (task.labels[i] for i in swapped_index(task)), strict=True))
    verdicts = [
        _verdict(
            task, asking, [mirror[label] if shot.swapped else label for label in shot.labels or [shot.label]]
        )
        for shot in exemplars
    ]
    system = _system(task, asking)
    human = HUMAN[bool(asking.each)]
    if asking.mode != "direct" and exemplars:
        listed = (
            f"Example {number}\n{_blocks(_shown(task, shot.item, shot.swapped))}\n\n{human}{verdict}"
            for number, (shot, verdict) in enumerate(zip(exemplars, verdicts, strict=True), 1)
        )
        return (Message("system", "\n\n".join([system, EXAMPLES, *listed])),)
    shown: tuple[Message, ...] = (Message("system", system),)
    for shot, verdict in zip(exemplars, verdicts, strict=True):
        asked = conversation(task, shown, shot.item, swapped=shot.swapped, asking=asking)
        shown = (*asked.messages, Message("assistant", verdict))
    return shown


def conversation(
    task: Task, before: Sequence[Message], item: Item, *, swapped: bool = False, asking: Asking | None = None
) -> Conversation:
    """The question about one item, after the messages `before` (a `prefix`).

    The nonce on the verdict line is a hash of everything shown, examples included: the author of a response
    can forge it only by knowing all of it, in a text that contains its own hash. Equal items give equal
    messages.

    >>> task = Task(TaskKind.BINARY, "Is it right?", ("pass", "fail"))
    >>> asking = Asking("reason", default_wording("reason"))
    >>> asked = conversation(task, prefix(task, (), asking), Item("q1", "2 + 2?", ("4",)), asking=asking)
    >>> len(asked.nonce), asked.nonce in asked.messages[-1].content, asked.material
    (16, True, ('2 + 2?', '4'))
    """
    asking = asking or Asking()
    shown = _shown(task, item, swapped)
    nonce = ""
    if asking.mode in NONCED:
        nonce = _hash(["verdict", [[turn.role, turn.content] for turn in before], shown])[:NONCE_DIGITS]
    fields = {"material": _blocks(shown), "nonce": nonce, "symbols": _symbols_shown(task, asking)}
    asked = Message("user", fill(asking.wording.user, fields))
    return Conversation((*before, asked), nonce, tuple(text for _, text in shown))


def _symbols_shown(task: Task, asking: Asking) -> str:
    """The symbols of one verdict; with several criteria the names of their fields."""
    if not asking.each:
        return either(symbols(task))
    names = [f'"{criterion_field(number)}"' for number in range(1, len(asking.each) + 1)]
    return ", ".join(names)


def criterion_field(number: int) -> str:
    """The field of a structured reply that holds the verdict on a criterion, counted from 1."""
    return f"criterion_{number}"


def _verdict(task: Task, asking: Asking, labels: Sequence[Label]) -> str:
    """The labels of an example as a judge would answer: one symbol, or a line for each criterion."""
    if not asking.each:
        return dict(zip(task.labels, symbols(task), strict=True))[labels[0]]
    return "\n".join(
        f"{number}: {each.symbols[each.labels.index(label)]}"
        for number, (each, label) in enumerate(zip(asking.each, labels, strict=True), 1)
    )


def either(words: Sequence[str]) -> str:
    """The symbols as a prompt names them.

    >>> either(("A", "B", "tie"))
    'A, B or tie'
    """
    return f"{', '.join(words[:-1])} or {words[-1]}"


def material_of(task: Task, item: Item, shown: Sequence[Order]) -> tuple[str, list[str]]:
    """The marked texts of an item in two parts, with one tag: all before the responses; these in each order.

    >>> task = Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B"))
    >>> before, (one, other) = material_of(task, Item("q", "2 + 2?", ("4", "5")), ("AB", "BA"))
    >>> before.split()[0], one.split()[3], other.split()[3]
    ('[prompt', '4', '5')
    """
    tag = _hash(_shown(task, item, False))[:TAG_DIGITS]
    before: list[tuple[str, str]] = []
    responses = []
    for order in shown:
        texts = _shown(task, item, order == "BA")
        before = [each for each in texts if not each[0].startswith("response")]
        responses.append(_blocks(texts[len(before) :], tag))
    return _blocks(before, tag), responses


def _blocks(shown: Sequence[tuple[str, str]], tag: str = "") -> str:
    """The texts between their marks."""
    tag = tag or _hash(shown)[:TAG_DIGITS]
    return "\n\n".join(f"[{name} {tag}]\n{text}\n[end {name} {tag}]" for name, text in shown)


def _hash(shown: object) -> str:
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()


def _system(task: Task, asking: Asking) -> str:
    words = symbols(task)
    listed = [_criterion(each) for each in asking.each] or asking.criteria
    fields = {
        "question": task.question,
        "rubric": f"Rubric:\n{asking.rubric}" if asking.rubric else "",
        "criteria": numbered(listed),
        "legend": "" if asking.each else "\n".join(_legend(words, task.labels)),
        "symbols": _symbols_shown(task, asking) if asking.each else either(words),
    }
    return fill(asking.wording.system, fields)


def numbered(criteria: Sequence[str]) -> str:
    """The criteria of a task as a numbered list; "" without any."""
    listed = "".join(f"\n{number}. {text}" for number, text in enumerate(criteria, 1))
    return f"Criteria:{listed}" if listed else ""


def _criterion(asked: AskedCriterion) -> str:
    """One line of the list of criteria: its name, its question and its answers."""
    answers = f"Answer with {either(asked.symbols)}."
    return " ".join([f"{asked.name}: {asked.question}", answers, *_legend(asked.symbols, asked.labels)])


def _legend(words: Sequence[str], labels: Sequence[Label]) -> list[str]:
    """What each symbol means, where it is not the label itself."""
    pairs = zip(words, labels, strict=True)
    return [] if tuple(words) == tuple(labels) else [f"{word} means {label}." for word, label in pairs]


def _shown(task: Task, item: Item, swapped: bool) -> list[tuple[str, str]]:
    if isinstance(item.prompt, str):
        shown = [("prompt", item.prompt)]
    else:
        shown = [(f"turn {i} {what}", text) for i, what, text in parts(item.prompt)]
    shown += [(f"passage {i}", text) for i, text in enumerate(item.context, 1)]
    if item.reference is not None:
        shown.append(("reference", item.reference))
    if task.kind is not TaskKind.PAIRWISE:
        return [*shown, *_response("response", item.responses[0])]
    first, second = reversed(item.responses) if swapped else item.responses
    return [*shown, *_response("response A", first), *_response("response B", second)]


def _response(name: str, response: str | tuple[Turn, ...]) -> list[tuple[str, str]]:
    if isinstance(response, str):
        return [(name, visible(response))]
    return [(f"{name} turn {i} {what}", text) for i, what, text in parts(response, visible)]
