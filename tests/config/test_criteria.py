"""[[criteria]]: what they take from [task], and what does not fit together."""

from pathlib import Path
from typing import Any

import pytest

from trustescalate.config import Config, parse_config
from trustescalate.errors import ConfigError
from trustescalate.records import TaskKind

JUDGE = {"name": "m", "backend": "mock"}


def parsed(*criteria: dict[str, Any], task: dict[str, Any] | None = None, **more: Any) -> Config:
    given = {"version": 1, "task": task or {"kind": "rating"}, "criteria": list(criteria), "judges": [JUDGE]}
    return parse_config(given | more, Path("x/trustescalate.toml"))


def asked(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "question": f"How is {name}?", **more}


def test_a_criterion_has_the_scale_of_the_task_unless_it_has_its_own() -> None:
    config = parsed(asked("a"), asked("b", scale=[0, 3]), asked("c", scale=[7, 8]))
    labels = {name: task.labels for name, task in config.criterion_tasks().items()}
    assert labels == {"a": tuple("12345"), "b": tuple("0123"), "c": ("7", "8")}
    assert config.task.task().labels == ("0", "1", "2", "3", "4", "5", "7", "8")


def test_binary_criteria_with_labels_of_their_own_are_rows_of_one_choice() -> None:
    same = parsed(asked("a"), asked("b"), task={"kind": "binary"})
    assert same.task.task().kind is TaskKind.BINARY
    other = parsed(asked("a"), asked("b", labels=["yes", "no"]), task={"kind": "binary"})
    assert (other.task.task().kind, other.task.task().labels) == (
        TaskKind.CHOICE,
        ("pass", "fail", "yes", "no"),
    )
    assert other.criterion_tasks()["b"].kind is TaskKind.BINARY


def test_a_choice_needs_no_labels_beside_those_of_its_criteria() -> None:
    config = parsed(asked("a", labels=["x", "y", "z"]), task={"kind": "choice"})
    assert config.task.task().labels == ("x", "y", "z")


def test_each_criterion_has_a_guarantee_of_its_own() -> None:
    config = parsed(asked("a"), asked("b", alpha=0.3), groups={"weights": {"a": 2.0}})
    assert (config.groups.by, dict(config.groups.alpha)) == ("meta.criterion", {"b": 0.3})
    assert parsed(asked("a"), groups={"alpha": {"a": 0.4}}).groups.alpha == {"a": 0.4}
    again = parse_config(config.model_dump(mode="json", exclude_unset=True), Path("x/trustescalate.toml"))
    assert again == config


@pytest.mark.parametrize(
    ("criteria", "more", "message"),
    [
        ([asked("a"), asked("A")], {}, "names must differ: 'A'"),
        ([asked("")], {}, "name: "),
        ([asked(" a")], {}, "spaces around"),
        ([asked("a", question=" ")], {}, "must not be empty"),
        ([asked("a", weight=0)], {}, "weight: must be greater than or equal to"),
        ([asked("a", weight=1e308), asked("b", weight=1e308)], {}, "weight: must be less than or equal to"),
        ([asked("a", min_rate=3)], {"gate": {"baseline": "r"}}, "a baseline needs max_drop or min_gain"),
        ([asked("a", scale=[1, 5], labels=["x", "y"])], {}, "keep one"),
        ([asked("a", labels=["x", "y"])], {}, "has labels of its own"),
        ([asked("a", scale=[1, 5])], {"task": {"kind": "binary"}}, 'scale is for kind = "rating"'),
        (
            [asked("a", labels=["x", "y", "z"])],
            {"task": {"kind": "binary"}},
            "criterion 'a': kind = \"binary\"",
        ),
        (
            [asked("a", scale=[1, 2])],
            {"task": {"kind": "rating", "tolerance": 1}},
            "criterion 'a': tolerance",
        ),
        ([asked("a")], {"task": {"kind": "rating", "criteria": ["Be kind."]}}, "are verdicts of their own"),
        ([asked("a")], {"groups": {"by": "meta.language"}}, "a guarantee each"),
        ([asked("a")], {"guarantee": {"path": "tierwise"}}, "[[criteria]]: a guarantee for each has no test"),
        (
            [asked("a")],
            {"guarantee": {"claim": "batch", "label_budget": 50}},
            "[[criteria]]: a guarantee for each",
        ),
        ([asked("a")], {"leaderboard": {"models": "meta.model"}}, "items of one verdict"),
        ([asked("a")], {"judges": [{**JUDGE, "mode": "stated"}]}, 'mode = "stated"'),
        (
            [asked("a")],
            {"judges": [{"name": "c", "backend": "classical"}]},
            'backend = "classical" gives one answer',
        ),
    ],
)
def test_what_does_not_fit_is_refused(criteria: list[Any], more: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parsed(*criteria, **more)
    assert message in refused.value.message


@pytest.mark.parametrize("key", ["max_drop", "min_gain"])
def test_a_baseline_may_be_for_one_criterion_alone(key: str) -> None:
    for name in ("baseline", "match"):
        gate = {name: "meta.key"}
        assert parsed(asked("a"), asked("b", **{key: 0.5}), gate=gate).compares
    assert not parsed(asked("a", min_rate=3)).compares


def test_criteria_and_the_instructions_of_the_task_are_not_mixed_up() -> None:
    with pytest.raises(ConfigError) as refused:
        parsed(task={"kind": "rating", "criteria": [asked("a")]})
    assert "task.criteria.1: is a list of instructions for one verdict" in refused.value.message
    with pytest.raises(ConfigError) as refused:
        parse_config(
            {"version": 1, "criteria": ["Be kind."], "judges": [JUDGE]}, Path("x/trustescalate.toml")
        )
    assert "criteria.1: must be written [[criteria]], with name and question" in refused.value.message
