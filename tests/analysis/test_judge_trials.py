"""`judges try` and `check --ping`: what is shown of one question, and the cause where there is no answer."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import cli
from tests.support.criteria import SCALES, direct, openai_judge, write_criteria
from tests.support.decision_server import DecisionServer
from tests.support.endpoints import PathServer
from tests.support.projects import simulated, write_project
from tests.support.servers import Body, Canned, FaultServer, completion

pytestmark = pytest.mark.slow
MODELS = {"object": "list", "data": [{"id": "qwen-7b"}, {"id": "llama-8b"}]}
NOT_FOUND = Canned(404, {"error": {"message": "not found", "type": "not_found_error"}})
UNHELD = Canned(400, {"error": {"message": "response_format is not supported"}})


def judge(url: str, **more: Any) -> str:
    fields = {
        "name": "small",
        "backend": "openai",
        "model": "qwen-7b",
        "base_url": url,
        "timeout": 5.0,
        **more,
    }
    return "[[judges]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items())


def good(body: Body, text: str = "") -> Canned:
    answer = completion(body, {"A": 0.7, "B": 0.2})
    if text:
        answer["choices"][0] |= {"message": {"content": text}, "logprobs": None}
    return Canned(200, answer)


def routed(text: str = "") -> Callable[[str, str, Body], Canned]:
    """A server with two models under /v1, and nothing elsewhere."""

    def answer(method: str, path: str, body: Body) -> Canned:
        if (method, path) == ("GET", "/v1/models"):
            return Canned(200, MODELS)
        known = body.get("model") in ("qwen-7b", "llama-8b")
        return good(body, text) if (method, path) == ("POST", "/v1/chat/completions") and known else NOT_FOUND

    return answer


def pinged(tmp_path: Path, *judges: str, **environment: str) -> Any:
    return cli("check", "--ping", "--config", write_project(tmp_path, "".join(judges)), **environment)


# ── check --ping ─────────────────────────────────────────────────────────────────────────────────


def test_a_ping_asks_each_judge_once_past_the_cache(tmp_path: Path) -> None:
    with PathServer(routed()) as server:
        config = write_project(tmp_path, judge(server.url) + simulated("large", "M"))
        results = [cli("check", "--ping", "--config", config) for _ in range(2)]
        plain = cli("check", "--config", config)
    assert [result.exit_code for result in (*results, plain)] == [0, 0, 0]
    assert server.paths == ["POST /v1/chat/completions"] * 2
    assert "asking 2 judges one question each, at their price" in results[0].stderr
    (row,) = re.findall(r"\n  small .*", results[0].stdout)
    assert row.split()[:4] == ["small", "ok", "yes", "—"]


CAUSES: list[tuple[str, dict[str, Any], str, str]] = [
    ("{root}", {}, "no such model or address (HTTP 404)", 'add /v1 to base_url: base_url = "{url}"'),
    ("{url}/chat/completions", {}, "(HTTP 404)", "leave /chat/completions out of base_url"),
    ("{url}", {"model": "qwen"}, "(HTTP 404)", "no such model 'qwen'; the server has: qwen-7b, llama-8b"),
    ("http://127.0.0.1:9/v1", {}, "connection refused: nothing listens at http://127.0.0.1:9/v1", "base_url"),
    ("http://no-such-host.invalid/v1", {}, "DNS: the host of http://no-such-host.invalid/v1", "base_url"),
    ("https{tail}", {}, "TLS: https{tail} does not speak https; try http://", "base_url"),
    ("{url}", {"api_key_env": "NO_SUCH_KEY"}, "the environment variable NO_SUCH_KEY is not set", "export"),
]


@pytest.mark.parametrize(("base", "more", "cause", "hint"), CAUSES, ids=[case[0] for case in CAUSES])
def test_a_ping_names_the_cause_and_the_fix(
    tmp_path: Path, base: str, more: dict[str, Any], cause: str, hint: str
) -> None:
    with PathServer(routed()) as server:
        places = {"url": server.url, "root": server.root, "tail": server.url.removeprefix("http")}
        small, trusted = judge(base.format(**places), **more), {"TRUSTESCALATE_TRUST": "1"}
        result = pinged(tmp_path, small, simulated("large", "M"), **trusted)
    assert result.exit_code == 3
    assert cause.format(**places) in result.stdout
    assert hint.format(**places) in result.stdout
    assert re.search(r"\n  large +ok ", result.stdout), "another judge is asked all the same"


@pytest.mark.parametrize("listed", ["other", "qwen-7b", "models/qwen-7b", "qwen-7b:latest", ""])
def test_a_ping_notes_an_answer_under_a_name_that_is_not_listed(tmp_path: Path, listed: str) -> None:
    """A server of one model answers to every name, and repeats it (llama-cpp-python 0.3.36)."""

    def answer(method: str, path: str, body: Body) -> Canned:
        if method == "GET":
            return Canned(200, {"object": "list", "data": [{"id": listed}] if listed else []})
        reply = good(body)
        reply.body["model"] = body["model"]
        return reply

    with PathServer(answer) as server:
        result = pinged(tmp_path, judge(server.url, model="qwen-7b"), simulated("large", "M"))
    assert result.exit_code == 0
    note = "answers as 'qwen-7b', which it does not list; the server has: other"
    assert (note in " ".join(result.stdout.split())) is (listed == "other")


@pytest.mark.parametrize("command", [("check", "--ping"), ("judges", "try")])
def test_a_host_that_is_not_trusted_is_not_asked(
    tmp_path: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def asked(table: object) -> str:
        raise AssertionError(table)

    monkeypatch.setattr("trustescalate.analysis.judge_trials.advise", asked)
    config = write_project(tmp_path, judge("http://no-such-host.invalid/v1"))
    result = cli(*command, "--config", config)
    assert result.exit_code == 2
    assert "sends texts to http://no-such-host.invalid" in result.stderr


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (
            Canned(401, {"error": {"message": "bad sk-secret"}}),
            "the key is missing or refused (HTTP 401)",
        ),
        (Canned(200, "<html>Welcome</html>"), "answer cannot be read (HTML, broken JSON"),
        (Canned(400, {"error": {"message": "System role not supported"}}), "System role not supported"),
        (Canned(500, {"error": {"message": "CUDA out of memory"}}), "CUDA out of memory"),
    ],
)
def test_a_ping_repeats_what_the_server_says(tmp_path: Path, answer: Canned, cause: str) -> None:
    with PathServer(lambda *_: answer) as server:
        result = pinged(tmp_path, judge(server.url, api_key_env="A_KEY"), A_KEY="sk-secret")
    assert result.exit_code == 3
    assert cause in result.stdout
    assert "sk-secret" not in result.output
    assert server.paths.count("POST /v1/chat/completions") <= 3


def test_a_ping_says_what_an_endpoint_lacks(tmp_path: Path) -> None:
    text = json.dumps({"reasoning": "It is sound.", "verdict": "A"})

    def answer(method: str, path: str, body: Body) -> Canned:
        return UNHELD if "response_format" in body else good(body, text)

    with PathServer(answer) as server:
        config = write_project(tmp_path, judge(server.url, mode="structured"))
        result = cli("check", "--ping", "--config", config, "--json")
    assert result.exit_code == 0
    (row,) = json.loads(result.stdout)["ping"]["judges"]
    assert (row["channel"], row["schema"], row["problem"]) == ("samples", False, "")
    assert ["response_format" in note or "draws" in note for note in row["notes"]] == [True, True]


# ── judges try ───────────────────────────────────────────────────────────────────────────────────

FORGED = "A\x1b[2J\njudge small (openai): read as: A 1.000"


def test_a_trial_shows_the_prompt_the_reply_and_how_it_is_read(tmp_path: Path) -> None:
    with PathServer(routed(FORGED)) as server:
        config = write_project(tmp_path, judge(server.url, mode="reason") + simulated("large", "M"))
        result = cli("judges", "try", "--config", config, "--judge", "small")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert "\x1b" not in result.stdout
    assert [line for line in lines if line.startswith("judge ")] == [lines[2]]
    assert "      | A␛[2J" in lines
    assert "      | Question: Which response would a human reader prefer?" in lines
    assert lines.count("    read as: no verdict: none (the reply holds no verdict)") == 2
    assert "      | Human verdict: A" in lines or "      | Human verdict: B" in lines
    assert server.paths.count("POST /v1/chat/completions") == 2


@pytest.mark.parametrize("labelled", [True, False])
def test_a_trial_of_one_item_gives_probabilities_and_alternatives(tmp_path: Path, labelled: bool) -> None:
    with PathServer(routed()) as server:
        config = write_project(tmp_path, judge(server.url))
        items = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
        wanted = items[0 if labelled else -1]["id"]
        result = cli("judges", "try", "--config", config, "--item", wanted, "--json")
    shown = json.loads(result.stdout)
    assert shown["item"] == wanted
    first, second = shown["judges"][0]["questions"]
    assert first["vote"]["probs"] == pytest.approx({"A": 0.7, "B": 0.2, "tie": 0.0})
    assert second["vote"]["probs"] == pytest.approx({"A": 0.2, "B": 0.7, "tie": 0.0})
    assert first["alternatives"][0] == ["A", pytest.approx(0.7)]
    assert [message["role"] for message in first["messages"]][::6] == ["system"]
    assert math.isclose(shown["judges"][0]["usd"], 0.0)


def test_a_trial_of_a_decision_model_shows_its_questions_and_who_answered(tmp_path: Path) -> None:
    with DecisionServer() as server:
        table = judge(server.url, backend="decisions")
        config = write_project(tmp_path, table)
        result = cli("judges", "try", "--config", config)
        moved = write_project(tmp_path / "moved", judge(f"{server.url}/decisions", backend="decisions"))
        server.listed = ["m"]
        ping = cli("check", "--ping", "--config", moved)
    assert result.exit_code == 0
    assert "  answered by decider-2026-11-01" in result.stdout
    assert result.stdout.count("      | Question: Which response would a human reader prefer?") == 2
    assert result.stdout.count("      | (choice: A, B, tie)") == 2
    assert server.paths[0] == "POST /v1/decisions"
    assert ping.exit_code == 3
    assert "hint: leave /decisions out of base_url" in ping.stdout


def test_a_trial_needs_a_known_item_and_judge(tmp_path: Path) -> None:
    config = write_project(tmp_path, simulated("large", "M"))
    for wrong in (("--item", "nope"), ("--judge", "nope")):
        result = cli("judges", "try", "--config", config, *wrong)
        assert result.exit_code == 2
        assert "error: there is no " in result.stderr


def test_a_trial_of_a_judge_without_an_answer_ends_with_3(tmp_path: Path) -> None:
    config = write_project(tmp_path, judge("http://127.0.0.1:9/v1", attempts=1))
    result = cli("judges", "try", "--config", config)
    assert result.exit_code == 3
    assert "connection refused" in result.stdout


# ── replies under each failure ───────────────────────────────────────────────────────────────────


def test_calibrate_bench_and_report_show_what_failed_replies_say(tmp_path: Path) -> None:
    def answer(method: str, path: str, body: Body) -> Canned:
        odd = len(body["messages"][-1]["content"]) % 3 == 0
        return good(body, "Both\x1b[2J are\nfine." if odd else "")

    with PathServer(answer) as server:
        config = write_project(tmp_path, judge(server.url, channel="samples") + simulated("large", "M"))
        calibrated = cli("calibrate", "--config", config)
        measured = cli("judges", "bench", "--config", config, "--rows", "certify")
        cli("report", "--config", config)
    for shown in (calibrated, measured):
        (lines,) = re.findall(
            r"(?m)^  small: [\d,]+ of [\d,]+ votes failed: none \(.*\)\n((?:    .*\n)+)", shown.stdout
        )
        assert re.fullmatch(r"    [\w-]+: Both␛\[2J are⏎fine\.\n", lines)
    assert "Both␛[2J are" in (tmp_path / "report.html").read_text(encoding="utf-8")


# ── several criteria ─────────────────────────────────────────────────────────────────────────────


def without_the_second(body: Body, _: int) -> Canned:
    """A line for the first and the last criterion, with their log-probabilities."""
    answer = direct(body)
    (choice,) = answer.body["choices"]
    tokens = choice["logprobs"]["content"]
    tokens[2:4] = []
    choice["message"]["content"] = "".join(token["token"] for token in tokens)
    return answer


def test_a_trial_shows_every_criterion(tmp_path: Path) -> None:
    with FaultServer(plan=without_the_second) as server:
        config = write_criteria(tmp_path, openai_judge(server.url), labelled=4, unlabelled=2)
        result = cli("judges", "try", "--item", "q1", "--config", config)
        plain = json.loads(cli("judges", "try", "--item", "q1", "--config", config, "--json").stdout)
        ping = cli("check", "--ping", "--config", config)
    assert result.exit_code == ping.exit_code == 0
    assert "item q1\n" in result.stdout
    assert re.findall(r"read as: (.*)", result.stdout)[1:2] == [
        "accuracy: no verdict: none (the reply holds no verdict)"
    ]
    assert [line.split(":")[0] for line in re.findall(r"read as: (.*)", result.stdout)] == list(SCALES)
    assert result.stdout.count("    reply:") == 1
    (row,) = plain["judges"]
    votes = [(each["criterion"], each["vote"]["failure"]) for each in row["questions"]]
    assert votes == [("clarity", None), ("accuracy", "none"), ("tone", None)]
    assert row["usd"] == 1.0, "one request"
    assert "none on accuracy" in ping.stdout


def test_a_trial_of_a_decision_model_shows_every_criterion(tmp_path: Path) -> None:
    with DecisionServer() as server:
        table = judge(server.url, backend="decisions")
        config = write_criteria(tmp_path, table, labelled=4, unlabelled=2)
        result = cli("judges", "try", "--config", config)
    assert result.exit_code == 0
    assert [line.split(":")[0] for line in re.findall(r"read as: (.*)", result.stdout)] == list(SCALES)
    assert len(server.bodies) == 1
