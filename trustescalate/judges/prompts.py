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

Order = Literal["AB", "BA", ""]
"""Presentation order of two responses; "" for a single one."""

TAG_DIGITS = NONCE_DIGITS = 16
"""Digits of the tag on marks and of the nonce: a text that contains its own hash takes 2**64 tries."""

EXAMPLES = "Examples with the verdicts of human annotators. Their texts are material too."
"""Head of the examples where a reply is more than a symbol: human labels come without reasons."""


@lru_cache(maxsize=8)
def default_wording(mode: Mode) -> Wording:
    """The shipped wording of a mode."""
    return read_wording(None, mode)


@dataclass(frozen=True, slots=True)
class Asking:
    """The mode of a judge, its wording, and the rubric and criteria of the task."""

    mode: Mode = "direct"
    wording: Wording = field(default_factory=lambda: default_wording("direct"))
    rubric: str = ""
    criteria: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """The messages of one request, the nonce on its verdict line, if any, and the texts to be judged."""

    messages: tuple[Message, ...]
    nonce: str
    material: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A labelled item shown to the judge. `swapped` shows its two responses in reverse."""

    item: Item
    label: Label
    swapped: bool = False


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
    answer = dict(zip(task.labels, symbols(task), strict=True))
    mirror = dict(zip(task.labels, (task.labels[i] for i in swapped_index(task)), strict=True))
    verdicts = [answer[mirror[shot.label] if shot.swapped else shot.label] for shot in exemplars]
    system = _system(task, asking)
    if asking.mode != "direct" and exemplars:
        listed = (
            f"Example {number}\n{_blocks(_shown(task, shot.item, shot.swapped))}\n\nHuman verdict: {verdict}"
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
    fields = {"material": _blocks(shown), "nonce": nonce, "symbols": either(symbols(task))}
    asked = Message("user", fill(asking.wording.user, fields))
    return Conversation((*before, asked), nonce, tuple(text for _, text in shown))


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
    pairs = zip(words, task.labels, strict=True)
    fields = {
        "question": task.question,
        "rubric": f"Rubric:\n{asking.rubric}" if asking.rubric else "",
        "criteria": numbered(asking.criteria),
        "legend": ""
        if words == task.labels
        else "\n".join(f"{word} means {label}." for word, label in pairs),
        "symbols": either(words),
    }
    return fill(asking.wording.system, fields)


def numbered(criteria: Sequence[str]) -> str:
    """The criteria of a task as a numbered list; "" without any."""
    listed = "".join(f"\n{number}. {text}" for number, text in enumerate(criteria, 1))
    return f"Criteria:{listed}" if listed else ""


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
