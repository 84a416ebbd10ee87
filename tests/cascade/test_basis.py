"""What a run rests on besides its configuration, and what of it was changed since."""

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.projects import calibrate, edit, run, simulated, write_project
from trustescalate.cascade.basis import basis_of, what_changed
from trustescalate.config import load_config
from trustescalate.data.dataset import load_dataset
from trustescalate.judges.templates import shipped
from trustescalate.project import Project
from trustescalate.records import Run
from trustescalate.report.gate_basis import why_stale

MORE = """
[[judges]]
name = "recorded"
backend = "replay"
votes = "votes.jsonl"
[[judges]]
name = "own"
backend = "callable"
function = "mine:judge"
version = "1"
[[judges]]
name = "here"
backend = "local"
model = "{folder}/model"
adapter = "{folder}/adapter"
"""
JUDGES = simulated("small", "XS") + simulated("worded", "M", prompt='"worded.txt"')


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """A project, with a run of its two models and files that further judges point to."""
    folder = tmp_path_factory.mktemp("basis")
    (folder / "worded.txt").write_text(shipped("direct"))
    (folder / "rubric.md").write_text("Prefer short answers.")
    (folder / "votes.jsonl").write_text("{}")
    (folder / "mine.py").write_text("def judge(item): return 'A'")
    for name in ("model", "adapter"):
        (folder / name).mkdir()
        (folder / name / "weights.bin").write_bytes(bytes(200_000))
    config = write_project(folder, JUDGES, labelled=60, unlabelled=12, min_coverage=0.2)
    edit(config, "[ensemble]", '[task]\nrubric_file = "rubric.md"\n[ensemble]')
    calibrate(config)
    return config, run(config)


def rewrite(path: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def items(change: Callable[[list[dict[str, Any]]], object]) -> Callable[[Path], object]:
    return lambda folder: rewrite(folder / "items.jsonl", change)


def append(name: str, text: str) -> Callable[[Path], object]:
    def changed(folder: Path) -> None:
        with (folder / name).open("a") as file:
            file.write(text)

    return changed


def flip_labels(folder: Path) -> None:
    swap = {"A": "B", "B": "A", "tie": "A", "skip": "A"}
    rewrite(folder / "annotations.jsonl", lambda rows: [row.update(label=swap[row["label"]]) for row in rows])


def label_the_rest(folder: Path) -> None:
    """Label what the run judged: this measures the run, and changes nothing that it rests on."""
    names = [json.loads(line)["id"] for line in (folder / "items.jsonl").read_text().splitlines()]
    rows = "".join(
        json.dumps({"item_id": name, "annotator": "z", "label": "A"}) + "\n" for name in names[60:]
    )
    append("annotations.jsonl", rows)(folder)


CHANGES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "nothing": (lambda folder: None, []),
    "rubric": (
        append("rubric.md", " And polite ones."),
        ["rubric.md was changed", "judge small is not the one", "judge worded is", "judge here is"],
    ),
    "wording": (append("worded.txt", "\nThink first."), ["worded.txt was changed", "judge worded is not"]),
    "comment": (
        lambda folder: (folder / "worded.txt").write_text("# my own\n" + shipped("direct")),
        [],
    ),
    "wording gone": (lambda folder: (folder / "worded.txt").unlink(), ["worded.txt cannot be read", "judge"]),
    "votes": (append("votes.jsonl", "{}"), ["votes.jsonl was changed"]),
    "function": (append("mine.py", "# other"), ["mine.py was changed"]),
    "model": (append("model/weights.bin", "x"), ["/model was changed"]),
    "adapter": (append("adapter/config.json", "x"), ["/adapter was changed"]),
    "adapter gone": (lambda folder: shutil.rmtree(folder / "adapter"), ["/adapter cannot be read"]),
    "examples": (flip_labels, ["judge small is not the one", "judge worded is", "judge here is"]),
    "added item": (
        items(lambda rows: rows.append({**rows[-1], "id": "new"})),
        ["[data] are not those of this run: 1 added ('new' first)"],
    ),
    "changed item": (
        items(lambda rows: rows[-1].update(prompt="other")),
        ["[data] are not those of this run: 1 changed or gone"],
    ),
    "removed item": (items(lambda rows: rows.pop()), ["1 changed or gone"]),
    "labels": (label_the_rest, []),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", CHANGES)
def test_what_changed_is_named(made: tuple[Path, Run], tmp_path: Path, case: str) -> None:
    original, judged = made
    folder = tmp_path / "copy"
    shutil.copytree(original.parent, folder)
    path = folder / "trustescalate.toml"
    path.write_text(path.read_text() + MORE.format(folder=folder))
    config = load_config(path)
    basis = basis_of(config, load_dataset(config), judged.header.certificate)
    before = replace(judged, header=replace(judged.header, basis=basis))
    change, wanted = CHANGES[case]
    change(folder)
    found = what_changed(config, load_dataset(config), before)
    assert len(found) == len(wanted), found
    assert all(part in text for part, text in zip(wanted, found, strict=True)), found


@pytest.mark.slow
def test_a_run_of_a_file_is_compared_with_that_file(made: tuple[Path, Run], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made[0].parent, folder)
    config, more = folder / "trustescalate.toml", folder / "more.jsonl"
    shutil.copy(folder / "items.jsonl", more)
    rewrite(more, lambda rows: rows.__delitem__(slice(70)))
    run(config, items=more)

    def current() -> str:
        verdict, _ = Project.open(config).gate()
        (check,) = [check for check in verdict.checks if check.name == "run is current"]
        assert verdict.exit_code == (0 if check.status == "pass" else 3)
        return check.observed

    assert current() == "unchanged"
    items(lambda rows: rows.pop())(folder)
    assert current() == "unchanged"
    rewrite(more, lambda rows: rows.pop())
    assert "more.jsonl are not those of this run: 1 changed or gone" in current()
    more.unlink()
    assert "more.jsonl cannot be compared" in current()


@pytest.mark.slow
def test_a_run_with_other_settings_than_the_configuration_is_stale(
    made: tuple[Path, Run], tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made[0].parent, folder)
    config = folder / "trustescalate.toml"
    project = Project.open(config, overrides=["budget.calls=100000", "data.cluster=prompt"])
    asyncio.run(project.run())
    verdict, _ = Project.open(config).gate()
    (check,) = [check for check in verdict.checks if check.status != "pass"]
    assert verdict.exit_code == 3
    assert check.observed.startswith(
        "data.cluster: prompt → none was changed after this run; the items of [data] are not"
    )
    assert project.gate()[0].exit_code == 0


@pytest.mark.slow
def test_another_order_of_the_judges_is_stale(made: tuple[Path, Run], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made[0].parent, folder)
    config = folder / "trustescalate.toml"
    head, small, worded = config.read_text().split("[[judges]]\n")
    config.write_text("[[judges]]\n".join([head, worded, small]))
    (check,) = [check for check in Project.open(config).gate()[0].checks if check.status != "pass"]
    assert "the order of the judges was changed after this run" in check.observed


@pytest.mark.slow
def test_an_exchanged_judge_is_named(made: tuple[Path, Run], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made[0].parent, folder)
    config = folder / "trustescalate.toml"
    config.write_text(config.read_text().replace('name = "worded"', 'name = "other"'))
    why = why_stale(Project.open(config).config, made[1])
    assert why == "judge worded was removed after this run; judge other was added after this run"
