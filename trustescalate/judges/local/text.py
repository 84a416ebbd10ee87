"""Between messages and token ids: chat templates, the prefix that prompts share, the spellings of a symbol.

Asks no model anything. A text to be judged is data: control tokens inside it are split, so it ends no turn.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from trustescalate.records import Message

PROBES = ("0", "~")
"""Two last messages that have nothing in common; what their prompts share, all prompts share."""

REMEMBERED = 64


class ChatText:
    """A tokenizer, with its chat template or without: a base model is shown plain "role: text" paragraphs."""

    def __init__(self, tokenizer: Any, *, template: bool = True) -> None:
        self._tokenizer = tokenizer
        self._template = template and tokenizer.chat_template is not None
        self._special = _special(tokenizer)
        self._vocabulary: dict[str, int] = tokenizer.get_vocab()
        self._spellings: dict[tuple[str, ...], list[int]] = {}
        self._prefixes: OrderedDict[tuple[Message, ...], tuple[int, ...]] = OrderedDict()
        self._texts: dict[int, str] = {}

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """The token ids of a conversation, up to where the model is to answer."""
        turns = self._turns(messages)
        if not self._template:
            text = "\n\n".join([f"{turn['role']}: {turn['content']}" for turn in turns] + ["assistant:"])
            return list(self._tokenizer(text)["input_ids"])
        return self._ids(self._rendered(turns, answer_next=True))

    def exchange(self, messages: Sequence[Message]) -> list[int]:
        """The token ids of a prompt and its answer, in the template or else as the tokenizer's pair."""
        *prompt, answer = self._turns(messages)
        if self._template:
            return self._ids(self._rendered([*prompt, answer], answer_next=False))
        shown = "\n\n".join(turn["content"] for turn in prompt)
        return list(self._tokenizer(shown, answer["content"])["input_ids"])

    def prefix(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The ids with which every conversation begins that differs from this one in its last message alone.

        Almost: a tokenizer may merge across the boundary, so each conversation is still to be compared.
        """
        *head, last = messages
        key = (*head, Message(last.role, ""))
        if key not in self._prefixes:
            first, second = (self.encode([*head, Message(last.role, probe)]) for probe in PROBES)
            self._prefixes[key] = tuple(first[: common(first, second)])
        self._prefixes.move_to_end(key)
        while len(self._prefixes) > REMEMBERED:
            self._prefixes.popitem(last=False)
        return self._prefixes[key]

    def spellings(self, symbols: tuple[str, ...]) -> list[int]:
        """Tokens with which a symbol may start, however unlikely: any case, after a space, only its head."""
        if symbols not in self._spellings:
            forms = {form for s in symbols for form in (s, s.lower(), s.upper(), s.capitalize())}
            heads = {space + form[:n] for form in forms for space in ("", "▁", "Ġ") for n in _lengths(form)}
            encoded = [self._ids(space + form)[:1] for form in sorted(forms) for space in ("", " ")]
            tokens = {self._vocabulary[head] for head in heads if head in self._vocabulary}
            self._spellings[symbols] = sorted(tokens.union(*encoded))
        return self._spellings[symbols]

    def decoded(self, ids: Sequence[int]) -> str:
        """The text of some tokens, control tokens left out."""
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def token(self, token: int) -> str:
        """The text of one token as it is."""
        if token not in self._texts:
            self._texts[token] = self._tokenizer.decode([token])
        return self._texts[token]

    def _turns(self, messages: Sequence[Message]) -> list[dict[str, str]]:
        return [{"role": m.role, "content": self._defuse(m.content)} for m in messages]

    def _rendered(self, turns: Sequence[dict[str, str]], *, answer_next: bool) -> str:
        """In the template's own words; a system message joins the next one where the template knows none."""
        try:
            return self._templated(turns, answer_next)
        except Exception:  # templates raise what they like where they know no system role
            if len(turns) < 2 or turns[0]["role"] != "system":
                raise
            first, second, *rest = turns
            joined = {"role": second["role"], "content": f"{first['content']}\n\n{second['content']}"}
            return self._templated([joined, *rest], answer_next)

    def _templated(self, turns: Sequence[dict[str, str]], answer_next: bool) -> str:
        text: str = self._tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=answer_next
        )
        return text

    def _defuse(self, text: str) -> str:
        """Split control tokens inside a text by a space: read as such, they would end its turn."""
        return self._special.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])


def common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many ids two sequences of one kind begin with alike.

    >>> common([7, 8, 9], [7, 8, 1, 9]), common([], [1])
    (2, 0)
    """
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if first[low:middle] == second[low:middle] else (low, middle - 1)
    return low


def _special(tokenizer: Any) -> re.Pattern[str]:
    added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    names = sorted({name for name in added if len(name) > 1}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, names)) or r"(?!)")


def _lengths(form: str) -> Iterable[int]:
    return range(1, len(form) + 1)
