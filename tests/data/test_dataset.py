"""Items and annotations from files, and the roles that keep them apart."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trustescalate.config import Config, RolesTable, parse_config
from trustescalate.data.clusters import clusters, content_digest, duplicates, independent_items
from trustescalate.data.dataset import Dataset, load_dataset, load_items
from trustescalate.data.roles import assign_roles
from trustescalate.errors import DataError
from trustescalate.records import Item, Turn


def config(folder: Path, task: dict[str, Any] | None = None, **data: str) -> Config:
    judge = {"name": "a", "backend": "openai", "model": "m"}
    values = {"version": 1, "task": task or {}, "data": data, "judges": [judge]}
    return parse_config(values, folder / "trustescalate.toml")


def row(item_id: Any = "a", **changes: Any) -> dict[str, Any]:
    return {"id": item_id, "prompt": f"prompt {item_id}", "responses": ["x", "y"], **changes}


def note(item_id: Any = "a", annotator: Any = "ann", label: Any = "A") -> dict[str, Any]:
    return {"item_id": item_id, "annotator": annotator, "label": label}


def write(path: Path, *rows: dict[str, Any] | str) -> Path:
    lines = [line if isinstance(line, str) else json.dumps(line) for line in rows]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def problems(folder: Path, task: dict[str, Any] | None = None, **data: str) -> list[str]:
    with pytest.raises(DataError) as caught:
        load_dataset(config(folder, task, **data))
    assert caught.value.hint
    return [problem.replace(f"{folder}/", "") for problem in caught.value.problems]


def test_every_problem_of_both_files_is_named_with_its_line(tmp_path: Path) -> None:
    write(
        tmp_path / "items.jsonl",
        row("a"),
        "{oops",
        row("a"),
        row("one", responses=["x"]),
        row("three", responses=["x", "y", "z"]),
        row("hollow", responses=["x", []]),
        row("empty", responses=["", " \n"]),
        row("silent", prompt="  "),
        row("turnless", prompt=[]),
        row("turns", prompt=[{"role": "user", "content": " "}]),
        row(" "),
        row("lumped", group=""),
    )
    write(
        tmp_path / "annotations.jsonl",
        note("a"),
        note("a", "ann", "B"),
        note("zz"),
        note("one", label="C"),
        '{"item_id": "a", "anotator": "x", "label": "A"}',
    )
    more = "a pairwise task needs 2; keep items of different tasks in different files"
    assert problems(tmp_path) == [
        "items.jsonl:2: not valid JSON (key must be a string, column 2)",
        "items.jsonl:3: item 'a' was already on line 1; ids must differ",
        f"items.jsonl:4: item 'one' has 1 response, {more}",
        f"items.jsonl:5: item 'three' has 3 responses, {more}",
        "items.jsonl:6: item 'hollow': response 2 has no assistant turn; write what was answered",
        "items.jsonl:8: item 'silent': the prompt is empty; write what was asked",
        "items.jsonl:9: item 'turnless': the prompt is empty; write what was asked",
        "items.jsonl:10: item 'turns': the prompt is empty; write what was asked",
        "items.jsonl:11: the id is empty; give each item one of its own",
        "items.jsonl:12: item 'lumped': the group is empty; leave it out where an item stands alone",
        "annotations.jsonl:5: 'annotator' is missing; unknown key 'anotator': did you mean 'annotator'?",
        "annotations.jsonl:2: item 'a' was already labelled by 'ann' on line 1; keep one",
        "annotations.jsonl:3: item 'zz' is not among the items that could be read; add it or remove the line",
        "annotations.jsonl:4: item 'one': label 'C' is not one of A, B, tie, skip; fix or remove the line",
    ]


def test_good_files_come_back_in_order(tmp_path: Path) -> None:
    write(tmp_path / "items.jsonl", row(2), row(1), row("c", group="g", reference="r"))
    write(tmp_path / "annotations.jsonl", note(1, 7, "tie"), note(1, 8, "skip"))
    data = load_dataset(config(tmp_path))
    assert [item.id for item in data.items] == ["2", "1", "c"]
    assert [item.id for item in data.labelled] == ["1"]
    assert [item.id for item in data.unlabelled] == ["2", "c"]
    assert data.annotations[0].annotator == "7"
    assert load_items(tmp_path / "items.jsonl", config(tmp_path)) == data.items


def test_files_that_are_not_there_or_hold_nothing(tmp_path: Path) -> None:
    missing = "cannot be read: No such file or directory"
    assert problems(tmp_path) == [f"items.jsonl: {missing}"]
    with pytest.raises(DataError) as refused:
        load_dataset(config(tmp_path))
    assert "label queue --for calibration" in str(refused.value.hint)
    write(tmp_path / "items.jsonl", row())
    with pytest.raises(DataError) as refused:
        load_dataset(config(tmp_path, annotations="labels.jsonl"))
    assert "fix the name at [data] annotations" in str(refused.value.hint)
    assert load_dataset(config(tmp_path)).annotations == ()
    assert problems(tmp_path, annotations="labels.jsonl") == [f"labels.jsonl: {missing}"]
    write(tmp_path / "annotations.jsonl")  # as after an import without labels
    assert load_dataset(config(tmp_path)).annotations == ()
    (tmp_path / "folder").mkdir()
    assert problems(tmp_path, annotations="folder") == ["folder: cannot be read: Is a directory"]
    with pytest.raises(DataError, match="holds no rows"):
        load_items(write(tmp_path / "empty.jsonl"), config(tmp_path))


def test_where_no_item_can_be_read_annotations_are_not_blamed(tmp_path: Path) -> None:
    write(tmp_path / "annotations.jsonl", note("a"), note("b", label="Z"))
    assert [problem.split(": ")[0] for problem in problems(tmp_path)] == [
        "items.jsonl",
        "annotations.jsonl:2",
    ]


def test_a_dropped_tie_is_still_a_thing_to_say(tmp_path: Path) -> None:
    write(tmp_path / "items.jsonl", row())
    write(tmp_path / "annotations.jsonl", note(label="tie"))
    assert len(load_dataset(config(tmp_path, {"ties": "drop"})).labelled) == 1
    write(tmp_path / "items.jsonl", row(responses=["x"]))
    write(tmp_path / "annotations.jsonl", note(label=True), note("a", "bob", 4), note("a", "cy", "tie"))
    rating = {"kind": "rating", "scale": [1, 3]}
    assert problems(tmp_path, rating) == [
        "annotations.jsonl:1: label must be a valid string",
        "annotations.jsonl:2: item 'a': label '4' is not one of 1, 2, 3, skip; fix or remove the line",
        "annotations.jsonl:3: item 'a': label 'tie' is not one of 1, 2, 3, skip; fix or remove the line",
    ]


def test_groups_come_from_where_the_configuration_says(tmp_path: Path) -> None:
    write(
        tmp_path / "items.jsonl",
        row("a", prompt="p", meta={"doc": 1, "blank": ""}),
        row("b", prompt="p", group="g", meta={"doc": "1"}),
        row("c", prompt="q"),
    )

    def found(by: str) -> list[str | None]:
        return [item.group for item in load_dataset(config(tmp_path, cluster=by)).items]

    assert found("group") == [None, "g", None]
    assert found("meta.doc") == ["1", "1", None]
    first, second, third = found("prompt")
    assert first == second != third
    for nowhere in ("meta.dcc", "meta.blank"):
        assert problems(tmp_path, cluster=nowhere) == [
            f"items.jsonl: no item has {nowhere}, which [data] cluster names"
        ]


def item(item_id: str, prompt: str = "p", *responses: str, group: str | None = None) -> Item:
    return Item(item_id, prompt, responses or ("x", f"y of {item_id}"), group=group)


def test_content_is_the_same_in_either_order() -> None:
    assert content_digest(item("a", "p", "x", "y")) == content_digest(item("b", "p", "y", "x", group="g"))
    assert content_digest(item("a", "p", "x", "y")) != content_digest(item("a", "q", "x", "y"))
    assert content_digest(item("a", "p", "x", "y")) != content_digest(Item("a", "p", ("x", "y"), "reference"))
    assert content_digest(item("a", "p", "x", "y")) != content_digest(item("a", "p", "x", "x"))
    assert content_digest(Item("a", (Turn("user", "p"),), ("x", "y"))) != content_digest(
        item("a", "p", "x", "y")
    )


def test_clusters_are_closed_under_group_and_content() -> None:
    items = [
        item("a", group="1"),
        item("b", "p", "x", "y", group="1"),
        item("c", "p", "y", "x"),
        item("d", "p", "x", "y", group="2"),
        item("e", group="2"),
        item("f"),
        item("g"),
    ]
    found = {frozenset(row.id for row in rows) for rows in clusters(items)}
    assert found == {frozenset("abcde"), frozenset("f"), frozenset("g")}


def test_duplicates_are_prompts_that_no_group_holds_together() -> None:
    items = [
        *(item("a", "alone"), item("b", "twice"), item("c", "twice")),
        *(item("d", "held", group="1"), item("e", "held", group="1")),
        *(item("f", "split", group="2"), item("g", "split", group="3")),
        *(item("h", "half", group="4"), item("i", "half")),
    ]
    assert duplicates(items) == [("b", "c"), ("f", "g"), ("h", "i")]


ITEMS = st.lists(
    st.tuples(
        st.integers(0, 6),
        st.sampled_from([("x", "y"), ("y", "x"), ("x", "z")]),
        st.none() | st.integers(0, 5),
    ),
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(ITEMS, st.integers(0, 5), st.floats(0, 0.45), st.floats(0, 0.45), st.integers(0, 10), st.randoms())
def test_no_group_and_no_content_is_in_two_roles(
    drawn: list[Any], seed: int, dev: float, holdout: float, wanted: int, rng: Any
) -> None:
    items = [
        Item(str(place), f"prompt {prompt}", responses, group=None if group is None else f"g{group}")
        for place, (prompt, responses, group) in enumerate(drawn)
    ]
    roles = RolesTable(seed=seed, dev=dev, holdout=holdout)
    given_roles = assign_roles(items, roles, wanted)
    assert given_roles.keys() == {item.id for item in items}
    for key in (content_digest, lambda item: item.group or item.id):
        by_key: dict[str, set[str]] = {}
        for row in items:
            by_key.setdefault(key(row), set()).add(given_roles[row.id])
        assert all(len(found) == 1 for found in by_key.values())
    shuffled = rng.sample(items, len(items))
    assert assign_roles(shuffled, roles, wanted) == given_roles


def test_shares_are_respected_and_certify_takes_the_rest() -> None:
    items = [item(f"i{n}", f"prompt {n}") for n in range(1000)]
    roles = RolesTable(dev=0.1, holdout=0.2)
    assert Counter(assign_roles(items, roles, 25).values()) == {
        "exemplars": 25,
        "dev": 100,
        "holdout": 200,
        "certify": 675,
    }
    assert Counter(assign_roles(items, RolesTable(exemplars=7), 25).values())["exemplars"] == 7
    assert set(assign_roles(items, RolesTable(), 0).values()) == {"certify"}
    grouped = [item(f"i{n}", f"prompt {n}", group=f"g{n // 3}") for n in range(999)]
    found = Counter(assign_roles(grouped, roles, 25).values())
    assert found["exemplars"] in range(25, 28)
    assert found["dev"] in range(100, 103)


def test_roles_are_stable_for_a_seed_and_change_with_it() -> None:
    items = [item(f"i{n}", f"prompt {n}") for n in range(200)]
    first = assign_roles(items, RolesTable(dev=0.5), 20)
    assert assign_roles(items, RolesTable(dev=0.5), 20) == first
    assert assign_roles(items, RolesTable(dev=0.5, seed=1), 20) != first
    renamed = [Item(f"other {row.id}", row.prompt, row.responses) for row in items]
    assert list(assign_roles(renamed, RolesTable(dev=0.5), 20).values()) == list(first.values())


@pytest.mark.slow
def test_a_large_set_is_read_and_divided_in_seconds(tmp_path: Path) -> None:
    count = 25_000
    write(tmp_path / "items.jsonl", *(row(n, group=f"g{n // 2}") for n in range(count)))
    write(tmp_path / "annotations.jsonl", *(note(n) for n in range(0, count, 2)))
    began = time.process_time()
    data: Dataset = load_dataset(config(tmp_path))
    assert len(data.labelled) == len(data.unlabelled) == count // 2
    assert len(clusters(data.items)) == count // 2
    assert duplicates(data.items) == []
    assert len(assign_roles(data.labelled, RolesTable(), 25)) == count // 2
    assert time.process_time() - began < 10


def test_independent_items_are_one_of_each_cluster_that_the_certificate_does_not_know() -> None:
    def item(name: str, prompt: str, group: str | None = None) -> Item:
        return Item(name, prompt, ("yes", "no"), group=group)

    items = [item("free", "1"), item("pilot", "2", "g"), item("mate", "3", "g"), item("twin", "4")]
    items += [item("one", "5", "h"), item("two", "6", "h"), item("held out", "7")]
    known = [*items, item("labelled", "4"), item("unused", "1")]
    found = independent_items(items, known, {"pilot", "labelled"}, seed=0)
    assert set(found) - {"one", "two"} == {"free", "held out"}
    assert len({"one", "two"} & set(found)) == 1
    both = {
        set(independent_items(items, known, set(), seed)) & {"one", "two"} == {"one"} for seed in range(20)
    }
    assert both == {True, False}
