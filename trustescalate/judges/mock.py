"""Answer every request without a model: for tests of programs that use a judge."""

import math
from collections.abc import Sequence

from trustescalate.judges.criteria_replies import write_reply
from trustescalate.records import Reply, Request, Token, Usage
from trustescalate.records.jsonl import digest


class MockBackend:
    """Gives one `reply` to every prompt, or without it a label by a hash of the prompt.

    The label has the probability `confidence`; the others share the rest.

    >>> import asyncio
    >>> from trustescalate.records import Message
    >>> request = Request((Message("user", "Which is better?"),), ("A", "B"), 1, 0.0, logprobs=True)
    >>> asyncio.run(MockBackend("B").complete(request)).text
    'B'
    """

    def __init__(self, reply: str = "", confidence: float = 0.9) -> None:
        self._reply = reply
        self._confidence = confidence

    async def complete(self, request: Request) -> Reply:
        """Answer one request."""
        asked = [(message.role, message.content) for message in request.messages]
        symbols = request.symbols
        if request.criteria and not self._reply:
            return self._on_each(request, asked)
        text = self._reply or symbols[int(digest("mock", asked)[:8], 16) % len(symbols)]
        usage = Usage(1, sum(len(content) for _, content in asked) // 4 + 1, 0, 1)
        if not request.logprobs or text not in symbols:
            return Reply(text, None, "stop", usage)
        return Reply(text, (Token(text, self._top(text, symbols)),), "stop", usage)

    def _on_each(self, request: Request, asked: Sequence[tuple[str, str]]) -> Reply:
        """A verdict on each criterion, by a hash of the prompt and its name."""
        verdicts = []
        for each in request.criteria:
            symbol = each.symbols[int(digest("mock", asked, each.name)[:8], 16) % len(each.symbols)]
            verdicts.append((symbol, self._top(symbol, each.symbols)))
        text, tokens = write_reply(request, verdicts, "This reasoning is a mock.")
        usage = Usage(1, sum(len(content) for _, content in asked) // 4 + 1, 0, len(text) // 4 + 1)
        return Reply(text, tokens if request.logprobs else None, "stop", usage)

    def _top(self, text: str, symbols: Sequence[str]) -> tuple[tuple[str, float], ...]:
        rest = (1 - self._confidence) / max(1, len(symbols) - 1)
        top = [(symbol, self._confidence if symbol == text else rest) for symbol in symbols]
        return tuple((symbol, math.log(p)) for symbol, p in top if p > 0)
