"""Bring messages of chat APIs and agent frameworks to one form: turns, tool calls, and tool results.

Read: chat completions and responses of OpenAI, Anthropic and Bedrock blocks, Gemini parts, LangChain, Inspect
AI. Arguments and results stay as they were given; what is not text becomes JSON. An image in a tool result
is replaced by a marker; elsewhere it is an error, since nobody could judge without it. Reasoning is no part
of what was answered, and is left out. Source: the documentation of each API.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

Plain = dict[str, Any]
"""A turn as plain values: role, content, tool_calls (id, name, arguments), tool_call_id, name."""

ROLES = {
    "assistant": "assistant", "ai": "assistant", "model": "assistant", "user": "user", "human": "user",
    "system": "system", "developer": "system", "tool": "tool", "function": "tool",
}  # fmt: skip
KEYS = frozenset({"role", "content", "tool_calls", "tool_call_id", "name"})
IGNORED = frozenset(
    {
        "additional_kwargs", "annotations", "artifact", "cache_control", "example", "id", "index", "internal",
        "invalid_tool_calls", "metadata", "model", "phase", "provider_specific_fields", "reasoning",
        "reasoning_content", "reasoning_details", "response_metadata", "source", "status", "stop_reason",
        "stop_sequence", "thinking_blocks", "timestamp", "usage", "usage_metadata", "view", "weight",
    }
)  # fmt: skip
"""Keys of messages that hold no part of what was written."""
READ = KEYS | {"type", "parts", "refusal", "audio", "function_call", "function", "call_id", "error", "output"}
TEXTS = frozenset({"text", "input_text", "output_text"})
REASONING = frozenset({"thinking", "redacted_thinking", "reasoning", "reasoning_content", "reasoningContent"})
CALLS = frozenset(
    {"tool_use", "server_tool_use", "mcp_tool_use", "tool_call", "function_call", "toolUse", "functionCall"}
)
RESULTS = frozenset({"tool_result", "toolResult", "functionResponse"})
NESTED = frozenset({"toolUse", "toolResult", "functionCall", "functionResponse", "json"})
MEDIA = {
    "image": "an image", "image_url": "an image", "input_image": "an image", "inlineData": "media",
    "audio": "audio", "input_audio": "audio", "video": "a video", "video_url": "a video",
    "file": "a file", "input_file": "a file", "document": "a document", "fileData": "a file",
}  # fmt: skip
UNTYPED = ("text", "toolUse", "toolResult", "functionCall", "functionResponse", "json", *REASONING, *MEDIA)
"""The only key of a block that has no type, as Bedrock and Gemini write it."""
ITEMS = ("_call", "_call_output", "reasoning", "mcp_list_tools")
"""How the types of items of the responses API end that have no role."""


class BadMessage(ValueError):
    """A message that is no turn; the sentence begins with its place in the conversation."""


def plain_turns(messages: Any, *, strict: bool = True) -> Any:
    """The turns of a list of messages as plain values; anything else than a list comes back as it is.

    With `strict`, a key that no known format has is kept, to be refused as unknown. Raises BadMessage.

    >>> plain_turns([{"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "42"}]}])
    [{'role': 'tool', 'content': '42', 'tool_call_id': 'c1'}]
    """
    if not isinstance(messages, list):
        return messages
    if not strict and len(messages) == 1 and isinstance(messages[0], list):
        messages = messages[0]  # LangChain logs lists of conversations
    return [turn for place, message in enumerate(messages) for turn in _turns(message, str(place), strict)]


def passages(context: Any) -> Any:
    """Passages as texts: of each its title, or else its source, and its text. A text is one passage.

    >>> passages(["Tea is green.", {"title": "Tea", "page_content": "It is a leaf."}])
    ['Tea is green.', 'Tea\\nIt is a leaf.']
    """
    listed = [context] if isinstance(context, str | dict) else context
    if not isinstance(listed, list):
        return listed
    return [_passage(each, place) for place, each in enumerate(listed)]


def _passage(passage: Any, place: int) -> Any:
    if not isinstance(passage, dict):
        return passage
    meta = passage.get("metadata")
    known = {**(meta if isinstance(meta, dict) else {}), **passage}
    text = next((known[key] for key in ("text", "content", "page_content", "passage") if key in known), None)
    if not isinstance(text, str):
        raise BadMessage(f"{place} is a passage without text; write it as a string, or under the key text")
    title = next((known[key] for key in ("title", "source", "id") if known.get(key) not in (None, "")), None)
    return text if title is None else f"{title}\n{text}"


# ── one message ────────────────────────────────────────────────────────────────────────────────────


def _turns(message: Any, at: str, strict: bool) -> list[Any]:
    if not isinstance(message, dict) or _is_plain(message):
        return [message]
    if message.get("type") == "constructor" and isinstance(message.get("kwargs"), dict):
        message = _constructed(message)
    kind = message.get("type")
    if "role" not in message and isinstance(kind, str) and kind.endswith(ITEMS):
        return _item(message, kind, at)
    role = message.get("role", kind)
    role = ROLES.get(role, role) if isinstance(role, str) else role
    base = {} if role is None else {"role": role}
    if strict:
        base |= {key: message[key] for key in message.keys() - READ - IGNORED if message[key] is not None}
    content = message.get("content", message.get("parts"))
    if message.get("audio"):
        _refuse_media("audio", at)
    if role == "tool":
        return [base | _result(message, content, message.get("error") or message.get("status") == "error")]
    if content is None:
        content = message.get("refusal")
    if not isinstance(content, str | list | dict) and not (content is None and _calls_of(message)):
        return [base | {key: message[key] for key in KEYS & message.keys() - {"role"}}]
    turns = _Turns(base)
    blocks = content if isinstance(content, list) else [] if content is None else [content]
    for place, block in enumerate(blocks):
        turns.add(block, f"{at}.content.{place}" if isinstance(content, list) else f"{at}.content")
    for place, call in enumerate(_calls_of(message)):
        turns.call(_call(call, f"{at}.tool_calls.{place}"))
    turns.flush()
    if isinstance(message.get("name"), str):
        turns.done = [turn if "name" in turn else {**turn, "name": message["name"]} for turn in turns.done]
    return turns.done or [base | {"content": ""}]


def _is_plain(message: Mapping[str, Any]) -> bool:
    """Whether a message has the form of our files, or one that only their reader can refuse."""
    calls = message.get("tool_calls", [])
    return (
        isinstance(message.get("content"), str)
        and message.get("role") in ("assistant", "user", "system", "tool")
        and message.keys() <= KEYS
        and isinstance(calls, list)
        and all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls)
        and all(call.keys() <= {"id", "name", "arguments"} for call in calls)
        and all(isinstance(call.get("arguments", ""), str) for call in calls)
        and all(key not in message or isinstance(message[key], str) for key in ("name", "tool_call_id"))
    )


def _constructed(message: Mapping[str, Any]) -> Plain:
    """A message as LangChain serialises it: its class names its role."""
    path = message.get("id")
    name = path[-1] if isinstance(path, list) and path and isinstance(path[-1], str) else ""
    role = name.removesuffix("Chunk").removesuffix("Message").casefold()
    return {**message["kwargs"], "role": role}


def _item(message: Mapping[str, Any], kind: str, at: str) -> list[Plain]:
    """An item of the responses API, which has no role."""
    if kind in ("reasoning", "mcp_list_tools"):
        return []
    if kind.endswith("_output"):
        return [{"role": "tool", **_result(message, message.get("output"), False)}]
    if "name" not in message:  # of a tool of the provider: all that it holds is the argument
        given = {key: value for key, value in message.items() if key not in ("id", "type", "status")}
        message = {"id": message.get("id"), "name": kind.removesuffix("_call"), "arguments": given}
    call = _call(message, at)
    turns = [{"role": "assistant", "content": "", "tool_calls": [call]}]
    if message.get("output") is not None:  # of an MCP server, in the same item
        result = _result({"tool_call_id": call.get("id")}, message["output"], bool(message.get("error")))
        turns.append({"role": "tool", **result})
    return turns


class _Turns:
    """The turns of one message, in the order of its blocks: text after a call or a result is a new turn."""

    def __init__(self, base: Plain) -> None:
        self._base = base
        self._texts: list[str] = []
        self._calls: list[Plain] = []
        self._ids: set[str] = set()
        self.done: list[Plain] = []

    def flush(self) -> None:
        """End the turn that is being read."""
        if self._texts or self._calls:
            calls = {"tool_calls": self._calls} if self._calls else {}
            self.done.append(self._base | {"content": "".join(self._texts)} | calls)
        self._texts, self._calls = [], []

    def call(self, call: Plain) -> None:
        """Add a call, unless a block brought it before."""
        if call.get("id") is None or call["id"] not in self._ids:
            self._calls.append(call)
            self._ids |= {call["id"]} if call.get("id") is not None else set()

    def add(self, block: Any, at: str) -> None:
        """Add a block of the content."""
        kind, body = _kind(block)
        if kind == "text" and isinstance(body, str):
            if self._calls:
                self.flush()
            self._texts.append(body)
        elif kind == "call":
            self.call(_call(body, at))
        elif kind == "result" and isinstance(body, dict):
            self.flush()
            failed = bool(body.get("is_error")) or body.get("status") == "error"
            content = body.get("content", body.get("response", body.get("output")))
            self.done.append({"role": "tool", **_result(body, content, failed)})
        elif kind in MEDIA:
            _refuse_media(kind, at)
        elif kind != "reasoning":
            what = f"a block of type {kind[:40]!r}" if kind else f"a {type(block).__name__}"
            raise BadMessage(f"{at} is {what}, which is not known; write what it holds as text")


def _kind(block: Any) -> tuple[str, Any]:
    """What a block is, "text", "call", "result", "reasoning" or its own type, and its body."""
    if not isinstance(block, dict):
        return "text" if isinstance(block, str) else "", block
    kind: Any = block.get("type")
    body: Any = block
    if not isinstance(kind, str):  # Bedrock and Gemini: a block without a type has one key
        kind = next((key for key in UNTYPED if key in block), "")
        body = block[kind] if kind in NESTED else block
    if kind in TEXTS:
        kind, body = "text", block.get("text")
        body = body.get("value") if isinstance(body, dict) else body
    elif kind == "refusal":
        kind, body = "text", block.get("refusal")
    elif kind == "document" and isinstance(source := block.get("source"), dict):
        kind, body = ("text", source.get("data")) if source.get("type") == "text" else (kind, block)
    elif kind in REASONING:
        kind = "reasoning"
    elif kind in CALLS:
        kind = "call"
    elif kind in RESULTS or kind.endswith(("_tool_result", "_tool_result_error")):
        kind = "result"
    return kind, body


# ── calls and results ──────────────────────────────────────────────────────────────────────────────


def _calls_of(message: Mapping[str, Any]) -> list[Any]:
    calls = message.get("tool_calls") or []
    legacy = message.get("function_call")
    return [*(calls if isinstance(calls, list) else [calls]), *([legacy] if legacy else [])]


def _call(call: Any, at: str) -> Plain:
    """A call as plain values; its arguments as they were given."""
    if not isinstance(call, dict):
        raise BadMessage(f"{at} is no tool call with a name and arguments")
    inner = next((call[key] for key in ("function", "custom") if isinstance(call.get(key), dict)), call)
    name = inner.get("name", call.get("function"))
    if not isinstance(name, str):
        raise BadMessage(f"{at} is a tool call without a name")
    keys = ("arguments", "args", "input", "parameters")
    arguments = _text_of(next((inner[key] for key in keys if inner.get(key) is not None), ""))
    call_id = _first(call, ("call_id", "id", "toolUseId", "tool_call_id"))
    return {"name": name, "arguments": arguments} | ({} if call_id is None else {"id": call_id})


def _result(message: Mapping[str, Any], content: Any, failed: Any) -> Plain:
    """The fields of a tool result. What is not text becomes JSON; media become a marker."""
    blocks: Iterable[Any] = content if isinstance(content, list) else [] if content is None else [content]
    text = "\n".join(map(_result_text, blocks))
    if failed:
        why = failed.get("message") if isinstance(failed, dict) else None
        more = why if isinstance(why, str) and why not in text else ""
        text = "\n".join(part for part in ("(tool error)", more, text) if part)
    call_id = _first(message, ("tool_call_id", "tool_use_id", "toolUseId", "call_id"))
    name = _first(message, ("name", "function"))
    given = {"tool_call_id": call_id, "name": name}
    return {"content": text} | {key: value for key, value in given.items() if value is not None}


def _result_text(block: Any) -> str:
    kind, body = _kind(block)
    if kind == "text" and isinstance(body, str):
        return body
    if kind in MEDIA:
        return f"({MEDIA[kind]}, not shown)"
    return _text_of(body)


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _first(values: Mapping[str, Any], keys: Iterable[str]) -> str | None:
    return next((str(values[key]) for key in keys if isinstance(values.get(key), str | int)), None)


def _refuse_media(kind: str, at: str) -> None:
    why = f"holds {MEDIA[kind]} ({kind}), which cannot be judged as text"
    raise BadMessage(f"{at} {why}; write what it shows as text, or leave the item out")
