"""Anthropic's Messages, Gemini's generateContent, Bedrock's converse and OpenAI's chat on this machine.

The replies are those of the simulated judge that a request names, the same in every form. A plan may give a
`Canned` response in its place.
"""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from tests.support.endpoints import simulated
from tests.support.loopback import LoopbackServer
from tests.support.servers import Body, Canned, http_response

Plan = Callable[[str, Body, int], Canned | None]
"""(path, the request as a chat completion, how often it was asked) -> a response in place of the reply."""
SIZES = {"gemini-2.5-flash-lite": "XS", "gemini-2.5-flash": "M"}
"""LiteLLM moves the system message of a Gemini model that it does not know into the first turn."""


class ProviderServer(LoopbackServer):
    """The server, in a thread of its own; `root` is its address without a path."""

    def __init__(self, plan: Plan = lambda path, chat, nth: None) -> None:
        super().__init__(limit=2**24)
        self.plan = plan
        self.asked: list[tuple[str, Body]] = []
        self.headers: list[Mapping[str, str]] = []
        self.peak = 0
        self._open, self._counts, self._lock = 0, Counter[str](), threading.Lock()

    @property
    def root(self) -> str:
        """Its address without /v1."""
        return self.url.removesuffix("/v1")

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = head[0].split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (h.partition(":") for h in head[1:])}
            content = await reader.readexactly(int(headers.get("content-length", 0)))
            self.headers.append(headers)
            self._open += 1
            self.peak = max(self.peak, self._open)
            await asyncio.sleep(0.002)
            response = self.answer(method, target, json.loads(content) if content else {})
            self._open -= 1
            if response is None:
                return
            writer.write(http_response(response))
            await writer.drain()

    def answer(self, method: str, target: str, body: Body) -> Canned | None:
        """The response to one request; None closes the connection."""
        path = target.partition("?")[0]
        return self.complete(path, body)

    def complete(self, path: str, body: Body) -> Canned:
        """The reply to one request for a completion, in the form of its path."""
        chat = as_chat(path, body)
        key = json.dumps([path, chat], sort_keys=True)
        self._counts[key] += 1
        self.asked.append((path, body))
        planned = self.plan(path, chat, self._counts[key])
        return planned or Canned(200, reply_in_form(path, chat, reply_to(chat)))


def reply_to(chat: Body) -> str:
    """The likeliest label of the simulated judge of that name, or of the large one."""
    size = SIZES.get(chat["model"], chat["model"])
    probs = simulated({**chat, "model": size if size in ("XS", "S", "M") else "M"})
    return max(probs, key=lambda symbol: probs[symbol]).upper()


def as_chat(path: str, body: Body) -> Body:
    """A request of any provider as the messages of a chat completion."""
    if "/chat/completions" in path:
        return {"model": body["model"], "messages": body["messages"]}
    if "/messages" in path:
        before, turns, model = body.get("system"), body["messages"], body["model"]
    elif "/converse" in path:
        before, turns, model = body.get("system"), body["messages"], path.split("/")[2]
    else:
        model = path.rpartition("/")[2].partition(":")[0]
        system = body.get("system_instruction") or body.get("systemInstruction") or {}
        before = system.get("parts")
        turns = [{"role": turn["role"], "content": turn["parts"]} for turn in body["contents"]]
    messages = [{"role": "system", "content": text_of(before)}] if before else []
    for turn in turns:
        role = "assistant" if turn["role"] in ("assistant", "model") else "user"
        messages.append({"role": role, "content": text_of(turn["content"])})
    return {"model": model, "messages": messages}


def text_of(content: Any) -> str:
    """The text of a content or of its parts."""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def reply_in_form(path: str, chat: Body, text: str, ending: str = "") -> Body:
    """A reply in the form of the provider whose path it is."""
    size = max(1, sum(len(turn["content"]) for turn in chat["messages"]) // 4)
    if "/chat/completions" in path:
        usage = {"prompt_tokens": size, "completion_tokens": 1, "total_tokens": size + 1}
        message = {"role": "assistant", "content": text}
        return {
            **{"id": "c", "object": "chat.completion", "created": 1, "model": f"{chat['model']}-served"},
            "choices": [{"index": 0, "message": message, "finish_reason": ending or "stop"}],
            "usage": usage,
        }
    if "/messages" in path:
        return {
            **{"id": "m", "type": "message", "role": "assistant", "model": f"{chat['model']}-served"},
            **{"content": [{"type": "text", "text": text}] if text else [], "stop_sequence": None},
            "stop_reason": ending or "end_turn",
            "usage": {"input_tokens": size, "output_tokens": 1},
        }
    if "/converse" in path:
        return {
            "output": {"message": {"role": "assistant", "content": [{"text": text}]}},
            "stopReason": ending or "end_turn",
            "usage": {"inputTokens": size, "outputTokens": 1, "totalTokens": size + 1},
            "metrics": {"latencyMs": 1},
        }
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": ending or "STOP"}
    return {
        "candidates": [{**candidate, "index": 0}],
        "usageMetadata": {
            **{"promptTokenCount": size, "candidatesTokenCount": 1, "totalTokenCount": size + 1}
        },
        "modelVersion": f"{chat['model']}-served",
    }
