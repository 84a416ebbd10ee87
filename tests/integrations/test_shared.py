"""One open cascade serves any thread and any event loop, with the decisions of `run`."""

import asyncio
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.documents import ROOT
from tests.support.hosted import certified_example
from trustescalate import CertifiedCascade, Item, Run
from trustescalate.errors import NoCertificate, UsageError
from trustescalate.integrations.shared import CertifiedVerdict, SharedCascade


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    return certified_example(tmp_path_factory.mktemp("shared") / "project")


@pytest.fixture
def cascade(certified: tuple[Path, Run]) -> Iterator[SharedCascade]:
    with SharedCascade(certified[0]) as opened:
        yield opened


def test_threads_and_loops_get_the_decisions_of_the_run(
    cascade: SharedCascade, certified: tuple[Path, Run]
) -> None:
    run = certified[1]
    with ThreadPoolExecutor(8) as pool:
        from_threads = [verdict.decision for verdict in pool.map(cascade.judge, run.items)]

    async def together() -> list[CertifiedVerdict]:
        return await asyncio.gather(*map(cascade.judge_async, run.items))

    from_loops = [[verdict.decision for verdict in asyncio.run(together())] for _ in range(2)]
    assert len(run.items) > 30
    assert {decision.label for decision in run.decisions} == {"pass", "fail", None}
    assert from_threads == list(run.decisions)
    assert from_loops == [list(run.decisions)] * 2


def test_a_verdict_says_who_decided_and_under_which_certificate(
    cascade: SharedCascade, certified: tuple[Path, Run]
) -> None:
    by_id = {item.id: item for item in certified[1].items}
    released = next(row for row in certified[1].decisions if row.label == "fail")
    abstained = next(row for row in certified[1].decisions if row.label is None)
    fail, none = (cascade.judge(by_id[row.item_id]) for row in (released, abstained))
    certificate = fail.metadata["certificate"]
    assert (fail.label, fail.value) == ("fail", 0.0)
    assert fail.explanation.startswith(f"'fail' by judge {released.judge!r}, score ")
    assert fail.explanation.endswith(f"; certificate {certificate} (α = 0.1, δ = 0.1).")
    assert (none.label, none.value, none.metadata["abstained"]) == (None, None, True)
    assert none.explanation.startswith("Abstained (")
    assert "human review is needed" in none.explanation
    assert [step["judge"] for step in none.metadata["trail"]] == ["small", "large"]


def test_a_failed_opening_leaves_no_thread_and_says_why(certified: tuple[Path, Run], tmp_path: Path) -> None:
    before = threading.active_count()
    shutil.copytree(ROOT / "examples" / "pass-fail", tmp_path / "project")
    with (
        SharedCascade(tmp_path / "project" / "trustescalate.toml") as cascade,
        pytest.raises(NoCertificate, match="there is no certificate yet"),
    ):
        cascade.judge(Item("x", "?", ("!",)))
    assert threading.active_count() == before


def test_closing_ends_the_thread_and_a_later_item_opens_it_again(
    cascade: SharedCascade, certified: tuple[Path, Run]
) -> None:
    item, before = certified[1].items[0], threading.active_count()
    first = cascade.judge(item)
    assert threading.active_count() == before + 1
    cascade.close()
    assert threading.active_count() == before
    assert cascade.judge(item) == first


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_process_opens_a_cascade_of_its_own(
    cascade: SharedCascade, certified: tuple[Path, Run], tmp_path: Path
) -> None:
    item, label = certified[1].items[0], certified[1].decisions[0].label
    assert cascade.judge(item).label == label
    child = os.fork()
    if not child:  # nothing here may return into pytest
        signal.alarm(20)
        try:
            verdicts = [cascade.judge(item).label, asyncio.run(cascade.judge_async(item)).label]
            cascade.close()
            (tmp_path / "labels").write_text(repr(verdicts))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / "labels").read_text() == repr([label, label])
    assert cascade.judge(item).label == label


def test_closing_cancels_a_call_that_waits(
    certified: tuple[Path, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()

    async def wait(*_: object) -> None:
        begun.set()
        await asyncio.sleep(60)

    monkeypatch.setattr(CertifiedCascade, "decide", wait)
    cascade = SharedCascade(certified[0])
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(cascade.judge, certified[1].items[0])
        assert begun.wait(20)
        cascade.close()
        with pytest.raises(CancelledError):
            call.result(20)


def test_items_are_made_for_the_task(cascade: SharedCascade) -> None:
    graded = cascade.item("What is 2 + 2?", "4", reference="4")
    assert graded == cascade.item("What is 2 + 2?", "4", reference="4")
    assert graded.id != cascade.item("What is 2 + 2?", "5", reference="4").id
    assert cascade.item("?", "4", item_id="q1").id == "q1"
    with pytest.raises(UsageError, match="has one response"):
        cascade.item("?", "4", baseline="5")
    pairs = SharedCascade(ROOT / "calibration_sets" / "demo" / "trustescalate.toml")
    assert pairs.item("?", "4", baseline="5").responses == ("4", "5")
    with pytest.raises(UsageError, match="compares two responses"):
        pairs.item("?", "4")
