"""Read sets for preference training: all formats of TRL, hh-rlhf, LLaMA-Factory, UltraFeedback.

`chosen` may be a text, a message, a dialogue or a transcript. Everything before the last answer is the
prompt; a prompt that no mark separates from the texts of a pair is left in them. Source: TRL,
docs/source/dataset_formats.md.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trustescalate.data.importers.base import Files, Format, Found, Notes, Taken, each
from trustescalate.data.importers.fields import answer, get, has, text, turns
from trustescalate.data.importers.files import Foreign, Unusable, from_text
from trustescalate.data.importers.preferences import DRAWN, GOLD, Text, mark, preferred
from trustescalate.data.importers.traces import as_prompt, has_tools
from trustescalate.data.importers.verdicts import pairwise
from trustescalate.records import Annotation, Item, Task, TaskKind, Turn

INSIDE = "Each of the two texts begins with its prompt."
"""The prompt of a pair whose texts hold theirs unmarked: a longest common start may eat into the answer."""
ROLES = {"human": "user", "gpt": "assistant"}
TRANSCRIPT = re.compile(r"\n\n(Human|Assistant):")
NOT_TEXT = ("images", "image", "videos", "audios")
Messages = tuple[Turn, ...]


def _read_pairs(files: Files, notes: Notes) -> Iterator[Taken]:
    notes.task = pairwise()
    notes.assume(DRAWN)
    notes.assume("rows with one prompt are clustered: they are one group")

    def read(row: Any) -> Iterator[Found]:
        before, better = _ended(row, "chosen", "chosen_messages")
        also, worse = _ended(row, "rejected", "rejected_messages")
        if before != also:
            raise Unusable("the two dialogues differ before the last answer")
        prompt = _prompt(row, before)
        if prompt is None:
            notes.assume(
                f"a prompt that is not separate from its answers is left in them, and replaced by {INSIDE!r}"
            )
        yield preferred(INSIDE if prompt is None else prompt, better, worse, group=_group(row))

    for file in files["rows"]:
        yield from each(file, read)


def _read_unpaired(files: Files, notes: Notes) -> Iterator[Taken]:
    notes.task = Task(TaskKind.BINARY, "Is the completion good?", ("pass", "fail"))
    notes.assume(f"label true is 'pass', false 'fail', both by {GOLD!r}")
    notes.assume("rows with one prompt are clustered: they are one group")

    def read(row: Any) -> Iterator[Found]:
        before, completion = _ended(row, "completion", "messages")
        prompt, label = _prompt(row, before), get(row, "label")
        if prompt is None:
            raise Unusable("holds no prompt")
        if not isinstance(label, bool):
            raise Unusable(f"label is {label!r}, not true or false")
        item = Item(
            mark(prompt, completion), prompt, (completion,), None, _group(row) or f"prompt {mark(prompt)}"
        )
        yield Found(item, (Annotation(item.id, GOLD, "pass" if label else "fail"),))

    for file in files["rows"]:
        yield from each(file, read)


# ── one row ────────────────────────────────────────────────────────────────────────────────────────


def _ended(row: Any, *keys: str) -> tuple[Messages, Text]:
    """Split off the last answer, with its white space: prompt and answer join again.

    The answer of an agent is all that follows the last turn of the user.
    """
    if not isinstance(row, dict):
        raise Unusable("is no object")
    key = next((key for key in keys if key in row), keys[0])
    if (other := next((name for name in NOT_TEXT if row.get(name)), None)) is not None:
        raise Unusable(f"{other} cannot be judged as text")
    value = get(row, key)
    if isinstance(value, str):
        if not TRANSCRIPT.match(answer(row, key)):
            return (), value
        talk = _transcript(value)
    else:
        talk = _dialogue({key: [value] if isinstance(value, dict) else value}, key)
    if not talk or talk[-1].role != "assistant":
        raise Unusable(f"{key} does not end with an answer")
    asked = max((at for at, turn in enumerate(talk) if turn.role == "user"), default=-1)
    if has_tools(talk[asked + 1 :]):
        return talk[: asked + 1], talk[asked + 1 :]
    return talk[:-1], talk[-1].content


def _transcript(transcript: str) -> Messages:
    """A dialogue of hh-rlhf; only a name at the start of a paragraph begins a turn."""
    _, *parts = TRANSCRIPT.split(transcript)
    return tuple(
        Turn("user" if who == "Human" else "assistant", words.removeprefix(" "))
        for who, words in zip(parts[::2], parts[1::2], strict=True)
    )


def _dialogue(row: Mapping[str, Any], key: str) -> Messages:
    """Messages as TRL ({role, content}) or LLaMA-Factory ({from, value}) writes them."""
    messages = get(row, key)
    if not isinstance(messages, list):
        return turns(row, key)
    return turns({key: [_message(message) for message in messages]}, key)


def _message(message: Any) -> Any:
    if not isinstance(message, dict):
        return message
    if "from" in message:
        who = message["from"]
        if who == "function_call":
            return {"role": "assistant", "content": None, "tool_calls": _calls(message.get("value"))}
        if who == "observation":
            return {"role": "tool", "content": message.get("value")}
        return {"role": ROLES.get(who, who) if isinstance(who, str) else who, "content": message.get("value")}
    content = message.get("content")
    if isinstance(content, list):  # LLaMA-Factory uses value for text
        content = [
            {"text": part.get("value"), **part} if isinstance(part, dict) else part for part in content
        ]
    return {**message, "content": content}


def _calls(value: Any) -> list[Any]:
    """The calls that LLaMA-Factory writes as JSON in a text; one that cannot be parsed is shown as it is."""
    parsed = from_text(value) if isinstance(value, str) else value
    calls = parsed if isinstance(parsed, list) else [parsed]
    if all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
        return calls
    return [{"name": "function_call", "arguments": value}]


def _prompt(row: Mapping[str, Any], before: Messages) -> Text | None:
    """The prompt of a row, or else the start of the dialogue; both must be equal."""
    asked: Messages = ()
    if isinstance(row.get("prompt"), str):
        asked = (Turn("user", text(row, "prompt")),)
    elif isinstance(row.get("instruction"), str):
        more = row.get("input")
        asked = (
            Turn("user", "\n".join([text(row, "instruction"), *([str(more)] if _is_text(more) else [])])),
        )
    else:
        key = next((name for name in ("prompt", "conversations") if row.get(name) is not None), None)
        asked = () if key is None else _dialogue(row, key)
    if asked and before and _spoken(asked) != _spoken(before):
        raise Unusable("the dialogue does not begin with the prompt")
    asked = before or asked
    if _is_text(row.get("system")) and asked and asked[0].role != "system":
        asked = (Turn("system", row["system"]), *asked)
    if not any(turn.content.strip() for turn in asked):
        return None
    if tools := row.get("tools"):
        listed = tools if isinstance(tools, str) else json.dumps(tools, ensure_ascii=False)
        asked = (Turn("system", f"Tools:\n{listed}"), *asked)
    return as_prompt(asked)


def _spoken(talk: Sequence[Turn]) -> list[Turn]:
    return [turn for turn in talk if turn.role != "system"]


def _group(row: Mapping[str, Any]) -> str | None:
    known = row.get("prompt_id")
    return known if _is_text(known) else None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


# ── the formats ────────────────────────────────────────────────────────────────────────────────────


def _is_pair(file: Foreign) -> bool:
    return has(file, "chosen", "rejected") or has(file, "chosen_messages", "rejected_messages")


def _is_unpaired(file: Foreign) -> bool:
    return (has(file, "prompt", "completion", "label") or has(file, "messages", "label")) and isinstance(
        file.head[0]["label"], bool
    )


TRL_PAIRS = Format(
    "trl",
    "preference pairs for training (TRL, hh-rlhf, LLaMA-Factory, UltraFeedback)",
    {"rows": _is_pair},
    ("rows",),
    _read_pairs,
)
TRL_UNPAIRED = Format(
    "trl_unpaired",
    "completions with a label, for training (TRL and LLaMA-Factory, KTO)",
    {"rows": _is_unpaired},
    ("rows",),
    _read_unpaired,
)
