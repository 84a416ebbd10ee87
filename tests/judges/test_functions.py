"""A user's function as a judge: every kind of return, every way to fail, and nothing imported too early."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.projects import calibrate, run, simulated, write_project
from trustescalate.analysis.checks import inspect_project
from trustescalate.analysis.dry_run import estimate_run
from trustescalate.config import parse_config
from trustescalate.errors import CertificateMismatch, ConfigError
from trustescalate.judges.functions import FunctionBackend, FunctionJudge, read_answer
from trustescalate.project import Project
from trustescalate.records import FAILURES, Item, Task, TaskKind, Turn, Vote
from trustescalate.records.progress import Hooks
from trustescalate.records.votes import all_votes

PAIR = Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B", "tie"))
CHOICE = Task(TaskKind.CHOICE, "Which?", ("x", "y"))
ITEM = Item("q1", "Which is longer?", ("short", "much longer"), group="g", meta={"n": 1})
TURNS = Item("q2", (Turn("user", "Hi"), Turn("assistant", "Hello")), ("a", "b"), "the reference")

FILE = """\
import helper_of_mine

def longer(item):
    a, b = item["responses"]
    return 0.5 if len(a) == len(b) else 0.6 if len(a) > len(b) else 0.4

async def later(item):
    return {"A": 0.25, "B": 0.5}

NUMBER = 5
"""


def votes(
    function: Callable[..., Any], item: Item = ITEM, *, task: Task = PAIR, swap: bool = True, **more: Any
) -> tuple[Vote, ...]:
    async def ask() -> tuple[Vote, ...]:
        backend = FunctionBackend(function=function, version="1", **more)
        judge = FunctionJudge("f", "print", task, backend.complete, swap=swap)
        try:
            return (await judge.judge(item, all_votes)).votes
        finally:
            await backend.close()

    return asyncio.run(ask())


def test_it_gets_the_item_as_plain_values_of_its_own() -> None:
    seen: list[dict[str, Any]] = []

    def judge(item: dict[str, Any]) -> str:
        seen.append({**item, "responses": [*item["responses"]]})
        item["responses"].clear()
        return "A"

    votes(judge)
    assert seen[0] == {
        "id": "q1", "prompt": "Which is longer?", "responses": ["short", "much longer"], "reference": None,
        "group": "g", "meta": {"n": 1},
    }  # fmt: skip
    assert seen[1]["responses"] == ["much longer", "short"]
    votes(judge, TURNS)
    assert seen[2]["prompt"] == [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    assert seen[2]["reference"] == "the reference"


def test_the_order_is_undone() -> None:
    first, second = votes(lambda item: {"A": 0.7, "B": 0.2, "tie": 0.1})
    assert (first.order, dict(first.probs)) == ("AB", {"A": 0.7, "B": 0.2, "tie": 0.1})
    assert (second.order, dict(second.probs)) == ("BA", {"A": 0.2, "B": 0.7, "tie": 0.1})
    assert [vote.order for vote in votes(lambda item: "A", swap=False)] == ["AB"]
    assert [vote.order for vote in votes(lambda item: "x", Item("q", "?", ("r",)), task=CHOICE)] == [""]


async def _later(item: dict[str, Any]) -> float:
    await asyncio.sleep(0)
    return 0.75


class Called:
    """Not a function, and good enough."""

    def __call__(self, item: dict[str, Any]) -> dict[str, float]:
        return {"B": 1}


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda item: "B", (0.0, 1.0, 0.0)),
        (lambda item: {"tie": 1}, (0.0, 0.0, 1.0)),
        (lambda item: 0.75, (0.75, 0.25, 0.0)),
        (lambda item: 1, (1.0, 0.0, 0.0)),
        (_later, (0.75, 0.25, 0.0)),
        (lambda item: _later({**item}), (0.75, 0.25, 0.0)),
        (Called(), (0.0, 1.0, 0.0)),
    ],
)
def test_every_documented_return_is_a_vote(function: Any, expected: tuple[float, ...]) -> None:
    (vote,) = votes(function, swap=False)
    assert (vote.failure, tuple(vote.probs[label] for label in PAIR.labels)) == (None, expected)
    assert (vote.usage.calls, vote.channel) == (1, "logprobs")


def test_numbers_of_numpy_are_numbers() -> None:
    import numpy as np

    (vote,) = votes(lambda item: {"A": np.float32(0.5), "B": np.float64(0.25)}, swap=False)
    assert dict(vote.probs) == {"A": 0.5, "B": 0.25, "tie": 0.0}


def _raise(item: dict[str, Any]) -> str:
    raise RuntimeError("sk-secret in an address")


@pytest.mark.parametrize(
    ("function", "failure"),
    [
        (_raise, "raised"),
        (lambda item: item["no such key"], "raised"),
        (lambda item: None, "none"),
        (lambda item: "C", "bad_return"),
        (lambda item: "a", "bad_return"),
        (lambda item: True, "bad_return"),
        (lambda item: 1.5, "bad_return"),
        (lambda item: -0.1, "bad_return"),
        (lambda item: float("nan"), "bad_return"),
        (lambda item: object(), "bad_return"),
        (lambda item: ["A"], "bad_return"),
        (lambda item: {}, "bad_return"),
        (lambda item: {"A": 0.9, "B": 0.9}, "bad_return"),
        (lambda item: {"A": -1, "B": 1}, "bad_return"),
        (lambda item: {"A": 0, "B": 0}, "bad_return"),
        (lambda item: {"A": 1, "C": 0}, "bad_return"),
        (lambda item: {"A": "1"}, "bad_return"),
        (lambda item: {"A": True}, "bad_return"),
        (lambda item: {1: 1}, "bad_return"),
    ],
)
def test_whatever_else_it_does_is_a_failed_vote(function: Any, failure: str) -> None:
    for vote in votes(function):
        assert (vote.failure, dict(vote.probs)) == (failure, {})
        assert vote.failure in FAILURES
        assert "secret" not in vote.raw


def test_a_raised_error_says_where_and_not_what() -> None:
    (vote, _) = votes(_raise)
    assert vote.raw.startswith("RuntimeError at test_functions.py:")


def test_one_number_is_no_answer_where_labels_have_no_first() -> None:
    (vote,) = votes(lambda item: 0.5, Item("q", "?", ("r",)), task=CHOICE)
    assert vote.failure == "bad_return"
    assert read_answer(Task(TaskKind.BINARY, "?", ("yes", "no")), "0.25") == {"yes": 0.25, "no": 0.75}


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_call_that_takes_too_long_is_a_failed_vote(asynchronous: bool) -> None:
    async def slow(item: dict[str, Any]) -> str:
        await asyncio.sleep(5)
        return "A"

    def sleepy(item: dict[str, Any]) -> str:
        time.sleep(0.3)
        return "A"

    began = time.monotonic()
    said = votes(slow if asynchronous else sleepy, timeout=0.05)
    assert [vote.failure for vote in said] == ["timeout"] * 2
    assert time.monotonic() - began < 4


def test_no_more_calls_at_a_time_than_told_and_the_loop_goes_on() -> None:
    active, peak, ticks = 0, 0, 0

    def judge(item: dict[str, Any]) -> str:
        nonlocal active, peak
        active += 1
        peak = max(peak, active)
        time.sleep(0.02)
        active -= 1
        return "A"

    async def many() -> None:
        nonlocal ticks
        backend = FunctionBackend(function=judge, version="1", concurrency=3)
        asked = FunctionJudge("f", "print", PAIR, backend.complete, swap=False)
        work = asyncio.gather(*(asked.judge(Item(str(i), "?", ("a", "b")), all_votes) for i in range(12)))
        while not work.done():
            ticks += 1
            await asyncio.sleep(0.002)
        await backend.close()

    asyncio.run(many())
    assert (peak, ticks > 10) == (3, True)


# ── in a project ─────────────────────────────────────────────────────────────────────────────────

JUDGES = """[[judges]]
name = "mine"
backend = "callable"
function = "my_judges:longer"
version = "1"
""" + simulated("large", "M")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "my_judges.py").write_text(FILE)
    (tmp_path / "helper_of_mine.py").write_text("")
    return write_project(tmp_path, JUDGES, alpha=0.45)


def test_a_function_beside_the_configuration_is_a_tier(config: Path) -> None:
    certificate = calibrate(config)
    assert certificate.judges[0].judge == "mine"
    assert certificate.diagnostics[0].failures == {}
    assert {row.judge for row in run(config).judgments} <= {"mine", "large"}


def test_another_version_or_another_source_is_another_judge(config: Path, tmp_path: Path) -> None:
    calibrate(config)
    text = config.read_text()
    config.write_text(text.replace('version = "1"', 'version = "2"'))
    with pytest.raises(CertificateMismatch, match="fingerprint of mine"):
        run(config)
    config.write_text(text.replace('version = "1"\n', 'version = "1"\nconcurrency = 2\ntimeout = 9\n', 1))
    run(config)
    config.write_text(text)
    source = tmp_path / "my_judges.py"
    source.write_text(FILE.replace("0.6", "0.7"))
    with pytest.raises(CertificateMismatch, match="fingerprint of mine"):
        run(config)


def test_nothing_of_the_users_is_imported_by_check_or_a_dry_run(config: Path, tmp_path: Path) -> None:
    (tmp_path / "my_judges.py").write_text("raise SystemExit('imported')")
    assert inspect_project(Project.open(config).config).facts
    estimates = asyncio.run(estimate_run(Project.open(config).config)).estimates
    assert next(row.calls for row in estimates if row.judge == "mine") > 0


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("my_judges:gone", "AttributeError"),
        ("no_such_module:judge", "ModuleNotFoundError"),
        ("my_judges:NUMBER", "is no function"),
    ],
)
def test_a_function_that_cannot_be_had_is_a_config_error(config: Path, function: str, said: str) -> None:
    config.write_text(config.read_text().replace("my_judges:longer", function))
    with pytest.raises(ConfigError, match=said) as caught:
        calibrate(config)
    assert "my_judges.py" in caught.value.hint or "no_such_module" in caught.value.hint


@pytest.mark.parametrize(
    "function", ["my_judges", "my_judges:", ":f", "../x:f", "a-b:f", "os.path:join:x", "f()"]
)
def test_what_is_no_name_of_a_function_is_refused_when_read(function: str) -> None:
    judge = {"name": "f", "backend": "callable", "function": function, "version": "1"}
    with pytest.raises(ConfigError, match="module:name"):
        parse_config({"version": 1, "judges": [judge]}, Path("t.toml"))


def test_a_version_must_be_given() -> None:
    judge = {"name": "f", "backend": "callable", "function": "a:b"}
    with pytest.raises(ConfigError, match="version is missing"):
        parse_config({"version": 1, "judges": [judge]}, Path("t.toml"))


def test_a_library_user_hands_over_the_function_itself(config: Path, tmp_path: Path) -> None:
    (tmp_path / "my_judges.py").unlink()
    asked: list[str] = []

    def mine(item: dict[str, Any]) -> float:
        asked.append(item["id"])
        return 0.5 + 0.4 * (len(item["responses"][0]) > len(item["responses"][1]))

    project = Project.open(config, Hooks(functions={"mine": mine}))
    certificate = asyncio.run(project.calibrate())
    assert len(asked) >= 2 * certificate.n
    seen = len(asked)
    asyncio.run(Project.open(config, Hooks(functions={"mine": mine})).calibrate())
    assert len(asked) == seen, "what was answered is cached"
