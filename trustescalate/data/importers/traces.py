"""Take an agent's trace from a conversation or from spans: what follows the prompt, with its tool calls."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from trustescalate.data.importers.fields import kind_of, turns
from trustescalate.data.importers.files import Unusable, from_text
from trustescalate.records import ToolCall, Turn
from trustescalate.records.messages import BadMessage, passages

Talk = tuple[Turn, ...]


def has_tools(talk: Sequence[Turn]) -> bool:
    """Whether a conversation holds a tool call or a result."""
    return any(turn.role == "tool" or turn.tool_calls for turn in talk)


def as_prompt(talk: Talk) -> str | Talk:
    """A conversation as a prompt: as text if it is one turn of the user."""
    return talk[0].content if len(talk) == 1 and talk[0].role == "user" else talk


def as_response(talk: Talk) -> str | Talk:
    """The turns after a prompt as a response: as text if it is one turn that calls no tool."""
    return talk[0].content if len(talk) == 1 and not has_tools(talk) else talk


def after(prompt: str | Talk, talk: Talk) -> Talk:
    """The turns of a conversation after its prompt; all of them where it does not begin with the prompt.

    >>> after("2 + 2?", (Turn("system", "Add."), Turn("user", "2 + 2?"), Turn("assistant", "4")))
    (Turn(role='assistant', content='4'),)
    """
    asked = (Turn("user", prompt),) if isinstance(prompt, str) else prompt
    place = next((at for at, turn in enumerate(talk) if turn == asked[-1]), -1)
    is_start = all(turn.role == "system" or turn in asked for turn in talk[: place + 1])
    return talk[place + 1 :] if is_start else talk


def from_answer(prompt: str | Talk, talk: Talk) -> Talk:
    """The turns after the prompt; where it is not there word for word, all from the first answer."""
    rest = after(prompt, talk)
    if len(rest) < len(talk):
        return rest
    start = next((at for at, turn in enumerate(talk) if turn.role not in ("system", "user")), len(talk))
    return talk[start:]


def ended(talk: Talk, answer: str) -> Talk:
    """A trace with its final answer, which may stand beside its last message."""
    last = talk[-1].content if talk and talk[-1].role == "assistant" else ""
    is_there = bool(talk) and (not answer.strip() or last.strip() == answer.strip())
    return talk if is_there else (*talk, Turn("assistant", answer))


def is_conversation(value: Any) -> bool:
    """Whether a value is a list of messages."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(each, dict) and {"role", "type", "lc"} & each.keys() for each in value)
        and any({"content", "kwargs", "tool_calls", "output", "parts"} & each.keys() for each in value)
    )


def conversation_in(value: Any, where: str) -> Talk | None:
    """The conversation that inputs or outputs of a chat hold, as messages or as choices; None without one."""
    if isinstance(value, dict) and isinstance(value.get("choices"), list) and value["choices"]:
        choice = value["choices"][0]
        value = [choice.get("message")] if isinstance(choice, dict) else None
    elif isinstance(value, dict) and "role" in value:
        value = [value]
    elif isinstance(value, dict):
        value = next((value[key] for key in ("messages", "input", "output") if key in value), None)
    return turns({where: value}, where) if is_conversation(value) else None


def tool_spans(spans: Sequence[Any]) -> Talk:
    """The calls and results that spans of tools hold, in their order."""
    used = (span for span in spans if _attribute(span, "spanType") == "TOOL")
    return _trace(
        (span.get("name"), _attribute(span, "spanInputs"), _attribute(span, "spanOutputs")) for span in used
    )


def called(tools: Sequence[Any]) -> Talk:
    """The calls and results of tools as DeepEval lists them: name, inputParameters, output."""
    named = (tool for tool in tools if isinstance(tool, dict))
    return _trace((tool.get("name"), tool.get("inputParameters"), tool.get("output")) for tool in named)


def _trace(used: Iterable[tuple[Any, Any, Any]]) -> Talk:
    talk = list[Turn]()
    for place, (name, arguments, result) in enumerate(used):
        call = ToolCall(name if isinstance(name, str) else "tool", _shown(arguments), str(place))
        talk += [Turn("assistant", "", (call,)), Turn("tool", _shown(result), tool_call_id=str(place))]
    return tuple(talk)


def retrieved(spans: Sequence[Any]) -> tuple[str, ...]:
    """The passages that spans of retrievers hold, in their order, each once."""
    texts = dict[str, None]()
    for span in spans:
        outputs = _attribute(span, "spanOutputs")
        if _attribute(span, "spanType") == "RETRIEVER" and isinstance(outputs, list):
            texts |= dict.fromkeys(passages_in(outputs, "mlflow.spanOutputs"))
    return tuple(texts)


def passages_in(value: Any, where: str) -> tuple[str, ...]:
    """Passages as texts. Raises Unusable for one without text."""
    try:
        texts = passages(value)
    except BadMessage as error:
        raise Unusable(f"{where}.{error}") from None
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        raise Unusable(f"{where} is {kind_of(value)}, not a list of passages")
    return tuple(texts)


def _attribute(span: Any, name: str) -> Any:
    attributes = span.get("attributes") if isinstance(span, dict) else None
    packed = attributes.get(f"mlflow.{name}") if isinstance(attributes, dict) else None
    value = from_text(packed) if isinstance(packed, str) else packed
    return packed if value is None else value


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
