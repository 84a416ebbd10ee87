"""promptfoo's functions, as promptfoo calls them; tests/hosts/promptfoo runs promptfoo itself."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.documents import ROOT
from tests.support.hosted import certified_example
from trustescalate import Run
from trustescalate.errors import NoCertificate, TrustEscalateError, UsageError
from trustescalate.integrations.promptfoo import call_api, get_assert


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Run]:
    config, run = certified_example(tmp_path_factory.mktemp("promptfoo") / "project")
    return str(config), run


def asserted(certified: tuple[str, Run], label: str | None, **more: Any) -> Mapping[str, Any]:
    """The grading result of an item of the run with this label."""
    cascade, run = certified
    item_id = next(row.item_id for row in run.decisions if row.label == label)
    item = next(item for item in run.items if item.id == item_id)
    config = {"cascade": cascade, "item_id": "id", **more.pop("config", {})}
    return get_assert(
        item.responses[0], {"prompt": item.prompt, "vars": {"id": item_id}, "config": config, **more}
    )


def test_an_assertion_grades_a_verdict(certified: tuple[str, Run]) -> None:
    right, wrong, none = (asserted(certified, label) for label in ("pass", "fail", None))
    assert [each["pass"] for each in (right, wrong, none)] == [True, False, False]
    assert right["namedScores"] == {"abstained": 0, "certified": 1.0}
    assert wrong["namedScores"] == {"abstained": 0, "certified": 0.0}
    assert none["namedScores"] == {"abstained": 1}
    assert none["reason"].startswith("Abstained (below threshold at every tier)")
    assert none["metadata"]["certificate"] in none["reason"]


def test_the_mean_score_of_a_row_with_an_abstention_is_below_any_threshold(
    certified: tuple[str, Run],
) -> None:
    judge, other = {"type": "python", "weight": 2}, {"type": "contains", "weight": 5}
    for test in (
        {"threshold": 0, "assert": [judge, other, other]},
        {"assert": [{"type": "assert-set", "threshold": 0.1, "assert": [judge, other]}, other]},
    ):
        score = asserted(certified, None, test=test)["score"]
        assert score * 2 + 3 * 5 < 0  # with every other score at 1
    assert asserted(certified, None, test={"assert": [judge, other]})["score"] == 0


def test_an_error_passes_no_row_with_a_threshold(certified: tuple[str, Run], tmp_path: Path) -> None:
    test = {"threshold": 0.5, "assert": [{"type": "python"}, {"type": "javascript"}]}
    for config in ({"reference": "ideal"}, {"cascade": str(tmp_path / "none.toml")}):
        with pytest.raises(TrustEscalateError):
            asserted(certified, "pass", config=config)
        graded = asserted(certified, "pass", config=config, test=test)
        assert (graded["pass"], graded["score"] + 1e6 < 0) == (False, True)
        assert re.match("(Usage|Config)Error: ", graded["reason"])


def test_an_inverse_assertion_never_gets_an_abstention(certified: tuple[str, Run]) -> None:
    test = {"assert": [{"type": "not-python"}]}
    with pytest.raises(UsageError, match="Abstained"):
        asserted(certified, None, test=test)
    assert asserted(certified, "fail", test=test)["pass"] is False


def test_a_configuration_names_what_is_there(certified: tuple[str, Run]) -> None:
    cascade = certified[0]
    for config, message in (
        ({"refrence": "ideal"}, "unknown config: refrence"),
        ({"reference": "ideal"}, "the test has no variable 'ideal'"),
        ({"item_id": "key"}, "the test has no variable 'key'"),
        ({"prompt": "asked"}, "the test has no variable 'asked'"),
    ):
        with pytest.raises(UsageError, match=message):
            get_assert("4", {"prompt": "2 + 2?", "vars": {}, "config": {"cascade": cascade, **config}})
    with pytest.raises(NoCertificate):
        get_assert("4", {"config": {"cascade": str(ROOT / "examples" / "pass-fail" / "trustescalate.toml")}})
    with pytest.raises(UsageError, match="a rating passes from a threshold on"):
        get_assert("4", {"config": {"cascade": str(ROOT / "examples" / "rating" / "trustescalate.toml")}})


def test_a_provider_answers_with_the_label(certified: tuple[str, Run]) -> None:
    cascade, run = certified
    options = {"config": {"cascade": cascade, "item_id": "id", "basePath": "/", "workers": 1}}
    for item, decision in list(zip(run.items, run.decisions, strict=True))[:60]:
        given = {"id": item.id, "response": item.responses[0]}
        answer = call_api(str(item.prompt), options, {"vars": given})
        assert answer.get("output") == decision.label
        assert ("error" in answer) is (decision.label is None)
        assert answer["metadata"]["reason"] == decision.reason
    with pytest.raises(UsageError, match="the test has no variable 'response'"):
        call_api("2 + 2?", options, {"vars": {"id": "b200"}})
