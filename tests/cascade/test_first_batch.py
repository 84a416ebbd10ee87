"""A judge without one usable vote on its first items ends the command before the rest is asked."""

import asyncio

import pytest

from trustescalate.cascade.first_batch import FIRST, FirstBatch
from trustescalate.errors import NotMeasurable
from trustescalate.records import Channel, Item, Judgment, Vote
from trustescalate.records.votes import Enough, all_votes


class Scripted:
    name, fingerprint = "small", "f"
    channel: Channel = "samples"

    def __init__(self, *usable: bool) -> None:
        self.usable, self.asked = usable, 0

    async def judge(self, item: Item, enough: Enough) -> Judgment:
        vote = Vote(0, "", {"pass": 1.0}) if self.usable[self.asked] else Vote(0, "", {}, "Well…", "none")
        self.asked += 1
        return Judgment(item.id, self.name, self.fingerprint, (vote, vote), 2)


def ask(judge: Scripted, items: int) -> list[Judgment]:
    async def judged() -> list[Judgment]:
        watched = FirstBatch(judge)
        return [await watched.judge(Item(f"q{n}", "?", ("x",)), all_votes) for n in range(items)]

    return asyncio.run(judged())


def test_ten_items_without_a_vote_end_it_with_the_reason_and_a_reply() -> None:
    judge = Scripted(*[False] * 50)
    with pytest.raises(NotMeasurable) as error:
        ask(judge, 50)
    assert judge.asked == FIRST == 10
    assert error.value.message == (
        "judge 'small' gave no usable vote on its first 10 items: 20 × the reply holds no verdict. "
        "One reply: 'Well…'"
    )


def test_one_usable_vote_is_enough() -> None:
    judge = Scripted(*[False] * 9, True, *[False] * 40)
    assert len(ask(judge, 50)) == 50


def test_items_whose_votes_failed_before_do_not_count() -> None:
    judge = Scripted(*[False] * 50)
    watched = FirstBatch(judge)
    watched.again = {f"q{n}" for n in range(40)}

    async def judged(items: range) -> None:
        for n in items:
            await watched.judge(Item(f"q{n}", "?", ("x",)), all_votes)

    asyncio.run(judged(range(40)))
    with pytest.raises(NotMeasurable, match="first 10 items"):
        asyncio.run(judged(range(40, 50)))
    assert judge.asked == 50
