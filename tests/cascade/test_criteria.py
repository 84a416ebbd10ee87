"""Several criteria of an item are asked in one request: paid once, counted once, resumed without loss."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.criteria import (
    QUESTIONS,
    SCALES,
    direct,
    openai_judge,
    reasoned,
    serving,
    structured,
    write_criteria,
)
from tests.support.decision_server import DecisionServer
from tests.support.projects import calibrate, run
from tests.support.servers import Body, Canned, FaultServer
from trustescalate.cascade.shared_replies import SharedReplies
from trustescalate.config import BudgetTable, load_config
from trustescalate.data.criteria import rows_by_criterion
from trustescalate.errors import BudgetReached, NotMeasurable
from trustescalate.project import Project
from trustescalate.records import Item, Judgment, Run, Usage, Vote
from trustescalate.records.criteria import row_id, row_name
from trustescalate.records.jsonl import write_rows
from trustescalate.records.stored import read_items, take_items

LABELLED, UNLABELLED = 45, 12


def usage(made: Run) -> tuple[int, float]:
    """The calls and the cost that the rows of a run record."""
    votes = [vote for row in made.judgments for vote in row.votes]
    return sum(vote.usage.calls for vote in votes), sum(vote.cost for vote in votes)


@pytest.mark.parametrize(
    ("mode", "reply"), [("direct", direct), ("structured", structured), ("reason", reasoned)]
)
def test_three_criteria_cost_one_request(tmp_path: Path, mode: str, reply: object) -> None:
    with serving(reply) as server:  # type: ignore[arg-type]
        config = write_criteria(
            tmp_path,
            openai_judge(server.url, mode=f'"{mode}"', channel='"auto"'),
            labelled=LABELLED,
            unlabelled=UNLABELLED,
        )
        edit = config.read_text().replace("[ensemble]", "[ensemble]\nsamples = 1")
        config.write_text(edit)
        certificate = calibrate(config)
        made = run(config)
        seen = server.stats
    draws = 2 if mode != "direct" else 1  # the first request of all finds that there are no log-probabilities
    assert seen.requests <= LABELLED + UNLABELLED + (draws - 1)
    assert max(seen.by_body.values()) == 1
    costs = {one.value: one.tests[one.chosen or 0].cost for one in certificate.groups}
    assert costs == {name: pytest.approx(1 / 3) for name in SCALES}  # of 1 USD for each request
    assert {one.value for one in certificate.groups if one.thresholds is not None} == set(SCALES)
    assert len(made.decisions) == 3 * UNLABELLED
    assert usage(made) == (UNLABELLED, pytest.approx(UNLABELLED))
    if mode == "structured":
        schema = seen.bodies[-1]["response_format"]["json_schema"]["schema"]
        assert list(schema["properties"]) == ["reasoning", "criterion_1", "criterion_2", "criterion_3"]
        assert schema["properties"]["criterion_2"]["enum"] == ["0", "1", "2", "3"]


def test_a_stopped_run_pays_nothing_twice_and_counts_everything_once(tmp_path: Path) -> None:
    with serving() as server:
        config = write_criteria(tmp_path, openai_judge(server.url), labelled=LABELLED, unlabelled=UNLABELLED)
        calibrate(config)
        before = server.stats.requests
        with pytest.raises(BudgetReached):
            run(config, budget=BudgetTable(calls=3))
        made = run(config, resume="latest")
        assert server.stats.requests <= before + UNLABELLED
        assert max(server.stats.by_body.values()) == 1
    assert len(made.decisions) == 3 * UNLABELLED
    assert usage(made)[0] == UNLABELLED
    counted = Counter(row.item_id.partition("#")[0] for row in made.judgments if row.usage.calls)
    assert set(counted.values()) == {1}


def test_a_kill_between_the_rows_of_an_item_counts_its_reply_once(tmp_path: Path) -> None:
    """The first row is on the disk, the second one is not."""
    with serving() as server:
        config = write_criteria(tmp_path, openai_judge(server.url), labelled=LABELLED, unlabelled=UNLABELLED)
        calibrate(config)
        whole = run(config)
        folder = tmp_path / "runs" / whole.header.id
        for name in ("judgments.jsonl", "decisions.jsonl"):
            lines = (folder / name).read_text().splitlines(keepends=True)
            (folder / name).write_text("".join(lines[:4]))
        header = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps({**header, "status": "running", "rows": ""}))
        before = server.stats.requests
        made = run(config, resume="latest")
        assert server.stats.requests == before
    assert usage(made)[0] == UNLABELLED


def test_a_failing_request_is_sent_once_for_all_criteria(tmp_path: Path) -> None:
    """What an endpoint rejects for good is asked once, and fails every criterion of the item."""

    def reply(body: Body, _: int) -> Canned:
        if "Question 3?" in body["messages"][-1]["content"]:
            return Canned(
                400, {"error": {"message": "this text is not taken", "type": "invalid_request_error"}}
            )
        return direct(body)

    with FaultServer(plan=reply) as server:
        config = write_criteria(tmp_path, openai_judge(server.url), labelled=LABELLED, unlabelled=UNLABELLED)
        certificate = calibrate(config)
        assert max(server.stats.by_body.values()) == 1
    assert certificate.status == "certified"


def test_one_bad_criterion_fails_no_other(tmp_path: Path) -> None:
    def reply(body: Body) -> Canned:
        good = direct(body)
        text = good.body["choices"][0]["message"]["content"]
        good.body["choices"][0]["message"]["content"] = text.replace("\n2: ", "\n2: hardly ")
        return good

    with serving(reply) as server:
        config = write_criteria(tmp_path, openai_judge(server.url), labelled=LABELLED, unlabelled=UNLABELLED)
        certificate = calibrate(config)
    passed = {one.value for one in certificate.groups if one.thresholds is not None}
    assert passed == {"clarity", "tone"}


def test_a_later_judge_is_asked_once_for_the_criteria_that_need_it(tmp_path: Path) -> None:
    """The cheap judge is sure of two criteria and never of the third: the large one gets one request."""

    def unsure(body: Body) -> Canned:
        reply = direct(body)
        if reply.body["choices"][0].get("logprobs"):
            for token in reply.body["choices"][0]["logprobs"]["content"][3:4]:
                token["top_logprobs"] = [{**each, "logprob": -1.4} for each in token["top_logprobs"]]
        return reply

    with serving(unsure) as small, serving() as large:
        judges = openai_judge(small.url, "small") + openai_judge(large.url, "large")
        config = write_criteria(tmp_path, judges, labelled=90, unlabelled=UNLABELLED)
        calibrate(config)
        before = large.stats.requests
        made = run(config)
        assert large.stats.requests - before <= UNLABELLED
        assert max(large.stats.by_body.values()) == 1
    by_judge = {name: [row for row in made.judgments if row.judge == name] for name in ("small", "large")}
    asked = {row.item_id.partition("#")[2] for row in by_judge["large"]}
    assert "accuracy" in asked
    assert len(by_judge["large"]) < 3 * UNLABELLED
    items = {row.item_id.partition("#")[0] for row in by_judge["large"]}
    assert sum(row.usage.calls for row in by_judge["large"]) == len(items)


@pytest.mark.parametrize("api", ["decisions", "systemone"])
def test_a_decision_model_is_asked_all_criteria_in_one_request(tmp_path: Path, api: str) -> None:
    def weigh(state: str, text: str, options: Sequence[str]) -> Sequence[float]:
        name = next(name for name, question in QUESTIONS.items() if question in text)
        (grade,) = re.findall(rf"{name}=(\d)", state)
        return [0.9 if option == grade else 0.1 / (len(options) - 1) for option in options]

    with DecisionServer(weigh) as server:
        judge = {"backend": '"decisions"', "api": f'"{api}"'}
        config = write_criteria(
            tmp_path, openai_judge(server.url, **judge), labelled=LABELLED, unlabelled=UNLABELLED
        )
        certificate = calibrate(config)
        made = run(config)
        assert len(server.bodies) == LABELLED + UNLABELLED
    assert {one.value for one in certificate.groups if one.thresholds is not None} == set(SCALES)
    assert usage(made) == (UNLABELLED, pytest.approx(UNLABELLED))


def test_an_uncertified_run_has_means_of_each_criterion(tmp_path: Path) -> None:
    with serving() as server:
        config = write_criteria(tmp_path, openai_judge(server.url), labelled=LABELLED, unlabelled=UNLABELLED)
        made = asyncio.run(Project.open(config).run(uncertified=True))
        assert server.stats.requests == LABELLED + UNLABELLED
    assert made.criteria is not None
    assert [(each.certified, each.mean.labels) for each in made.criteria.each] == [(False, LABELLED)] * 3
    assert made.criteria.total.estimate is not None


def test_no_criterion_is_certified_by_judges_that_never_answer_it(tmp_path: Path) -> None:
    with serving(lambda body: Canned(200, {"choices": [{"message": {"content": "4"}}]})) as server:
        config = write_criteria(tmp_path, openai_judge(server.url), labelled=LABELLED, unlabelled=UNLABELLED)
        with pytest.raises(NotMeasurable, match="no usable vote"):
            calibrate(config)


def without_second(body: Body) -> Canned:
    """A reply that leaves out the second criterion of the items that are not labelled, always alike."""
    good = direct(body)
    number = int(re.findall(r"Question (\d+)\?", body["messages"][-1]["content"])[-1])
    if number < LABELLED:
        return good
    (choice,) = good.body["choices"]
    choice["message"]["content"] = re.sub(r"\n2: \d", "", choice["message"]["content"])
    tokens = choice["logprobs"]["content"]
    choice["logprobs"]["content"] = tokens[:2] + tokens[4:]
    return good


def test_a_complete_run_whose_failed_criterion_fails_again_stays_complete(tmp_path: Path) -> None:
    """Each of the requests is paid and counted once, although all replies on an item are the same text."""
    with serving(without_second) as server:
        config = write_criteria(tmp_path, openai_judge(server.url), labelled=LABELLED, unlabelled=UNLABELLED)
        calibrate(config)
        before = server.stats.requests
        made = run(config)
        decided = [(row.item_id, row.label) for row in made.decisions]
        assert made.header.status == "complete"
        first, _ = usage(made)  # with the replies that the calibration paid for
        for times in (1, 2):
            made = run(config, resume="latest")
            paid = first + times * UNLABELLED
            assert server.stats.requests == before + (1 + times) * UNLABELLED
            assert made.header.status == "complete"
            assert usage(made) == (paid, pytest.approx(paid))
            assert [(row.item_id, row.label) for row in made.decisions] == decided
        with pytest.raises(BudgetReached):
            run(config, resume="latest", budget=BudgetTable(calls=3))
        paid += 3
        made = Project.open(config).load_run()
        assert (made.header.status, usage(made)[0]) == ("complete", paid)
        assert [(row.item_id, row.label) for row in made.decisions] == decided
    rows = (tmp_path / "runs" / made.header.id / "judgments.jsonl").read_text().splitlines()
    votes = [vote for row in rows for vote in json.loads(row)["votes"]]
    assert sum(vote.get("usage", {}).get("calls", 0) for vote in votes) == paid
    assert len({vote["paid"] for vote in votes if "usage" in vote}) == paid


def test_an_item_is_forgotten_after_the_last_of_its_rows_and_not_before() -> None:
    paid = Vote(0, "AB", {"A": 1.0}, paid="reply", usage=Usage(1, 10), cost=0.5)
    shared = SharedReplies({"small"}, rows=lambda item_id: 2)

    def cost(row: str) -> float:
        return shared.count(Judgment(row, "small", "f", (paid,), 1)).cost

    assert [cost("q#one"), cost("q#two"), cost("r#one")] == [0.5, 0.0, 0.5]
    shared.end("q#one")
    assert [cost("q#two"), cost("r#two")] == [0.0, 0.0]
    shared.end("q#two")
    assert cost("q#two") == 0.5
    assert cost("r#two") == 0.0


def test_rows_on_disk_are_those_in_memory(tmp_path: Path) -> None:
    config = load_config(write_criteria(tmp_path, openai_judge("http://127.0.0.1:1")))
    items = [
        Item("q#1", "Why?", ("So.",), group="g"),
        Item("q 2", "Why?", ("So.",), meta={"turn": 1}),
        Item("q3", "How?", ("So.",)),
    ]
    write_rows(tmp_path / "plain.jsonl", items)
    read, _ = read_items(tmp_path / "plain.jsonl", lambda line, item: None)
    for some in (read, read[:2], read):
        rows = rows_by_criterion(some, config)
        assert rows == rows_by_criterion(tuple(some), config)
        assert [row_name(row).criterion for row in rows] == list(SCALES) * len(some)
    (first, second, _), chosen = SCALES, take_items(rows_by_criterion(read, config), [4, 0])
    assert [(item.id, item.group) for item in chosen] == [
        (row_id("q 2", second), "item q 2"),
        (row_id("q#1", first), "g"),
    ]
