"""What survives on disk: the cache, the budget around it, and run folders after a kill."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from trustescalate.errors import BudgetReached, DataError, ProviderError, UsageError
from trustescalate.jsonl import digest, encode
from trustescalate.store import SCHEMA, Budget, Cache, RunFolder, guard, most_usage, request_key
from trustescalate.types import (
    Annotation,
    Certificate,
    Decision,
    Item,
    Judgment,
    Message,
    Reply,
    Request,
    RunHeader,
    Seal,
    Step,
    Task,
    TaskKind,
    Token,
    Usage,
    Vote,
)

REPLY = Reply("A", (Token("A", (("A", -0.1), ("B", float("-inf")))),), "stop", Usage(1, 100, 0, 1))


def request(text: str = "hello", sample: int = 0) -> Request:
    return Request((Message("user", text),), ("A", "B"), 16, 0.0, logprobs=True, sample=sample)


# ── the cache ────────────────────────────────────────────────────────────────────────────────────


def test_a_good_reply_is_kept_and_a_failure_is_not(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "cache.sqlite"
    cache = Cache(path)
    assert cache.get("k") is None
    cache.put("k", REPLY)
    cache.put("f", replace(REPLY, failure="timeout"))
    cache.close()
    again = Cache(path)
    assert again.get("k") == REPLY
    assert again.get("f") is None
    again.close()


def test_a_key_is_the_whole_request_and_the_endpoint() -> None:
    keys = {
        request_key(endpoint, asked)
        for endpoint in ("here", "there")
        for asked in (request(), request("hi"), request(sample=1), replace(request(), temperature=1.0))
    }
    assert len(keys) == 8
    assert request_key("here", request()) == request_key("here", request())


def test_a_file_that_is_no_cache_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    path.write_bytes(b"this is no database, however long it is" * 100)
    with pytest.raises(UsageError, match=r"cache\.sqlite: not a usable cache") as caught:
        Cache(path)
    assert "remove the file" in caught.value.hint
    with pytest.raises(UsageError, match="not a usable cache"):
        Cache(tmp_path)
    with pytest.raises(UsageError, match="not a usable cache"):
        Cache(path / "below" / "cache.sqlite")


def test_a_cache_of_another_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA user_version={SCHEMA + 1}")
    database.close()
    before = path.read_bytes()
    with pytest.raises(UsageError, match=f"a cache of schema {SCHEMA + 1}"):
        Cache(path)
    assert path.read_bytes() == before


def test_a_damaged_row_or_page_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    cache = Cache(path)
    for n in range(200):
        cache.put(f"k{n}", replace(REPLY, text="x" * 200))
    cache.close()
    database = sqlite3.connect(path)
    database.execute("UPDATE replies SET reply = '{' WHERE key = 'k7'")
    database.commit()
    database.close()
    cache = Cache(path)
    with pytest.raises(UsageError, match="not a usable cache"):
        cache.get("k7")
    cache.close()
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    cache = Cache(path)
    with pytest.raises(UsageError, match="not a usable cache"):
        cache.get("k8")
    cache.close()


WRITER = """
import sys
from pathlib import Path
from trustescalate.store import Cache
from trustescalate.types import Reply, Usage
cache = Cache(Path(sys.argv[1]))
for n in range(100):
    cache.put(f"{sys.argv[2]} {n}", Reply(str(n), None, "stop", Usage(1)))
    cache.put(f"all {n}", Reply(str(n), None, "stop", Usage(1)))
cache.close()
"""


def test_processes_share_a_cache(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], stderr=subprocess.PIPE)
        for name in "abcd"
    ]
    assert [writer.communicate(timeout=60)[1] for writer in writers] == [b""] * 4
    cache = Cache(path)
    for name in ("a", "b", "c", "d", "all"):
        assert all((cache.get(f"{name} {n}") or REPLY).text == str(n) for n in range(100))
    cache.close()


# ── the budget ───────────────────────────────────────────────────────────────────────────────────


def price(usage: Usage) -> float:
    return usage.input_tokens / 1e6 + usage.output_tokens / 1e6


class Model:
    """Answers when it is let to, and counts."""

    def __init__(self, reply: Reply = REPLY, error: Exception | None = None) -> None:
        self.reply, self.error, self.calls = reply, error, 0

    async def __call__(self, request: Request) -> Reply:
        self.calls += 1
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        return self.reply


def guarded(
    folder: Path,
    model: Model,
    budget: Budget,
    work: Callable[[Callable[[Request], Awaitable[Reply]]], Awaitable[object]],
) -> object:
    cache = Cache(folder / "cache.sqlite")
    try:
        return asyncio.run(_run(guard(model, "here", price, cache, budget), work))
    finally:
        cache.close()


async def _run(
    ask: Callable[[Request], Awaitable[Reply]],
    work: Callable[[Callable[[Request], Awaitable[Reply]]], Awaitable[object]],
) -> object:
    return await work(ask)


@pytest.mark.parametrize("usd", [0.0, 0.0001, 0.0009, 0.0123, 1.0])
def test_money_is_never_overspent_however_many_ask_at_once(tmp_path: Path, usd: float) -> None:
    used = most_usage(request("000"))
    model, budget = Model(replace(REPLY, usage=used)), Budget(usd=usd)
    results = guarded(
        tmp_path,
        model,
        budget,
        lambda ask: asyncio.gather(*(ask(request(f"{n:03}")) for n in range(100)), return_exceptions=True),
    )
    paid = [result for result in results if isinstance(result, Reply)]  # type: ignore[attr-defined]
    assert len(paid) == model.calls == budget.calls == min(100, int(usd / price(used)))
    assert budget.spent <= usd
    assert all(isinstance(result, Reply | BudgetReached) for result in results)  # type: ignore[attr-defined]


def test_the_budget_of_calls_is_exact_and_the_cache_is_free(tmp_path: Path) -> None:
    model, budget = Model(), Budget(calls=7)

    async def work(ask: Callable[[Request], Awaitable[Reply]]) -> list[object]:
        first = await asyncio.gather(*(ask(request(f"{n}")) for n in range(7)))
        again = await asyncio.gather(*(ask(request(f"{n}")) for n in range(8)), return_exceptions=True)
        return [*first, *again]

    results = guarded(tmp_path, model, budget, work)
    assert [type(result) for result in results] == [Reply] * 14 + [BudgetReached]  # type: ignore[attr-defined]
    assert (model.calls, budget.calls) == (7, 7)
    assert budget.spent == pytest.approx(7 * price(REPLY.usage))


def test_a_request_is_paid_once_also_when_asked_at_the_same_time(tmp_path: Path) -> None:
    model, budget = Model(), Budget()
    guarded(tmp_path, model, budget, lambda ask: asyncio.gather(*(ask(request()) for _ in range(20))))
    guarded(tmp_path, model, budget, lambda ask: ask(request()))
    assert (model.calls, budget.calls) == (1, 1)


def test_a_failure_is_paid_and_asked_again(tmp_path: Path) -> None:
    model, budget = Model(replace(REPLY, failure="refused")), Budget()
    for _ in range(2):
        guarded(tmp_path, model, budget, lambda ask: ask(request()))
    assert model.calls == 2
    assert budget.spent == pytest.approx(2 * price(REPLY.usage))


def test_what_was_set_aside_is_released_when_a_call_raises(tmp_path: Path) -> None:
    most = price(most_usage(request("00")))
    budget = Budget(usd=1.5 * most)
    for n in range(20):
        model = Model(error=ProviderError("down"))
        with pytest.raises(ProviderError):
            guarded(tmp_path, model, budget, lambda ask, n=n: ask(request(f"{n:02}")))
    assert budget.spent == 0
    guarded(tmp_path, Model(), budget, lambda ask: ask(request("xx")))


def test_what_is_set_aside_is_more_than_any_tokenizer_makes_of_a_text() -> None:
    asked = Request((Message("system", "🤔" * 50), Message("user", "é")), ("A",), 16, 0.0, True)
    usage = most_usage(asked)
    assert usage.input_tokens > 4 * 50 + 2
    assert (usage.calls, usage.output_tokens) == (1, 16)


# ── run folders ──────────────────────────────────────────────────────────────────────────────────

ITEMS = [Item(name, f"prompt {name}", ("x", "y")) for name in "abcde"]


def certificate() -> Certificate:
    task = Task(TaskKind.PAIRWISE, "?", ("A", "B"))
    return Certificate(
        **dict.fromkeys(("reason", "advice", "path", "procedure", "prefer", "estimator"), ""),
        **dict.fromkeys(("protocol", "data_digest", "version", "created"), ""), label_policy="majority",
        **dict.fromkeys(("tests", "diagnostics", "assumptions"), ()),
        **dict.fromkeys(("schema", "n", "no_majority", "dropped_ties", "seed"), 0),
        status="certified", alpha=0.1, delta=0.1, claim="population", task=task, chosen=0,
        thresholds=(0.9, 0.8), coverage_lower=0.5, ceiling=None, roles={},
        judges=(Seal("small", "f", "logprobs"), Seal("large", "g", "logprobs")),
    )  # fmt: skip


def create(folder: Path) -> RunFolder:
    header = RunHeader(SCHEMA, "r", "running", "now", "run", {}, certificate(), digest(""), 5, {})
    return RunFolder.create(folder / "r", header, ITEMS)


def rows(item_id: str, *judges: str) -> tuple[list[Judgment], Decision]:
    judgments = [Judgment(item_id, judge, "f", (Vote(0, "AB", {"A": 0.7}),), 1) for judge in judges]
    trail = tuple(Step(judge, "A", 0.7, 0.7, 0.9, False, 1, 1, ()) for judge in judges)
    return judgments, Decision(item_id, None, None, None, "below", trail)


def test_a_run_comes_back_in_the_order_of_its_items(tmp_path: Path) -> None:
    folder = create(tmp_path)
    with folder.writer() as writer:
        for item_id in "dbca":
            writer.record(*rows(item_id, "small", "large"))
    folder.finish("complete")
    again = RunFolder.open(tmp_path / "r")
    run = again.load([Annotation("a", "ann", "A"), Annotation("zz", "ann", "A")])
    assert run.header.status == "complete"
    assert run.items == tuple(ITEMS)
    assert [row.item_id for row in run.decisions] == list("abcd")
    assert [(row.item_id, row.judge) for row in run.judgments] == [
        (item_id, judge) for item_id in "abcd" for judge in ("small", "large")
    ]
    assert [row.item_id for row in run.annotations] == ["a"]
    assert again.decided() == set("abcd")


def test_after_a_kill_at_any_byte_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    folder = create(tmp_path)
    with folder.writer() as writer:
        for item_id in "abc":
            writer.record(*rows(item_id, "small"))
    wanted = folder.load()
    files = [tmp_path / "r" / name for name in ("judgments.jsonl", "decisions.jsonl")]
    whole = [file.read_bytes() for file in files]
    line = [len(data) // 3 for data in whole]
    kills = [(line[0] * 2 + cut, line[1] * 2) for cut in range(0, line[0] + 1, 7)]
    kills += [(line[0] * 3, line[1] * 2 + cut) for cut in range(0, line[1], 7)]
    for kill in kills:
        for file, data, size in zip(files, whole, kill, strict=True):
            file.write_bytes(data[:size])
        assert RunFolder.open(tmp_path / "r").decided() == {"a", "b"}
        assert len(folder.load().judgments) == 2
        with folder.writer() as writer:
            writer.record(*rows("c", "small"))
        assert folder.load() == wanted


def test_judgments_of_an_attempt_that_was_not_finished_are_left_out(tmp_path: Path) -> None:
    folder = create(tmp_path)
    with folder.writer() as writer:
        judgments, _ = rows("a", "small", "large")
        writer.record(judgments, rows("b")[1])
        writer.record(*rows("a", "small"))
    assert [(row.item_id, row.judge) for row in folder.load().judgments] == [("a", "small")]


def test_a_damaged_folder_is_an_error(tmp_path: Path) -> None:
    folder = create(tmp_path)
    path = tmp_path / "r" / "decisions.jsonl"
    with folder.writer() as writer:
        writer.record(*rows("a", "small"))
        writer.record(*rows("b", "small"))
    good = path.read_bytes()
    path.write_bytes(b"\x00" + good)
    with pytest.raises(DataError, match=r"decisions\.jsonl:1"):
        folder.load()
    path.write_bytes(good + encode(rows("zz")[1]) + b"\n")
    with pytest.raises(DataError, match="do not belong together"):
        folder.load()
    path.write_bytes(good)
    judgments = tmp_path / "r" / "judgments.jsonl"
    judgments.write_bytes(judgments.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(DataError, match="do not belong together"):
        folder.load()
    (tmp_path / "r" / "items.jsonl").write_bytes(b"{}\n")
    with pytest.raises(DataError, match=r"items\.jsonl:1"):
        folder.load()


def test_a_header_that_is_missing_damaged_or_foreign(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no run here"):
        RunFolder.open(tmp_path / "none")
    folder = create(tmp_path)
    path = tmp_path / "r" / "run.json"
    path.write_bytes(encode(replace(folder.header, schema=SCHEMA + 1)))
    with pytest.raises(UsageError, match=f"a run of schema {SCHEMA + 1}"):
        RunFolder.open(tmp_path / "r")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"run\.json"):
        RunFolder.open(tmp_path / "r")


def test_a_kill_while_the_header_is_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = create(tmp_path)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        folder.finish("complete")
    monkeypatch.undo()
    assert RunFolder.open(tmp_path / "r").header.status == "running"


def test_a_second_writer_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    folder = create(tmp_path)
    path = tmp_path / "r" / "judgments.jsonl"
    with folder.writer() as writer:
        writer.record(*rows("a", "small"))
        with path.open("ab") as file:
            file.write(b"a line that the first writer has not finished")
        before = path.read_bytes()
        with pytest.raises(UsageError, match="another process is writing this run"):
            folder.writer()
        assert path.read_bytes() == before
    with folder.writer():
        assert path.read_bytes().endswith(b"\n")
