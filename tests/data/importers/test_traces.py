"""Traces of agents and retrieved passages come through an import: none is dropped, none is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.formats import Parsed, parse, parse_rows
from trustescalate.data.import_files import import_files
from trustescalate.errors import DataError
from trustescalate.records import Item, ToolCall, Turn, parts
from trustescalate.records.jsonl import read_rows

CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "[2, 2]"}}
MESSAGES = [
    {"role": "user", "content": "2 + 2?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "4"},
    {"role": "assistant", "content": "Four."},
]
TRACE = (
    Turn("assistant", "", (ToolCall("add", "[2, 2]", "c1"),)),
    Turn("tool", "4", tool_call_id="c1"),
    Turn("assistant", "Four."),
)


def only(parsed: Parsed) -> Item:
    assert parsed.result.refused == 0, parsed.result.rejected
    (item,) = parsed.items.values()
    return item


def document(tmp_path: Path, value: Any) -> Path:
    path = tmp_path / "log.json"
    path.write_text(json.dumps(value))
    return path


def inspect_log(**changed: Any) -> dict[str, Any]:
    sample = {
        "id": "s",
        "epoch": 1,
        "input": "2 + 2?",
        "target": "4",
        "messages": [{"role": "system", "content": "Use tools."}, *MESSAGES],
        "output": {"completion": "Four."},
        "scores": {"match": {"value": "C"}},
        **changed,
    }
    return {"status": "success", "eval": {}, "plan": {}, "samples": [sample]}


def test_inspect_shows_the_messages_of_an_agent(tmp_path: Path) -> None:
    item = only(parse(tmp_path / "set", document(tmp_path, inspect_log())))
    assert (item.prompt, item.responses) == ("2 + 2?", (TRACE,))


def test_inspect_keeps_an_answer_that_a_tool_submitted(tmp_path: Path) -> None:
    log = inspect_log(messages=MESSAGES[:3], output={"completion": "4"})
    item = only(parse(tmp_path / "set", document(tmp_path, log)))
    assert item.responses == ((*TRACE[:2], Turn("assistant", "4")),)


def test_inspect_without_tools_is_a_text_as_before(tmp_path: Path) -> None:
    log = inspect_log(messages=[MESSAGES[0], MESSAGES[3]])
    assert only(parse(tmp_path / "set", document(tmp_path, log))).responses == ("Four.",)


def batch(tmp_path: Path, url: str, asked: Any, answered: Any) -> Item:
    row = {"custom_id": "q", "method": "POST", "url": url, "body": asked}
    reply = {"status_code": 200, "body": {"model": "m", **answered}}
    (tmp_path / "in.jsonl").write_text(json.dumps(row))
    (tmp_path / "out.jsonl").write_text(json.dumps({"custom_id": "q", "response": reply, "error": None}))
    return only(parse(tmp_path / "set", tmp_path / "out.jsonl", tmp_path / "in.jsonl"))


def test_a_batch_answer_may_call_tools_and_be_asked_with_results(tmp_path: Path) -> None:
    choice = {"finish_reason": "tool_calls", "message": {"role": "assistant", "tool_calls": [CALL]}}
    item = batch(tmp_path, "/v1/chat/completions", {"messages": MESSAGES[:3]}, {"choices": [choice]})
    assert item.prompt == (Turn("user", "2 + 2?"), *TRACE[:2])
    assert item.responses == (TRACE[:1],)


def test_a_batch_of_responses_keeps_its_calls(tmp_path: Path) -> None:
    output = [
        {"type": "reasoning", "summary": []},
        {"type": "web_search_call", "id": "w", "status": "completed", "action": {"query": "2 + 2"}},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "[2, 2]"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Wait."}]},
    ]
    item = batch(tmp_path, "/v1/responses", {"input": "2 + 2?"}, {"output": output, "status": "completed"})
    shown = [(part.what, part.text) for part in parts(item.responses[0])]
    assert shown == [
        ("tool call 1", 'name: web_search\narguments: {"action": {"query": "2 + 2"}}'),
        ("tool call 2", "name: add\narguments: [2, 2]"),
        ("assistant", "Wait."),
    ]


def span(kind: str, name: str, inputs: Any, outputs: Any) -> dict[str, Any]:
    fields = {"spanType": kind, "spanInputs": inputs, "spanOutputs": outputs}
    return {"name": name, "attributes": {f"mlflow.{key}": json.dumps(value) for key, value in fields.items()}}


def traced(tmp_path: Path, *spans: Any) -> Item:
    person = {"source_type": "HUMAN", "source_id": "ann"}
    label = {"assessment_name": "ok", "source": person, "feedback": {"value": True}}
    info = {"trace_id": "t", "assessments": [label]}
    return only(parse(tmp_path / "set", document(tmp_path, [{"info": info, "data": {"spans": spans}}])))


def test_mlflow_shows_tools_and_passages_of_spans(tmp_path: Path) -> None:
    documents = [{"page_content": "Two and two are four.", "metadata": {"source": "sums"}}]
    item = traced(
        tmp_path,
        span("AGENT", "answer", {"question": "2 + 2?"}, "Four."),
        span("RETRIEVER", "find", {"query": "2 + 2"}, documents),
        span("TOOL", "add", {"a": 2, "b": 2}, 4),
    )
    assert item.prompt == "2 + 2?"
    assert item.context == ("sums\nTwo and two are four.",)
    assert [part.text for part in parts(item.responses[0])] == [
        'name: add\narguments: {"a": 2, "b": 2}',
        "4",
        "Four.",
    ]


def test_mlflow_shows_the_messages_of_a_chat(tmp_path: Path) -> None:
    item = traced(tmp_path, span("AGENT", "a", {"messages": MESSAGES[:1]}, {"messages": MESSAGES}))
    assert (item.prompt, item.responses) == ("2 + 2?", (TRACE,))


def test_pairs_for_training_may_differ_in_their_calls(tmp_path: Path) -> None:
    worse = [*MESSAGES[:1], {"role": "assistant", "content": "5"}]
    row = {"chosen": MESSAGES, "rejected": worse, "tools": [{"name": "add"}]}
    parsed = parse_rows(tmp_path, row)
    item = only(parsed)
    assert item.prompt == (Turn("system", 'Tools:\n[{"name": "add"}]'), Turn("user", "2 + 2?"))
    label = "AB"[item.responses.index(TRACE)]
    assert sorted(map(str, item.responses)) == sorted(map(str, (TRACE, "5")))
    assert [*parsed.annotations.values()] == [label]


@pytest.mark.parametrize(
    ("value", "call"),
    [
        ('{"name": "add", "arguments": {"a": 2}}', ToolCall("add", '{"a": 2}')),
        ("add(2", ToolCall("function_call", "add(2")),
    ],
)
def test_llama_factory_calls_are_calls(value: str, call: ToolCall, tmp_path: Path) -> None:
    talk = [
        {"from": "human", "value": "2 + 2?"},
        {"from": "function_call", "value": value},
        {"from": "observation", "value": "4"},
        {"from": "gpt", "value": "Four."},
    ]
    item = only(parse_rows(tmp_path, {"messages": talk, "label": True}))
    assert item.responses == (
        (Turn("assistant", "", (call,)), Turn("tool", "4"), Turn("assistant", "Four.")),
    )


def test_deepeval_shows_tools_and_passages(tmp_path: Path) -> None:
    tool = {"name": "add", "inputParameters": {"a": 2}, "output": 4}
    metric = {"name": "Faithfulness", "success": True, "score": 1.0, "threshold": 0.5}
    case = {"name": "n", "input": "2 + 2?", "actualOutput": "Four.", "metricsData": [metric]}
    case |= {"toolsCalled": [tool], "retrievalContext": ["Two and two are four."]}
    item = only(parse(tmp_path / "set", document(tmp_path, {"testCases": [case]})))
    assert item.context == ("Two and two are four.",)
    assert [part.what for part in parts(item.responses[0])] == [
        "tool call 1",
        "result of tool call 1",
        "assistant",
    ]


# ── rows with columns ──────────────────────────────────────────────────────────────────────────────


def imported(tmp_path: Path, name: str, text: str, columns: str) -> Item:
    (tmp_path / name).write_text(text)
    (tmp_path / "columns.toml").write_text(columns)
    import_files([tmp_path / name], tmp_path / "set", columns=tmp_path / "columns.toml")
    (row,) = read_rows(tmp_path / "set" / "items.jsonl", Item).rows
    return row.record


FOUND = '[import]\ncontext = "found"\n'
LANGSMITH = """[import]
prompt = "inputs.question"
responses = ["outputs.messages"]
context = "outputs.documents"
"""


def test_rows_with_messages_and_documents_inside(tmp_path: Path) -> None:
    documents = [{"page_content": "Two.", "metadata": {"source": "sums"}}, "Four."]
    row = {"inputs": {"question": "2 + 2?"}, "outputs": {"messages": MESSAGES, "documents": documents}}
    item = imported(tmp_path, "rows.jsonl", json.dumps(row), LANGSMITH)
    assert (item.prompt, item.responses, item.context) == ("2 + 2?", (TRACE,), ("sums\nTwo.", "Four."))


@pytest.mark.parametrize(
    ("cell", "prompt", "context"),
    [
        ('"[""One."", {""text"": ""Two.""}]"', "Q", ("One.", "Two.")),
        ("One text.", "Q\n\nOne text.", ()),
        ("[1] as cited", "Q\n\n[1] as cited", ()),
        ("[]", "Q", ()),
    ],
)
def test_a_cell_holds_a_text_or_a_list_of_passages(
    cell: str, prompt: str, context: tuple[str, ...], tmp_path: Path
) -> None:
    item = imported(tmp_path, "t.csv", f"prompt,response,found\nQ,x,{cell}\n", FOUND)
    assert (item.prompt, item.context) == (prompt, context)


def test_a_passage_without_text_costs_its_row(tmp_path: Path) -> None:
    row = {"prompt": "Q", "response": "x", "found": [{"a": 1}]}
    with pytest.raises(DataError, match=r"found\.0 is a passage without text"):
        imported(tmp_path, "t.jsonl", json.dumps(row), FOUND)
