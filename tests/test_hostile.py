"""Texts, names and replies that mean harm: a verdict is read from the reply alone, nothing comes alive."""

import asyncio
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from tests.support.endpoints import judges as openai_judges
from tests.support.hostile import ALIVE, FORGED, UNSAFE
from tests.support.projects import Calls, simulated, write_project
from tests.support.servers import Body, Canned, FaultServer, completion
from trustescalate.cli import app
from trustescalate.project import Project
from trustescalate.records import Reply, Request, Run, Token, Usage

pytestmark = pytest.mark.slow


def reply(text: str, probs: Mapping[str, float] | None = None) -> Reply:
    top = tuple((word, math.log(p)) for word, p in (probs or {text: 0.9}).items())
    return Reply(text, (Token(text, top),), "stop", Usage(1, 100, 0, 1))


def number(request: Request) -> int:
    """The item that is asked about: prompts are `question <n>`, the only thing that this model reads."""
    return int(re.findall(r"\]\nquestion (\d+)\n", request.messages[-1].content)[0])


def numbered(texts: Sequence[str]) -> Callable[[list[dict[str, Any]], list[dict[str, Any]]], None]:
    """Items whose responses hold these texts in turn; odd ones are B, even ones A."""

    def change(items: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
        place = {item["id"]: n for n, item in enumerate(items)}
        for n, item in enumerate(items):
            item.pop("group", None)
            item["prompt"] = f"question {n}"
            item["responses"] = [f"{texts[n % len(texts)]} {n}", f"{texts[(n + 3) % len(texts)]} {-n}"]
        for note in notes:
            note["label"] = "AB"[place[note["item_id"]] % 2]

    return change


def used_tools(texts: Sequence[str]) -> Callable[[list[dict[str, Any]], list[dict[str, Any]]], None]:
    """The same items as traces: the texts are the names, arguments and results of tools, and passages."""
    number_them = numbered(["fine"])

    def change(items: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
        number_them(items, notes)
        for n, item in enumerate(items):
            text = texts[n % len(texts)]
            call = {"id": text, "type": "function", "function": {"name": text, "arguments": text}}
            used = [{"role": "assistant", "content": None, "tool_calls": [call]}]
            used += [{"role": "tool", "tool_call_id": who, "content": text} for who in (text, "nobody")]
            item["responses"] = [
                [*used, {"role": "assistant", "content": said}] for said in item["responses"]
            ]
            item["context"] = [text, {"title": text, "text": text}]

    return change


ONE = simulated("judge", "M")


def judged(folder: Path, texts: Sequence[str], change: Any = numbered) -> Run:
    project = Project.open(write_project(folder, ONE, change=change(texts), ensemble="swap = false"))
    certificate = asyncio.run(project.calibrate())
    assert certificate.status == "certified", certificate.reason
    return asyncio.run(project.run())


# ── forged verdicts ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


def test_what_a_response_says_is_never_read_as_a_verdict(tmp_path: Path, calls: Calls) -> None:
    calls.then = lambda request: reply("AB"[number(request) % 2])
    plain, forged = judged(tmp_path / "plain", ["fine"]), judged(tmp_path / "forged", FORGED)
    assert [(d.label, d.score, d.reason) for d in plain.decisions] == [
        (d.label, d.score, d.reason) for d in forged.decisions
    ]
    assert {decision.label for decision in forged.decisions} == {"A", "B"}


def test_what_a_tool_or_a_passage_says_is_never_read_as_a_verdict(tmp_path: Path, calls: Calls) -> None:
    calls.then = lambda request: reply("AB"[number(request) % 2])
    plain, forged = judged(tmp_path / "plain", ["fine"]), judged(tmp_path / "forged", FORGED, used_tools)
    assert [(d.label, d.score, d.reason) for d in plain.decisions] == [
        (d.label, d.score, d.reason) for d in forged.decisions
    ]


def test_no_text_holds_its_own_closing_mark(tmp_path: Path, calls: Calls) -> None:
    calls.then = lambda request: reply("AB"[number(request) % 2])
    judged(tmp_path, FORGED)
    for _, request in calls.asked:
        for message in request.messages[1::2]:
            tag = re.match(r"\[prompt ([0-9a-f]{16})\]", message.content)
            assert tag is not None
            assert len(re.findall(rf"\[end response [AB] {tag[1]}\]", message.content)) == 2


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[[A]] or rather [[B]]", "none"),
        ("A\nB", "multiple"),
        ("Both are fine.", "none"),
        ("", "none"),
        ("The first one, I should think.", "none"),
    ],
)
def test_a_reply_without_exactly_one_verdict_is_invalid_and_escalates(
    tmp_path: Path, calls: Calls, text: str, code: str
) -> None:
    def then(request: Request) -> Reply:
        n = number(request)
        return reply(text, {text or "x": 0.9}) if n >= 110 else reply("AB"[n % 2])

    calls.then = then
    run = judged(tmp_path, ["fine"])
    last = [
        decision for decision, item in zip(run.decisions, run.items, strict=True) if _n(item.prompt) >= 110
    ]
    assert len(last) == 20
    for decision in last:
        assert decision.label is None
        assert decision.trail[0].failures == (code,)
        assert code in decision.reason
    assert all(d.label for d in run.decisions if d not in last)


def _n(prompt: object) -> int:
    return int(str(prompt).removeprefix("question "))


# ── texts that would come alive ──────────────────────────────────────────────────────────────────


def poisoned(items: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
    """Every text, id and annotator is hostile."""
    names: dict[str, str] = {}
    for n, item in enumerate(items):
        bad = ALIVE[n % len(ALIVE)]
        names[item["id"]] = item["id"] = f"{bad}{n}"
        item["prompt"] = f"{bad} {n}"
        item["responses"] = [f"{bad} first {n}", f"second {bad}"]
        item["group"] = f"{bad} {n}"
    ids = [item["id"] for item in items]
    old = list(dict.fromkeys(note["item_id"] for note in notes))
    for note in notes:
        note["item_id"] = ids[old.index(note["item_id"])]
        note["annotator"] += ALIVE[len(note["annotator"]) % len(ALIVE)]
        note["label"] = "A"


def test_hostile_texts_are_inert_in_the_terminal_and_in_every_page(tmp_path: Path, calls: Calls) -> None:
    def then(request: Request) -> Reply:
        n = int(re.findall(r" (\d+)\n\[end prompt", request.messages[-1].content)[-1])
        return reply(ALIVE[n % len(ALIVE)] if n == 100 else "A")

    calls.then = then
    config = write_project(
        tmp_path, ONE, change=poisoned, ensemble="swap = false", alpha=0.4, min_agreement=0.5
    )
    output = ""
    for command in ("check", "calibrate", "run", "report", "gate"):
        result = CliRunner().invoke(app, [command, "--config", str(config)])
        assert result.exit_code == 0, result.output
        output += result.stdout + result.stderr
    assert UNSAFE.search(output) is None
    assert "\nerror: forged" not in output
    assert output.count("\ngate: pass") == 1
    (folder,) = (path for path in (tmp_path / "runs").iterdir() if path.is_dir())
    page = (folder / "report.md").read_text(encoding="utf-8")
    assert "Items: human review queue" in page
    for text in (page, (folder / "junit.xml").read_text(encoding="utf-8")):
        assert UNSAFE.search(text) is None
        assert not re.search(r"<script|<img|onerror=alert\(1\)>|\]\(javascript", text)
        assert "\nerror: forged" not in text
        assert "49" not in re.findall(r"7 \* 7", text)
    ElementTree.parse(folder / "junit.xml")
    assert not re.search(r"^[ |]*[=+@-](cmd|SUM|1)", page, re.MULTILINE)


def test_hostile_rows_are_named_safely_when_they_are_wrong(tmp_path: Path) -> None:
    def change(items: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
        poisoned(items, notes)
        for item in items:
            item["responses"] = item["responses"][:1]
        for note in notes:
            note["label"] = ALIVE[len(note["item_id"]) % len(ALIVE)]

    config = write_project(tmp_path, ONE, change=change)
    result = CliRunner().invoke(app, ["check", "--config", str(config)])
    assert result.exit_code == 2
    assert "items.jsonl:1: item " in result.stderr
    assert UNSAFE.search(result.output) is None
    assert "\nerror: forged" not in result.stderr


# ── a key that must not get out ──────────────────────────────────────────────────────────────────

CANARY = "sk-canary-0123456789abcdef"


def echoing(body: Body, nth: int) -> Canned | None:
    """Every third request is refused with the key in the server's words."""
    words = f"bad request with Authorization: Bearer {CANARY}"
    if len(body["messages"][-1]["content"]) % 3 == 0:
        return Canned(400, {"error": {"message": words, "code": CANARY, "param": CANARY}})
    if len(body["messages"][-1]["content"]) % 3 == 1 and nth == 1:
        return Canned(500, words, {"x-key": CANARY})
    return None


def chatty(body: Body, nth: int) -> Canned | None:
    """A model that repeats the key in its reply, as text and as a token."""
    if len(body["messages"][-1]["content"]) % 3:
        return None
    answer = completion(body, {"A": 0.9})
    answer["choices"][0]["message"]["content"] = f"{CANARY}\nA"
    piece = {"token": CANARY, "logprob": -0.1, "top_logprobs": [{"token": CANARY, "logprob": -0.1}]}
    answer["choices"][0]["logprobs"]["content"].insert(0, piece)
    return Canned(200, answer)


def leaks(
    folder: Path, plan: Callable[[Body, int], Canned | None], monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """List the places that hold the key after every command, the output included."""
    monkeypatch.setenv("JUDGE_KEY", CANARY)
    output = ""
    with FaultServer(lambda body: {"A": 0.95, "B": 0.02}, plan) as server:
        more = {"api_key_env": "JUDGE_KEY", "attempts": 3}
        config = write_project(
            folder,
            openai_judges(server, **more),
            change=_all_a,
            alpha=0.45,
            ensemble="swap = false",
            labelled=60,
        )
        for command in ("check", "calibrate", "run", "report", "gate"):
            for flags in ([], ["--json"]):
                result = CliRunner().invoke(app, ["--debug", command, *flags, "--config", str(config)])
                assert result.exit_code in (0, 3), result.output
                output += result.output
        assert any(CANARY in header.get("authorization", "") for header in server.stats.headers)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".json", ".jsonl", ".html", ".md", ".xml", ".sqlite", ".toml"}
    leaked = [str(path.relative_to(folder)) for path in files if CANARY.encode() in path.read_bytes()]
    return leaked + (["the terminal"] if CANARY in output else [])


def _all_a(items: Sequence[Any], notes: list[dict[str, Any]]) -> None:
    for note in notes:
        note["label"] = "A"


def test_a_key_echoed_in_errors_is_written_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert leaks(tmp_path, echoing, monkeypatch) == []


def test_a_key_echoed_in_replies_is_written_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert leaks(tmp_path, chatty, monkeypatch) == []


def test_half_a_character_in_a_reply_is_no_crash(tmp_path: Path) -> None:
    def plan(body: Body, nth: int) -> Canned | None:
        if len(body["messages"][-1]["content"]) % 3:
            return None
        answer = completion(body, {"A": 0.9})
        answer["choices"][0]["message"]["content"] = "A \ud83d"
        return Canned(200, json.dumps(answer))

    with FaultServer(lambda body: {"A": 0.95, "B": 0.02}, plan) as server:
        config = write_project(tmp_path, openai_judges(server), change=_all_a, alpha=0.45, labelled=60)
        assert asyncio.run(Project.open(config).calibrate()).n > 20
