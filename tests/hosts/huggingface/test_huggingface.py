"""Datasets in and out, with the `datasets` package itself, and Parquet that DuckDB reads."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import huggingface_hub
import pytest

from trustescalate import Annotation, Item, Project, ReplayJudge
from trustescalate.analysis.export_run import export_run
from trustescalate.data.import_files import Imported, import_files
from trustescalate.errors import DataError, UsageError
from trustescalate.records.jsonl import decode, read_rows

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "examples" / "integrations" / "huggingface.py"
CONFIG = {"task": {"kind": "binary", "question": "Is the response right?", "labels": ["pass", "fail"]}}


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The cache of datasets, set before they are imported."""
    os.environ["HF_HOME"] = str(tmp_path_factory.mktemp("hf"))
    os.environ["DO_NOT_TRACK"] = os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


@pytest.fixture(scope="session")
def hf(home: None) -> Any:
    import datasets

    return datasets


@pytest.fixture(scope="session")
def exported(graded: Any, home: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `export --as hf` makes of the graded run."""
    folder = tmp_path_factory.mktemp("exported") / "verdicts"
    export_run(Project.open(graded.config).config, None, "hf", folder)
    return folder


def imported(name: str, to: Path, **more: Any) -> Imported:
    return import_files([Path(name)], to, **more)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def item_of(row: Any) -> Item:
    return decode(json.dumps(row).encode(), Item)


def labelled(hf: Any) -> Any:
    rows = {
        "id": ["a", "b", "c"],
        "prompt": ["1 + 1?", "2 + 2?", "3 + 3?"],
        "response": ["2", "5", "6"],
        "label": [0, 1, -1],
        "annotator": ["ann", "ann", "ann"],
    }
    text = hf.Value("string")
    kinds = dict.fromkeys(rows, text) | {"label": hf.ClassLabel(names=["pass", "fail"])}
    return hf.Dataset.from_dict(rows, features=hf.Features(kinds))


# ── out ──────────────────────────────────────────────────────────────────────────────────────────


def test_load_dataset_reads_every_decision(graded: Any, exported: Path, hf: Any) -> None:
    data = hf.load_dataset(str(exported), split="test")
    assert dict(zip(data["id"], data["verdict"], strict=True)) == graded.labels
    assert len(data) > 30
    assert None in data["verdict"]
    kinds = {name: str(kind.dtype) for name, kind in data.features.items()}
    assert (kinds["verdict"], kinds["score"], kinds["cost_usd"]) == ("string", "float64", "float64")
    card = (exported / "README.md").read_text("utf-8")
    assert "With probability at least 90 % over the draw of the 200 labelled rows" in card
    assert all(f"<code>{name.replace('_', '&#95;')}</code>" in card for name in data.column_names)


def test_an_export_comes_back_equal(graded: Any, exported: Path, tmp_path: Path) -> None:
    result = imported(f"hf:{exported}:test", tmp_path / "back", columns=exported / "columns.toml")
    assert (result.items, result.refused) == (len(graded.items), 0)
    back = {row["id"]: row for row in lines(tmp_path / "back" / "items.jsonl")}
    assert back == {row["id"]: row for row in graded.items}


def test_conversations_keep_their_turns(hf: Any, tmp_path: Path) -> None:
    talk = ({"role": "user", "content": "Count."}, {"role": "assistant", "content": "1"})
    call = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "c", "name": "count", "arguments": "{}"}],
    }
    answer = [
        call,
        {"role": "tool", "content": "2", "tool_call_id": "c"},
        {"role": "assistant", "content": "2"},
    ]
    items = [
        {"id": "t1", "prompt": [*talk, {"role": "user", "content": "On."}], "responses": [answer]},
        {
            "id": "t2",
            "prompt": "Plain?",
            "responses": ["Yes."],
            "meta": {"turn": 3, "share": 0.5, "ok": True},
        },
        {"id": "t3", "prompt": "Passages?", "responses": ["Yes."], "context": ["P", "Q"]},
    ]
    votes = {row["id"]: "pass" for row in items}
    project = Project.from_records(
        items, [Annotation(name, "ann", label) for name, label in votes.items()], CONFIG,
        judges=[ReplayJudge.from_labels(votes, name="small")], folder=tmp_path / "small",
    )  # fmt: skip
    asyncio.run(project.run(uncertified=True))
    export_run(project.config, None, "hf", tmp_path / "out")
    data = hf.load_dataset(str(tmp_path / "out"), split="test")
    assert data[0]["response"][1]["content"] == "2"
    assert (data[1]["meta:turn"], data[1]["meta:share"], data[1]["meta:ok"]) == (3, 0.5, True)
    imported(f"hf:{tmp_path / 'out'}", tmp_path / "back", columns=tmp_path / "out" / "columns.toml")
    back = {row.record.id: row.record for row in read_rows(tmp_path / "back" / "items.jsonl", Item).rows}
    assert back["t1"] == item_of(items[0])
    plain = {  # a column has one type: beside a conversation, a text is one turn
        "prompt": [{"role": "user", "content": "Plain?"}],
        "responses": [[{"role": "assistant", "content": "Yes."}]],
    }
    assert back["t2"] == item_of({**items[1], **plain})
    assert back["t3"].context == ("P", "Q")


# ── in ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", ["save_to_disk", "files"])
def test_local_datasets_are_read_with_their_class_labels(form: str, hf: Any, tmp_path: Path) -> None:
    data, folder = labelled(hf), tmp_path / "data"
    if form == "save_to_disk":
        hf.DatasetDict({"train": data, "test": data.select([0])}).save_to_disk(str(folder))
    else:
        folder.mkdir()
        data.to_parquet(str(folder / "train.parquet"))
        data.select([0]).to_parquet(str(folder / "test.parquet"))
    with pytest.raises(DataError, match=r"has the splits train, test") as stop:
        imported(f"hf:{folder}", tmp_path / "none")
    assert f"name one: hf:{folder}:train" in stop.value.hint
    result = imported(f"hf:{folder}:train", tmp_path / "set")
    assert (result.items, result.refused) == (3, 0)
    assert [(row["item_id"], row["label"]) for row in lines(tmp_path / "set" / "annotations.jsonl")] == [
        ("a", "pass"),
        ("b", "fail"),
    ]
    card = (tmp_path / "set" / "CARD.md").read_text("utf-8")
    assert f"| dataset | `hf:{folder}:train` |" in card
    assert "| split | `train` |" in card
    with pytest.raises(DataError, match=r"hf:.*nope"):
        imported(f"hf:{folder}:nope", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_name_is_pinned_to_its_commit(hf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def info(_: Any, name: str, *, revision: str | None, timeout: float) -> Any:
        asked.append((name, revision))
        return type("Info", (), {"sha": "0123abcd" * 5})

    def load(name: str, config: str | None, **more: Any) -> Any:
        asked.append((name, config, more))
        return labelled(hf)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", info)
    place = f"hf://datasets/owner/set@{'0123abcd' * 5}/"
    files = {"test": [f"{place}en/test.parquet"]}
    builder = SimpleNamespace(config=SimpleNamespace(data_files=files))
    monkeypatch.setattr(hf, "load_dataset", load)
    monkeypatch.setattr(hf, "load_dataset_builder", lambda *_, **__: builder)
    for file in (str(tmp_path / "x.txt"), "https://x.example/x.json", f"{place}../x", f"{place[:-2]}/x"):
        files["test"] = [file]
        with pytest.raises(DataError, match="its card names a file that is not of the dataset"):
            imported("hf:owner/set/en@main:test", tmp_path / "none")
    files["test"] = [f"{place}en/test.parquet"]
    asked.clear()
    imported("hf:owner/set/en@main:test", tmp_path / "set")
    assert asked == [
        ("owner/set", "main"),
        ("owner/set", "en", {"split": "test", "revision": "0123abcd" * 5}),
    ]
    assert f"| revision | `{'0123abcd' * 5}` |" in (tmp_path / "set" / "CARD.md").read_text("utf-8")


@pytest.mark.parametrize("file", ["../secret.txt", "{absolute}", "link.txt"])
def test_a_folder_brings_no_file_from_elsewhere(file: str, hf: Any, tmp_path: Path) -> None:
    folder, secret = tmp_path / "set", tmp_path / "secret.txt"
    folder.mkdir()
    secret.write_text("SECRET", "utf-8")
    (folder / "link.txt").symlink_to(secret)
    named = file.format(absolute=secret)
    card = f"---\nconfigs:\n- config_name: default\n  data_files: {named}\n---\n"
    (folder / "README.md").write_text(card, "utf-8")
    with pytest.raises(DataError, match="its card names a file that is not of the dataset"):
        imported(f"hf:{folder}", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_saved_dataset_brings_no_file_from_elsewhere(hf: Any, tmp_path: Path) -> None:
    saved, other = tmp_path / "saved", tmp_path / "other"
    for folder in (saved, other):
        labelled(hf).save_to_disk(str(folder))
    (arrow,) = other.glob("*.arrow")
    state = json.loads((saved / "state.json").read_text("utf-8"))
    state["_data_files"] = [{"filename": f"../other/{arrow.name}"}]
    (saved / "state.json").write_text(json.dumps(state), "utf-8")
    with pytest.raises(DataError, match="its state names a file that is not of the dataset"):
        imported(f"hf:{saved}", tmp_path / "none")


def test_an_unreachable_hub_is_an_error_with_a_hint(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trustescalate", "import", "hf:owner/set:test", "--to", str(tmp_path / "set")],
        env={**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "hf_very_secret"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, (tmp_path / "set").exists()) == (2, False)
    assert "hf:owner/set:test: the hub does not answer for it" in done.stderr
    assert "hint: check the name, the network" in done.stderr
    assert "secret" not in done.stderr + done.stdout


# ── records ──────────────────────────────────────────────────────────────────────────────────────


def test_datasets_become_records(hf: Any, tmp_path: Path) -> None:
    items = hf.Dataset.from_list([
        {"id": "a", "prompt": "1 + 1?", "responses": ["2"], "group": None},
        {"id": "b", "prompt": "2 + 2?", "responses": ["5"], "group": "g"},
    ])  # fmt: skip
    kinds = {"item_id": hf.Value("string"), "annotator": hf.Value("string")}
    kinds |= {"label": hf.ClassLabel(names=["pass", "fail"])}
    notes = hf.Dataset.from_dict(
        {"item_id": ["a", "b"], "annotator": ["ann", "ann"], "label": [0, 1]}, features=hf.Features(kinds)
    )
    judge = ReplayJudge.from_labels({"a": "pass", "b": "fail"}, name="small")
    for rows in (items, items.to_iterable_dataset()):
        project = Project.from_records(rows, notes, CONFIG, judges=[judge], folder=tmp_path / "p")
        assert lines(tmp_path / "p" / "items.jsonl") == [
            {"id": "a", "prompt": "1 + 1?", "responses": ["2"]},
            {"id": "b", "prompt": "2 + 2?", "responses": ["5"], "group": "g"},
        ]
        assert [row["label"] for row in lines(tmp_path / "p" / "annotations.jsonl")] == ["pass", "fail"]
        assert project.config.judges[0].name == "small"
    wrong = hf.Dataset.from_list([{"id": "a", "prompt": "?", "response": "2"}])
    with pytest.raises(DataError) as stop:
        Project.from_records(wrong, notes, CONFIG, judges=[judge])
    assert "items[0]: " in str(stop.value)
    assert "'response'" in str(stop.value)
    with pytest.raises(UsageError, match=r"items holds several splits: 'train'"):
        Project.from_records(hf.DatasetDict({"train": items}), notes, CONFIG, judges=[judge])


def test_the_script_of_the_page(graded: Any, tmp_path: Path) -> None:
    assert len(SCRIPT.read_text("utf-8").splitlines()) <= 20
    folder = Path(shutil.copytree(ROOT / "examples" / "pass-fail", tmp_path / "project"))
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], cwd=folder, env=os.environ, check=False, capture_output=True, text=True
    )
    labels = list(graded.labels.values())
    released = len(labels) - labels.count(None)
    expected = f"{released} of {len(labels)} released, the others need human review\n"
    assert done.stdout == expected, done.stderr
    (decided,) = (folder / "runs").glob("*/decisions.jsonl")
    assert {row["item_id"]: row.get("label") for row in lines(decided)} == graded.labels


# ── DuckDB ───────────────────────────────────────────────────────────────────────────────────────


def documented(page: str) -> list[str]:
    """The SQL of the page's `duckdb -c` commands."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    return re.findall(r'duckdb -c "([^"]+)"', text)


def test_duckdb_reads_what_the_pages_say(graded: Any, tmp_path: Path) -> None:
    project = Project.open(graded.config)
    _, page = project.report()
    export_run(project.config, None, "parquet", tmp_path / "run.parquet")
    export_run(project.config, None, "hf", tmp_path / "verdicts")
    shutil.copy(page.with_name("report.items.jsonl"), tmp_path)
    labels = list(graded.labels.values())
    states = {"released": len(labels) - labels.count(None), "abstained": labels.count(None)}
    shell = Path(sys.executable).with_name("duckdb")
    asked = [*documented("report.md"), *documented("export.md")]
    assert [re.findall(r"'([^']+)'", sql)[0] for sql in asked] == [
        "report.items.jsonl",
        "run.parquet",
        "verdicts/data/*.parquet",
    ]
    for sql in asked:
        done = subprocess.run(
            [shell, "-json", "-c", sql], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        rows = [tuple(row.values()) for row in json.loads(done.stdout)]
        if "state" in sql:
            assert dict(rows) == states
        else:
            assert {label: count for label, count, *_ in rows} == {
                label: labels.count(label) for label in ("pass", "fail", None)
            }
    table = duckdb.sql(f"SELECT id, verdict FROM '{tmp_path / 'run.parquet'}'").fetchall()
    assert dict(table) == graded.labels
