"""Read batch inputs and outputs of OpenAI-compatible endpoints: each answer is a response to be judged.

Joined by custom_id alone: outputs come in any order. A line with an error is refused and counted. Source: the
Batch API's documented files; chat completions and responses.
"""

from collections.abc import Iterator
from typing import Any

from trustescalate.data.importers.base import Files, Format, Found, Notes, Taken, each
from trustescalate.data.importers.fields import answer, get, has, many, name, text, turns
from trustescalate.data.importers.files import Unusable
from trustescalate.data.importers.harness import BINARY
from trustescalate.data.importers.traces import as_prompt
from trustescalate.records import Item, Turn


def _read(files: Files, notes: Notes) -> Iterator[Taken]:
    notes.task = BINARY
    notes.assume("an answer is a response to be judged; the file holds no verdicts")
    asked: dict[str, Any] = {}

    def ask(row: Any) -> Iterator[Found]:
        key = text(row, "custom_id")
        if key in asked:
            raise Unusable("this custom_id came before")
        asked[key] = get(row, "body")
        return iter(())

    for file in files["input"]:
        yield from each(file, ask)
    for file in files["output"]:
        yield from each(file, lambda row: _answer(row, asked))


def _answer(row: Any, asked: dict[str, Any]) -> Iterator[Found]:
    key = text(row, "custom_id")
    response = get(row, "response")
    body = response.get("body") if isinstance(response, dict) else None
    failed = row.get("error") or (body.get("error") if isinstance(body, dict) else None)
    if failed or not isinstance(response, dict) or response.get("status_code") != 200:
        code = failed.get("code") if isinstance(failed, dict) else None
        raise Unusable(f"the request failed ({code or 'no code'}): there is no answer")
    if key not in asked:
        raise Unusable("its custom_id is in no input file: give that too")
    response, finish = _read_answer(body)
    meta = {"model": name(body, "model"), "finish": finish}
    yield Found(Item(key, _prompt(asked[key]), (response,), None, None, meta))


def _read_answer(body: Any) -> tuple[str | tuple[Turn, ...], str]:
    """The answer, and why it ended; with tool calls in it, its turns."""
    if isinstance(body, dict) and "choices" in body:
        choice = get(body, "choices", 0)
        finish = choice.get("finish_reason") if isinstance(choice, dict) else None
        if isinstance(message := get(choice, "message"), dict) and message.get("tool_calls"):
            return turns({"message": [message]}, "message"), str(finish)
        return answer(body, "choices", 0, "message", "content"), str(finish)
    items = [each for each in many(body, "output") if isinstance(each, dict)]
    if any(str(each.get("type")).endswith("_call") for each in items):
        return turns(body, "output"), str(get(body, "status"))
    parts = [
        part
        for message in many(body, "output")
        if isinstance(message, dict) and message.get("type") == "message"
        for part in (message["content"] if isinstance(message.get("content"), list) else [])
    ]
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    spoken = [each for each in texts if isinstance(each, str)]
    if not spoken:
        raise Unusable("the answer holds no text")
    return "".join(spoken), str(get(body, "status"))


def _prompt(body: Any) -> str | tuple[Turn, ...]:
    if isinstance(body, dict) and isinstance(body.get("input"), str):
        return text(body, "input")
    return as_prompt(turns(body, "messages" if isinstance(body, dict) and "messages" in body else "input"))


OPENAI_BATCH = Format(
    "openai_batch",
    "Batch inputs and outputs of OpenAI-compatible endpoints",
    {
        "input": lambda file: has(file, "custom_id", "method", "url", "body"),
        "output": lambda file: has(file, "custom_id", "response"),
    },
    ("output",),
    _read,
    kept=("input",),
)
