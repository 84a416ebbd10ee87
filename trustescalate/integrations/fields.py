"""Read the texts of an item from the fields of a host's example."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trustescalate.data.importers.fields import kind_of, turns
from trustescalate.data.importers.files import Unusable
from trustescalate.errors import UsageError
from trustescalate.integrations.shared import SharedCascade, Text
from trustescalate.records import Item, TaskKind, Turn
from trustescalate.records.messages import passages


@dataclass(frozen=True, slots=True)
class Fields:
    """The names of the fields of an example that hold the parts of an item.

    `prompt`, `context` and `item_id` are fields of the inputs, `response` of the outputs, `baseline` and
    `reference` of what is expected. Without `prompt` or `response`, it is the only field, or "messages"; a
    pairwise task needs `baseline`; the others are left out where they are not named.
    """

    prompt: str | None = None
    response: str | None = None
    baseline: str | None = None
    reference: str | None = None
    context: str | None = None
    item_id: str | None = None

    def item(self, cascade: SharedCascade, inputs: Any, outputs: Any, expected: Any) -> Item:
        """Make an item of an example. Raises UsageError for a field that is missing, or holds no text."""
        pair = cascade.task.kind is TaskKind.PAIRWISE
        reference, item_id = _at(expected, "expected", self.reference), _at(inputs, "inputs", self.item_id)
        return cascade.item(
            text_of(inputs, "inputs", self.prompt),
            text_of(outputs, "outputs", self.response),
            baseline=text_of(expected, "expected", self.baseline) if pair else None,
            reference=None if reference is None else str(reference),
            context=context_of(_at(inputs, "inputs", self.context), "context"),
            item_id=None if item_id is None else str(item_id),
        )


def _at(fields: Any, what: str, key: str | None) -> Any:
    if key is None:
        return None
    return _chosen(fields if isinstance(fields, Mapping) else {}, what, key)


def text_of(fields: Any, what: str, key: str | None = None) -> Text:
    """Return a text or turns: the value itself, or of a mapping that of `key`, "messages", or its only one.

    Raises UsageError that names `what` where there is no text, or where it is not clear which one is meant.

    >>> text_of({"question": "What is 2 + 2?"}, "inputs")
    'What is 2 + 2?'
    >>> text_of({"question": "What is 2 + 2?", "user": "u1"}, "inputs")
    Traceback (most recent call last):
    ...
    trustescalate.errors.UsageError: inputs has several fields: question, user
    """
    if isinstance(fields, Mapping):
        chosen = _chosen(fields, what, key)
        if isinstance(chosen, Mapping):
            raise UsageError(f"a field of {what} is an object, not text", "name a field that holds text")
        return text_of(chosen, what)
    if isinstance(fields, str):
        return fields
    if isinstance(fields, list):
        try:
            return turns({what: fields}, what)
        except Unusable as error:
            raise UsageError(str(error)) from None
    raise UsageError(f"{what} is {kind_of(fields)}, not text", f"give {what} as text, or as chat messages")


def _chosen(fields: Mapping[str, Any], what: str, key: str | None) -> Any:
    if key is None:
        key = "messages" if "messages" in fields else next(iter(fields), "") if len(fields) == 1 else None
    names = ", ".join(map(str, fields)) or "none"
    if key is None:
        raise UsageError(f"{what} has several fields: {names}", "name the one that holds the text")
    if key not in fields:
        raise UsageError(f"{what} has no field {key!r}; it has {names}", "name a field that is there")
    return fields[key]


def context_of(value: Any, what: str) -> tuple[str, ...]:
    """Passages of a retriever: none, one text, or a list of texts and documents."""
    listed = passages(value) if value else ()
    if not isinstance(listed, list | tuple) or not all(isinstance(each, str) for each in listed):
        raise UsageError(f"{what} holds no list of texts", "give the passages as a list of texts")
    return tuple(listed)


def messages_or_text(rendered: str) -> Text:
    """A prompt as a program sends it: chat messages written as JSON become turns; any other text stays.

    >>> messages_or_text('[{"role": "user", "content": "Hi"}]')
    (Turn(role='user', content='Hi'),)
    >>> messages_or_text("[1, 2]")
    '[1, 2]'
    """
    try:
        listed = json.loads(rendered)
        spoken: tuple[Turn, ...] = turns({"prompt": listed}, "prompt")
    except (ValueError, Unusable):
        return rendered
    return spoken
