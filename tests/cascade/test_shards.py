"""Shards, judged apart and merged, are the run of one process; shards of anything else are refused."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import cli
from tests.support.criteria import openai_judge, serving, write_criteria
from tests.support.documents import ROOT
from tests.support.projects import Calls, calibrate, comparable, edit, run, write_project
from tests.support.servers import FaultServer
from trustescalate.cascade.attempt_log import read_attempts
from trustescalate.cascade.run_folder import RunFolder, run_id_of, whole_run_ids
from trustescalate.cascade.shards import part_of
from trustescalate.errors import BudgetReached, DataError, NotMeasurable, UsageError
from trustescalate.project import Project
from trustescalate.records import Item, Run
from trustescalate.records.criteria import row_id, row_name
from trustescalate.records.jsonl import encode


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a calibrated project without a run."""
    config = write_project(tmp_path_factory.mktemp("certified"))
    calibrate(config)
    return config.parent


@pytest.fixture(scope="module")
def judged(certified: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run, list[str]]:
    """A project with a whole run and with all three shards of it, and both."""
    folder = tmp_path_factory.mktemp("judged") / "project"
    shutil.copytree(certified, folder)
    whole = run(folder / "trustescalate.toml")
    shards = [run(folder / "trustescalate.toml", shard=f"{number}/3").header.id for number in (1, 2, 3)]
    return folder, whole, shards


@pytest.fixture
def folder(judged: tuple[Path, Run, list[str]], tmp_path: Path) -> Path:
    """A copy of the project with the whole run and its shards."""
    shutil.copytree(judged[0], tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def shards(judged: tuple[Path, Run, list[str]]) -> list[str]:
    return judged[2]


def merged(folder: Path, runs: Sequence[object]) -> Run:
    return Project.open(folder / "trustescalate.toml").merge([str(name) for name in runs])


def refused(folder: Path, runs: Sequence[object]) -> str:
    before = {path.name for path in (folder / "runs").iterdir()} - {".attempts.jsonl"}
    with pytest.raises(UsageError) as caught:
        merged(folder, runs)
    assert {path.name for path in (folder / "runs").iterdir()} - {".attempts.jsonl"} == before
    with pytest.raises(NotMeasurable, match="the last attempt to run"):
        Project.open(folder / "trustescalate.toml").gate()
    return f"{caught.value.message}; {caught.value.hint}"


# ── the same run ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_merged_shards_are_the_run_of_one_process(
    folder: Path, judged: tuple[Path, Run, list[str]], shards: list[str]
) -> None:
    project = Project.open(folder / "trustescalate.toml")
    made = merged(folder, [shards[1], folder / "runs" / shards[2], shards[0]])
    whole = project.load_run(judged[1].header.id)
    assert comparable(made) == comparable(whole)
    assert made.header.merged == tuple(shards)
    assert made.header.items_digest == whole.header.items_digest
    assert list(made.items) == list(whole.items)
    assert comparable(project.load_run(made.header.id)) == comparable(whole)
    assert project.load_run().header.id == made.header.id, "the latest run"
    reports = [
        json.loads(project.report(one.header.id)[1].with_suffix(".json").read_text()) for one in (made, whole)
    ]
    assert reports[0]["measures"] == reports[1]["measures"]
    verdicts = [project.gate(name)[0] for name in (None, whole.header.id)]
    checks = [
        [(check.name, check.status, check.observed) for check in verdict.checks if check.name != "which run"]
        for verdict in verdicts
    ]
    assert checks[0] == checks[1]
    config = folder / "trustescalate.toml"
    compared = cli("compare", whole.header.id, made.header.id, "--config", config)
    assert compared.exit_code == 0, compared.output
    assert cli("export", "sarif", "--run", made.header.id, "--config", config).exit_code in (0, 2)


@pytest.mark.slow
def test_shards_in_processes_of_their_own_and_folders(certified: Path, tmp_path: Path) -> None:
    """Two machines have a copy of the project each, and a third one merges their folders."""
    places = [tmp_path / name for name in ("one", "two", "home")]
    for place in places:
        shutil.copytree(certified, place)
    command = [sys.executable, "-m", "trustescalate", "run", "--config"]
    processes = [
        subprocess.Popen([*command, str(place / "trustescalate.toml"), "--shard", f"{number}/2"], cwd=ROOT)
        for number, place in enumerate(places[:2], 1)
    ]
    assert [process.wait(120) for process in processes] == [0, 0]
    folders = [path for place in places[:2] for path in (place / "runs").iterdir() if path.is_dir()]
    config = places[2] / "trustescalate.toml"
    result = cli("merge", *folders, "--config", config, "--json")
    assert result.exit_code == 0, result.output
    project = Project.open(config)
    made = project.load_run(json.loads(result.stdout)["run"])
    assert comparable(made) == comparable(run(config))
    assert project.gate(made.header.id)[0].status in ("pass", "fail", "undecided")


@pytest.mark.slow
def test_an_uncertified_run_has_shards_too(certified: Path, tmp_path: Path) -> None:
    shutil.copytree(certified, tmp_path / "project")
    config = tmp_path / "project" / "trustescalate.toml"
    (config.parent / "certificate.json").unlink()
    how: dict[str, Any] = {"uncertified": True, "thresholds": {"small": 0.8}}
    whole = run(config, **how)
    runs = [run(config, shard=f"{number}/2", **how).header.id for number in (1, 2)]
    made = merged(config.parent, runs)
    assert made.uncertified
    assert comparable(made)["decisions"] == comparable(whole)["decisions"]
    assert comparable(made)["judgments"] == comparable(whole)["judgments"]


@pytest.mark.slow
def test_shards_of_a_file_of_items(certified: Path, tmp_path: Path) -> None:
    shutil.copytree(certified, tmp_path / "project")
    config = tmp_path / "project" / "trustescalate.toml"
    path = config.with_name("some.jsonl")
    path.write_text("".join(config.with_name("items.jsonl").read_text().splitlines(keepends=True)[-7:]))
    first = run(config, items=path, shard="1/2")
    again = run(config, items=path, shard="1/2", resume="latest")
    assert first.header.id == again.header.id
    with pytest.raises(UsageError, match=r"judges the items of some\.jsonl"):
        run(config, items=config.with_name("items.jsonl"), shard="1/2", resume="latest")
    second = run(config, items=path, shard="2/2", resume="latest")
    assert (len(first.items), len(second.items)) == (4, 3)
    made = merged(config.parent, [first.header.id, second.header.id])
    assert made.header.items_file == "some.jsonl"
    assert comparable(made) == comparable(run(config, items=path))


@pytest.mark.slow
def test_the_rows_of_criteria_are_asked_together_and_cost_what_they_cost_one_process(tmp_path: Path) -> None:
    with serving() as server:
        config = write_criteria(tmp_path / "one", openai_judge(server.url), labelled=0, unlabelled=7)
        shutil.copytree(config.parent, tmp_path / "two")
        whole, asked = run(config, uncertified=True), server.stats.requests
        other = tmp_path / "two" / config.name
        runs = [run(other, uncertified=True, shard=f"{number}/3") for number in (1, 2, 3)]
        assert server.stats.requests == 2 * asked
    assert [len({row_name(item).item_id for item in part.items}) for part in runs] == [3, 2, 2]
    together = merged(other.parent, [part.header.id for part in runs])
    assert comparable(together)["decisions"] == comparable(whole)["decisions"]
    votes = [[vote for row in made.judgments for vote in row.votes] for made in (together, whole)]
    assert [vote.probs for vote in votes[0]] == [vote.probs for vote in votes[1]]
    assert sum(vote.usage.calls for vote in votes[0]) == sum(vote.usage.calls for vote in votes[1]) == asked


# ── the split ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("count", "of"), [(1, 1), (7, 3), (8, 8), (1000, 7)])
def test_the_split_is_balanced_and_leaves_nothing_out(count: int, of: int) -> None:
    items = tuple(Item(f"q{n}", "?", ("x",)) for n in range(count))
    parts = [part_of(items, number, of) for number in range(1, of + 1)]
    assert [item for part, _ in parts for item in part] == list(items)
    sizes = [len(part) for part, _ in parts]
    assert max(sizes) - min(sizes) <= 1
    assert {(shard.items, shard.items_digest) for _, shard in parts} == {(count, parts[0][1].items_digest)}


@pytest.mark.parametrize("of", [1, 2, 3, 5])
def test_rows_of_an_item_stay_together_wherever_they_stand(of: int) -> None:
    def row(name: str, criterion: str) -> Item:
        return Item(row_id(name, criterion), "?", ("x",), meta={"criterion": criterion})

    names = [f"q{n}" for n in range(5)]
    items = [row(name, criterion) for name in names for criterion in ("x", "y", "z")]
    apart = [items.pop(at) for at in (10, 4, 1)]  # rows whose labels put them last
    whole = (*items, *apart)
    parts = [part_of(whole, number, of) for number in range(1, of + 1)]
    assert Counter(item.id for part, _ in parts for item in part) == Counter(item.id for item in whole)
    homes = {
        name: {n for n, (part, _) in enumerate(parts) for item in part if item.id.startswith(name)}
        for name in names
    }
    assert all(len(where) == 1 for where in homes.values()), homes
    for part, shard in parts:
        assert [whole[place] for start, end in shard.places for place in range(start, end)] == list(part)
        assert all(end < start for (_, end), (start, _) in pairwise(shard.places))
    sizes = Counter(next(iter(where)) for where in homes.values())
    assert max(sizes.values()) - min(sizes.values()) <= 1
    with pytest.raises(UsageError, match="5 items cannot be split into 6 shards"):
        part_of(whole, 1, 6)


@pytest.mark.parametrize(
    "text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3", " 1/2", "01/2", "1/9999999"]
)
def test_what_is_no_shard_is_refused_and_is_an_attempt(certified: Path, tmp_path: Path, text: str) -> None:
    shutil.copytree(certified, tmp_path / "project")
    result = cli("run", "--shard", text, "--config", tmp_path / "project" / "trustescalate.toml")
    assert result.exit_code == 2
    assert "1 ≤ i ≤ n" in result.stderr
    assert read_attempts(tmp_path / "project" / "runs")[-1].event == "failed"


# ── a shard alone ──────────────────────────────────────────────────────────────────────────────────


def test_a_shard_alone_is_no_run_to_gate(folder: Path, shards: list[str]) -> None:
    config = folder / "trustescalate.toml"
    for command in (
        ["gate"],
        ["report"],
        ["gate", shards[0]],
        ["report", shards[0]],
        ["compare", shards[0], shards[1]],
    ):
        result = cli(*command, "--config", config)
        assert result.exit_code == 2, command
        assert "of 3, and not the whole run" in result.stderr
        assert "trustescalate merge" in result.stderr
    shown = cli("run", "--shard", "2/3", "--resume", "latest", "--config", config)
    assert shown.exit_code == 0
    assert "shard 2 of 3" in shown.stdout
    assert "trustescalate gate" not in shown.stdout + shown.stderr


@pytest.mark.parametrize("claim", ["expected", pytest.param("batch", marks=pytest.mark.slow)])
def test_a_claim_about_all_items_has_no_shards(
    tmp_path: Path, claim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if claim == "batch":
        guarantee = 'path = "common"\nclaim = "batch"\nlabel_budget = 120'
        config = write_project(tmp_path, guarantee=guarantee, labelled=300, unlabelled=0)
    else:
        config = write_project(tmp_path, guarantee='claim = "expected"')
        edit(config, "alpha = 0.3\ndelta = 0.2\npilot = 20\n", "alpha = 0.12\n")
    calibrate(config)
    calls = Calls(monkeypatch)
    result = cli("run", "--shard", "1/2", "--config", config)
    assert result.exit_code == 2
    assert f'the claim "{claim}" decides all items of a run together' in result.stderr
    assert calls.asked == []


# ── refusals ───────────────────────────────────────────────────────────────────────────────────────


def test_a_missing_a_doubled_and_no_shard(
    folder: Path, shards: list[str], judged: tuple[Path, Run, list[str]]
) -> None:
    assert "1 of 3 shards missing: 2; judge it: `trustescalate run --shard 2/3`" in refused(
        folder, [shards[0], shards[2]]
    )
    assert "shard 1 of 3 is given twice" in refused(folder, [*shards, shards[0]])
    assert "is no shard" in refused(folder, [*shards, judged[1].header.id])
    assert "no shard is named" in refused(folder, [judged[1].header.id])
    assert "there is no run 'x'" in refused(folder, [*shards, "x"])
    assert "names its shards" in refused(folder, ["latest"])


def test_shards_of_other_numbers_are_no_parts_of_this_run(folder: Path, shards: list[str]) -> None:
    other = run(folder / "trustescalate.toml", shard="2/2").header.id
    assert "number of shards: 3 → 2" in refused(folder, [shards[0], other, shards[2]])


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "configuration": (
        lambda folder: edit(folder / "trustescalate.toml", "min_coverage = 0.3", "min_coverage = 0.2"),
        "gate.min_coverage: 0.3 → 0.2",
    ),
    "certificate": (
        lambda folder: (
            edit(folder / "trustescalate.toml", "alpha = 0.3", "alpha = 0.35"),
            calibrate(folder / "trustescalate.toml"),
        ),
        "certificate: ",
    ),
    "items": (
        lambda folder: edit(
            folder / "items.jsonl",
            (line := (folder / "items.jsonl").read_text().splitlines(keepends=True)[-1]),
            line.replace('"responses": ["', '"responses": ["Other. '),
        ),
        "the items: 40 → 40, or others",
    ),
    "number of items": (
        lambda folder: edit(
            folder / "items.jsonl", (folder / "items.jsonl").read_text().splitlines(keepends=True)[-1], ""
        ),
        "the items: 40 → 39, or others",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_shards_of_different_runs_are_refused(folder: Path, shards: list[str], what: str) -> None:
    change, sentence = CHANGES[what]
    change(folder)
    other = run(folder / "trustescalate.toml", shard="2/3").header.id
    text = refused(folder, [shards[0], other, shards[2]])
    assert "are of different runs" in text
    assert sentence in text


def test_other_judges_are_refused(folder: Path, shards: list[str]) -> None:
    """A header that was made consistent by hand, of a judge with another fingerprint."""
    path = folder / "runs" / shards[1]
    opened = RunFolder.open(path)
    basis = {
        name: "0" * 64 if name == "judge small" else value for name, value in opened.header.basis.items()
    }
    header = replace(opened.header, basis=basis)
    header = replace(header, id=run_id_of(header))
    moved = path.rename(path.with_name(header.id))
    (moved / "run.json").write_bytes(encode(header) + b"\n")
    assert "judge small differs" in refused(folder, [shards[0], header.id, shards[2]])


def test_edited_shards_are_refused(folder: Path, shards: list[str]) -> None:
    decisions = folder / "runs" / shards[1] / "decisions.jsonl"
    rows = decisions.read_text().splitlines(keepends=True)
    decisions.write_text("".join(rows[::-1]))
    assert "was changed after the run" in refused(folder, shards)
    decisions.write_text("".join(rows))
    items = folder / "runs" / shards[2] / "items.jsonl"
    items.write_text(items.read_text().replace("a", "e", 1))
    with pytest.raises(DataError):
        merged(folder, shards)


def test_lost_rows_make_a_shard_incomplete(folder: Path, shards: list[str]) -> None:
    decisions = folder / "runs" / shards[1] / "decisions.jsonl"
    decisions.write_text("".join(decisions.read_text().splitlines(keepends=True)[:-1]))
    text = refused(folder, shards)
    assert "shard 2 of 3" in text
    assert f"run --shard 2/3 --resume {shards[1]}" in text
    run(folder / "trustescalate.toml", resume=shards[1])
    assert len(merged(folder, shards).decisions) == 40


# ── resume and merge again ─────────────────────────────────────────────────────────────────────────


def test_a_stopped_shard_is_resumed_and_stays_that_shard(
    certified: Path, judged: tuple[Path, Run, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(certified, tmp_path / "project")
    config = tmp_path / "project" / "trustescalate.toml"
    project = Project.open(config)
    with pytest.raises(BudgetReached):
        run(config, shard="1/2", budget=project.config.budget.model_copy(update={"calls": 9}))
    stopped = RunFolder.open(project.run_path(project.run_ids()[-1]))
    second = run(config, shard="2/2", resume="latest")
    text = refused(config.parent, [stopped.header.id, second.header.id])
    assert "shard 1 of 2" in text
    assert "is not complete" in text
    with pytest.raises(UsageError, match="is shard 1 of 2, and not shard 2 of 2"):
        run(config, shard="2/2", resume=stopped.header.id)
    calls = Calls(monkeypatch)
    resumed = run(config, shard="1/2", resume="latest")
    assert calls.asked
    assert resumed.header.id == stopped.header.id
    assert resumed.header.shard == stopped.header.shard
    calls.asked.clear()
    assert run(config, resume=stopped.header.id).header.rows == resumed.header.rows
    made = merged(config.parent, [stopped.header.id, second.header.id])
    assert calls.asked == []
    assert comparable(made)["decisions"] == comparable(judged[1])["decisions"]


@pytest.mark.slow
def test_a_killed_shard_is_resumed_and_merged(tmp_path: Path) -> None:
    """SIGKILL while a request is in flight: only that one is asked again."""
    judge = '[[judges]]\nname = "small"\nbackend = "openai"\nmodel = "m"\nconcurrency = 1\n'
    with FaultServer(latency=0.02) as server:
        config = write_project(
            tmp_path / "one", f'{judge}base_url = "{server.url}"\n', labelled=0, unlabelled=12
        )
        shutil.copytree(config.parent, tmp_path / "two")
        whole, asked = run(config, uncertified=True), len(server.stats.bodies)
        other = tmp_path / "two" / config.name
        words = ["run", "--uncertified", "--trust", "--config", str(other), "--shard"]
        process = subprocess.Popen([sys.executable, "-m", "trustescalate", *words, "1/2"], cwd=ROOT)
        end = time.monotonic() + 60
        while len(server.stats.bodies) < asked + 3:
            assert time.monotonic() < end
            time.sleep(0.005)
        process.kill()
        assert process.wait(10) == -signal.SIGKILL
        (first,) = Project.open(other).run_ids()
        with pytest.raises(UsageError, match=r"shard 1 of 2 .* is not complete"):
            merged(other.parent, [first, run(other, uncertified=True, shard="2/2").header.id])
        resumed = run(other, uncertified=True, shard="1/2", resume="latest")
        assert asked <= len(server.stats.bodies) - asked <= asked + 1
    assert resumed.header.id == first
    made = merged(other.parent, Project.open(other).run_ids())
    assert comparable(made)["decisions"] == comparable(whole)["decisions"]


def test_merging_again_gives_the_run_of_before(folder: Path, shards: list[str]) -> None:
    made = merged(folder, shards)
    files = {path: path.read_bytes() for path in (folder / "runs" / made.header.id).iterdir()}
    later = run(folder / "trustescalate.toml")
    again = merged(folder, [*reversed(shards), made.header.id])
    assert again.header.id == made.header.id != later.header.id
    assert {path: path.read_bytes() for path in (folder / "runs" / made.header.id).iterdir()} == files
    verdict, path = Project.open(folder / "trustescalate.toml").gate()
    assert path.parent.name == made.header.id, "the last attempt"
    assert any(check.observed.startswith(made.header.id) for check in verdict.checks)


def test_the_monitor_leaves_shards_out(folder: Path, shards: list[str]) -> None:
    made = merged(folder, shards)
    assert not {*shards} & {*whole_run_ids(folder)}
    assert made.header.id in whole_run_ids(folder)
