"""Questions gathered into batches, with no model in sight."""

import asyncio
import threading
from collections.abc import Sequence
from typing import NamedTuple

import pytest

from trustescalate.judges.local.batching import Batcher, BatchSize, out_of_memory

pytestmark = pytest.mark.slow


class OutOfMemoryError(RuntimeError):
    """By this name torch says it."""


class Word(NamedTuple):
    text: str

    @property
    def group(self) -> str:
        return self.text[0]

    @property
    def size(self) -> int:
        return len(self.text)


class Shouts:
    """Answers in capitals; holds its first batch until told, and has room for `room` words."""

    def __init__(self, room: int = 100) -> None:
        self.room = room
        self.go = threading.Event()
        self.batches: list[list[str]] = []

    def __call__(self, words: Sequence[Word]) -> list[str]:
        self.go.wait(10)
        if len(words) > self.room:
            raise OutOfMemoryError("no")
        self.batches.append([word.text for word in words])
        return [word.text.upper() for word in words]


def asked(shouts: Shouts, texts: Sequence[str], size: BatchSize) -> list[str | BaseException]:
    async def main() -> list[str | BaseException]:
        batcher: Batcher[str, Word, str] = Batcher(Word, shouts, size)
        answers = [asyncio.ensure_future(batcher.ask(text)) for text in texts]
        await asyncio.sleep(0.05)
        shouts.go.set()
        try:
            return list(await asyncio.gather(*answers, return_exceptions=True))
        finally:
            await batcher.close()

    return asyncio.run(main())


def test_what_waits_is_answered_together_by_group_longest_first() -> None:
    shouts = Shouts()
    texts = ["x", "a1", "b1", "a333", "a22", "b4444", "a4444"]
    assert asked(shouts, texts, BatchSize(3, most=3)) == [text.upper() for text in texts]
    assert shouts.batches == [["x"], ["a4444", "a333", "a22"], ["b4444", "b1"], ["a1"]]


def test_without_memory_a_batch_is_halved_and_stays_so() -> None:
    shouts = Shouts(room=2)
    size = BatchSize(8, most=8)
    texts = ["x", *[f"a{n}" for n in range(9)]]
    assert asked(shouts, texts, size) == [text.upper() for text in texts]
    assert max(map(len, shouts.batches)) == 2
    assert size.now == 2


def test_a_single_question_that_does_not_fit_is_an_error_of_its_own() -> None:
    size = BatchSize(4, most=4)
    answers = asked(Shouts(room=0), ["x", "a1", "a2"], size)
    assert all(isinstance(answer, OutOfMemoryError) for answer in answers)
    assert size.now == 1


def test_a_question_that_cannot_be_prepared_harms_no_other() -> None:
    def prepare(text: str) -> Word:
        if text == "bad":
            raise ValueError("what?")
        return Word(text)

    async def main() -> list[str | BaseException]:
        shouts = Shouts()
        shouts.go.set()
        batcher = Batcher(prepare, shouts, BatchSize(4, most=4))
        answers = (batcher.ask(text) for text in ("a", "bad", "b"))
        try:
            return list(await asyncio.gather(*answers, return_exceptions=True))
        finally:
            await batcher.close()

    first, second, third = asyncio.run(main())
    assert (first, third) == ("A", "B")
    assert isinstance(second, ValueError)


class Lost(Word):
    @property
    def group(self) -> str:
        raise TypeError("no group")


def test_whatever_breaks_nobody_waits_for_ever() -> None:
    def prepare(text: str) -> Word:
        return Lost(text) if text == "lost" else Word(text)

    def answers_one(words: Sequence[Word]) -> list[str]:
        return [words[0].text.upper()]

    async def main() -> list[str | BaseException]:
        batcher = Batcher(prepare, answers_one, BatchSize(4, most=4))
        answers = [asyncio.ensure_future(batcher.ask(text)) for text in ("lost", "aaa", "aa", "a")]
        try:
            return list(await asyncio.wait_for(asyncio.gather(*answers, return_exceptions=True), 10))
        finally:
            await batcher.close()

    lost, first, *rest = asyncio.run(main())
    assert isinstance(lost, TypeError)
    assert first == "AAA"
    assert all(answer in ("AA", "A") or isinstance(answer, ValueError) for answer in rest)


def test_closing_finishes_what_runs_and_drops_the_rest() -> None:
    async def main() -> tuple[list[str | BaseException], list[list[str]]]:
        shouts = Shouts()
        batcher: Batcher[str, Word, str] = Batcher(Word, shouts, BatchSize(1, most=1))
        answers = [asyncio.ensure_future(batcher.ask(text)) for text in ("a", "b", "c")]
        await asyncio.sleep(0.05)
        closing = asyncio.ensure_future(batcher.close())
        await asyncio.sleep(0.05)
        shouts.go.set()
        await closing
        return list(await asyncio.gather(*answers, return_exceptions=True)), shouts.batches

    answers, batches = asyncio.run(main())
    assert answers[0] == "A"
    assert [type(answer) for answer in answers[1:]] == [asyncio.CancelledError] * 2
    assert batches == [["a"]]


def test_a_question_whose_asker_has_gone_is_not_worked() -> None:
    async def main() -> list[list[str]]:
        shouts = Shouts()
        batcher: Batcher[str, Word, str] = Batcher(Word, shouts, BatchSize(1, most=1))
        answers = [asyncio.ensure_future(batcher.ask(text)) for text in ("a", "b", "c")]
        await asyncio.sleep(0.05)
        answers[1].cancel()
        await asyncio.sleep(0.05)
        shouts.go.set()
        await asyncio.gather(*answers, return_exceptions=True)
        await batcher.close()
        return shouts.batches

    assert asyncio.run(main()) == [["a"], ["c"]]


def test_the_size_doubles_while_that_pays() -> None:
    size = BatchSize("auto", most=64)
    for jobs, seconds in ((1, 1.0), (2, 1.0), (4, 1.5)):
        size.worked(jobs=jobs, tokens=jobs, seconds=seconds)
    assert size.now == 8
    size.worked(jobs=3, tokens=3, seconds=100.0)  # not full: says nothing
    assert size.now == 8
    size.worked(jobs=8, tokens=8, seconds=3.0)  # no faster than 4
    assert size.now == 4
    size.worked(jobs=4, tokens=4, seconds=1e-6)
    assert size.now == 4


def test_the_size_stays_under_what_is_in_flight() -> None:
    size = BatchSize("auto", most=6)
    for jobs in (1, 2, 4):
        size.worked(jobs=jobs, tokens=jobs, seconds=1.0)
    assert size.now == 4


def test_a_given_size_is_halved_but_never_raised() -> None:
    size = BatchSize(5, most=64)
    size.worked(jobs=5, tokens=5, seconds=1e-6)
    assert size.now == 5
    for now in (2, 1, 1):
        size.too_large(jobs=size.now)
        assert size.now == now


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("shapes do not fit"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error: Exception, is_memory: bool) -> None:
    assert out_of_memory(error) is is_memory
