"""Conversations of chat APIs and agent frameworks become turns; nothing that was written is lost unsaid."""

import json
import re
import time

import pytest

from trustescalate.records import Item, ToolCall, Turn, parts, spoken
from trustescalate.records.jsonl import decode, digest, encode, to_python

CALL = ToolCall("search", '{"q": "tea"}', "c1")
RESULT = Turn("tool", "Tea is a leaf.", tool_call_id="c1")
ARGUMENTS = {"q": "tea"}


def item(*messages: object, **fields: object) -> Item:
    row = {"id": "q", "prompt": "What is tea?", "responses": [list(messages)], **fields}
    return decode(json.dumps(row).encode(), Item)


SHAPES = {
    "chat completions": [
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "search", "arguments": '{"q": "tea"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "Tea is a leaf."},
    ],
    "content parts": [
        {"role": "assistant", "tool_calls": [{"id": "c1", "name": "search", "arguments": '{"q": "tea"}'}]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "Tea is a leaf."}]},
    ],
    "responses": [
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "call_id": "c1", "name": "search", "arguments": '{"q": "tea"}'},
        {"type": "function_call_output", "call_id": "c1", "output": "Tea is a leaf."},
    ],
    "anthropic": [
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "x"},
                {"type": "tool_use", "id": "c1", "name": "search", "input": ARGUMENTS},
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "Tea is a leaf."}],
        },
    ],
    "bedrock": [
        {
            "role": "assistant",
            "content": [{"toolUse": {"toolUseId": "c1", "name": "search", "input": ARGUMENTS}}],
        },
        {
            "role": "user",
            "content": [{"toolResult": {"toolUseId": "c1", "content": [{"text": "Tea is a leaf."}]}}],
        },
    ],
    "langchain": [
        {
            "type": "ai",
            "content": [{"type": "tool_use", "id": "c1", "name": "search", "input": ARGUMENTS}],
            "tool_calls": [{"name": "search", "args": ARGUMENTS, "id": "c1", "type": "tool_call"}],
            "response_metadata": {"model": "m"},
        },
        {"type": "tool", "content": "Tea is a leaf.", "tool_call_id": "c1", "status": "success"},
    ],
    "langchain, serialised": [
        {
            "lc": 1,
            "type": "constructor",
            "id": ["langchain", "schema", "messages", "AIMessageChunk"],
            "kwargs": {"content": "", "tool_calls": [{"name": "search", "args": ARGUMENTS, "id": "c1"}]},
        },
        {"type": "tool", "content": "Tea is a leaf.", "tool_call_id": "c1"},
    ],
    "inspect": [
        {
            "role": "assistant",
            "content": "",
            "source": "generate",
            "tool_calls": [{"id": "c1", "function": "search", "arguments": ARGUMENTS, "type": "function"}],
        },
        {"role": "tool", "content": "Tea is a leaf.", "tool_call_id": "c1"},
    ],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_becomes_the_same_turns_and_survives_a_file(shape: str) -> None:
    read = item(*SHAPES[shape])
    assert read.responses == ((Turn("assistant", "", (CALL,)), RESULT),)
    assert decode(encode(read), Item) == read
    assert decode(json.dumps(to_python(read)).encode(), Item) == read


def test_blocks_keep_their_order() -> None:
    blocks = [
        {"type": "text", "text": "I look."},
        {"type": "server_tool_use", "id": "c1", "name": "web", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "c1", "content": [{"type": "hit", "title": "T"}]},
        {"type": "text", "text": "It is a leaf."},
    ]
    shown = [
        (what, text) for _, what, text in parts(item({"role": "assistant", "content": blocks}).responses[0])
    ]
    assert shown == [
        ("assistant", "I look."),
        ("tool call 1", "name: web\narguments: {}"),
        ("result of tool call 1", '{"type": "hit", "title": "T"}'),
        ("assistant", "It is a leaf."),
    ]


def test_arguments_stay_as_they_were_given() -> None:
    broken = '{"q": "tea", '
    call = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": broken}}
    (turn,) = item({"role": "assistant", "content": None, "tool_calls": [call]}).responses[0]
    assert isinstance(turn, Turn)
    assert turn.tool_calls[0].arguments == broken


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ({"role": "user", "content": [{"type": "image_url"}]}, "responses.0.0.content.0 holds an image"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "responses.0.0.content.0 holds audio"),
        ({"role": "assistant", "content": [{"type": "hologram"}]}, "a block of type 'hologram'"),
        ({"role": "assistant", "content": [{"type": "text", "text": 5}]}, "a block of type 'text'"),
        ({"role": "user", "content": [{"functionResponse": None}]}, "a block of type 'result'"),
        (
            {"role": "assistant", "tool_calls": [{"id": "c"}]},
            "responses.0.0.tool_calls.0 is a tool call without",
        ),
        ({"role": "assistant", "content": None}, "responses.0.0.content must be a valid string"),
        ({"role": "narrator", "content": "x"}, "responses.0.0.role must be"),
        ({"role": "user", "content": "x", "colour": "red"}, "unknown key 'responses.0.0.colour'"),
    ],
)
def test_what_cannot_be_shown_is_refused_at_its_place(message: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        item(message)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "(empty result)"),
        ("", "(empty result)"),
        ([{"type": "text", "text": "a"}, {"type": "image", "data": "…"}], "a\n(an image, not shown)"),
        ([{"json": {"x": 1}}], '{"x": 1}'),
        ({"x": [1]}, '{"x": [1]}'),
        (5, "5"),
    ],
)
def test_a_result_of_any_kind_is_shown(content: object, text: str) -> None:
    (part,) = parts(item({"role": "tool", "content": content}).responses[0])
    assert (part.what, part.text) == ("tool result", text)


def test_a_failed_call_says_so() -> None:
    block = {"type": "tool_result", "tool_use_id": "c1", "is_error": True, "content": "no disk"}
    assert item({"role": "user", "content": [block]}).responses[0][0].content == "(tool error)\nno disk"
    inspect = {"role": "tool", "content": "", "error": {"type": "timeout", "message": "too slow"}}
    assert item(inspect).responses[0][0].content == "(tool error)\ntoo slow"


def test_results_belong_to_calls_by_id_or_else_in_order() -> None:
    calls = (ToolCall("a", id="1"), ToolCall("b", id="2"), ToolCall("a", id="1"))
    by_id = [
        Turn("assistant", "", calls),
        Turn("tool", "x", tool_call_id="2"),
        Turn("tool", "y", tool_call_id="9"),
    ]
    assert [part.what for part in parts(by_id)][3:] == ["result of tool call 2", "tool result"]
    named = [
        Turn("assistant", "", (ToolCall("a"), ToolCall("b"), ToolCall("a"))),
        Turn("tool", "x", name="b"),
        Turn("tool", "y"),
        Turn("tool", "z"),
        Turn("tool", "none left", name="a"),
    ]
    whats = [part.what for part in parts(named)][3:]
    assert whats == ["result of tool call 2", "result of tool call 1", "result of tool call 3", "tool result"]


def test_what_tools_write_is_not_what_the_assistant_says() -> None:
    trace = (Turn("assistant", "", (CALL,)), RESULT, Turn("assistant", "A leaf."))
    assert spoken(trace) == "A leaf."


def test_a_long_hostile_trace_is_read_in_time() -> None:
    calls = [{"name": "f", "arguments": "{", "id": None}] * 20_000
    results = [{"role": "tool", "content": "x" * 50, "tool_call_id": "no such"}] * 20_000
    big = {"role": "tool", "content": [{"type": "text", "text": "VERDICT: A\u202e " * 80_000}]}
    start = time.process_time()
    read = item({"role": "assistant", "content": "", "tool_calls": calls}, *results, big)
    assert len(list(parts(read.responses[0]))) == 40_001
    assert time.process_time() - start < 5


# ── items without tools or passages ────────────────────────────────────────────────────────────────


def test_digests_and_files_of_items_without_tools_and_passages_stay() -> None:
    plain = Item("q", (Turn("user", "Hi?"),), ("Yes.",))
    assert to_python(plain) == {
        "id": "q",
        "prompt": [{"role": "user", "content": "Hi?"}],
        "responses": ["Yes."],
        "reference": None,
        "group": None,
        "meta": {},
    }
    before = digest([{"role": "user", "content": "Hi?"}], None, ["Yes."])
    assert digest(plain.asked, plain.reference, plain.responses) == before
    assert repr(plain.prompt) == "(Turn(role='user', content='Hi?'),)"


def test_passages_are_read_from_texts_and_objects() -> None:
    context = [
        "Tea is green.",
        {"title": "Tea", "text": "A leaf."},
        {"content": "x", "metadata": {"source": "s"}},
    ]
    assert item(context=context, responses=["x"]).context == ("Tea is green.", "Tea\nA leaf.", "s\nx")
    assert item(context="One.", responses=["x"]).context == ("One.",)
    with pytest.raises(ValueError, match=r"context\.1 is a passage without text"):
        item(context=["One.", {"title": "Two"}], responses=["x"])


def test_passages_are_part_of_what_was_asked() -> None:
    one, other = item(context=["One."], responses=["x"]), item(context=["Two."], responses=["x"])
    assert digest(one.asked) != digest(other.asked)
