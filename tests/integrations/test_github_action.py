"""The action's steps, run as a runner does: exit codes, comments, annotations, and no secret anywhere."""

import asyncio
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.actions import ROOT, Comments, Job, WarmPython, action, as_shown, event, run_action
from tests.support.endpoints import CANARY
from tests.support.servers import FaultServer
from trustescalate.project import Project

pytestmark = pytest.mark.slow
FORK = event(head="stranger/repo")
ENDPOINT = """\
version = 1
[task]
kind = "binary"
question = "Is the response correct?"
[guarantee]
alpha = 0.7
delta = 0.2
pilot = 5
[ensemble]
annotators = 1
shots = 0
[[judges]]
name = "judge"
backend = "openai"
model = "m"
base_url = "{url}"
api_key_env = "TEAM_API_KEY"
[gate]
min_coverage = 0.1
"""
SIGNS = {"pass": "✅", "fail": "❌", "undecided": "⚠️"}


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with recorded votes and a certificate, and 40 items to judge."""
    folder = tmp_path_factory.mktemp("certified") / "project"
    shutil.copytree(ROOT / "examples" / "pass-fail", folder)
    labelled = (folder / "annotations.jsonl").read_text("utf-8")
    rows = (folder / "items.jsonl").read_text("utf-8").splitlines()
    few = [row for row in rows if f'"{json.loads(row)["id"]}"' not in labelled][:40]
    (folder / "few.jsonl").write_text("\n".join(few), "utf-8")
    asyncio.run(Project.open(folder / "trustescalate.toml").calibrate())
    return folder


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with WarmPython(tmp_path_factory.mktemp("python")) as python:
        yield python.folder


@pytest.fixture
def api() -> Iterator[Comments]:
    with Comments() as comments:
        yield comments


def gate(project: Path, api: Comments, python: Path, **given: str) -> Job:
    inputs = {
        "version": "installed",
        "items": "few.jsonl",
        **{name.replace("_", "-"): value for name, value in given.items()},
    }
    return run_action(project, inputs, payload=event(), api=api.url, python=python, OPENAI_API_KEY=CANARY)


def copied(project: Path, folder: Path) -> Path:
    return Path(shutil.copytree(project, folder / "work"))


def must_hide(job: Job, api: Comments, folder: Path, secret: str = CANARY) -> None:
    """No secret is in what anybody can read: the log as shown, the summary, outputs, comments, files."""
    assert f"::add-mask::{secret}" in job.log.splitlines()
    assert job.log.index(f"::add-mask::{secret}") < job.log.index("::stop-commands::")
    shown = [as_shown(job.log), job.summary, json.dumps(job.outputs), json.dumps(api.rows)]
    assert not [text for text in shown if secret in text]
    files = [path for place in (folder, folder.parent) for path in place.rglob("*") if path.is_file()]
    assert not [path for path in files if secret.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("word", "code", "override", "annotated"),
    [
        ("fail", 1, "gate.min_coverage=0.99", "min_coverage"),
        ("undecided", 3, "gate.min_agreement=0.95", "min_agreement"),
    ],
)
def test_what_does_not_pass_fails_the_job(
    certified: Path,
    api: Comments,
    warm: Path,
    tmp_path: Path,
    word: str,
    code: int,
    override: str,
    annotated: str,
) -> None:
    folder = copied(certified, tmp_path)
    job = gate(folder, api, warm, set=override)
    assert (job.code, job.outputs["verdict"], job.outputs["exit-code"]) == (code, word, str(code))
    (row,) = api.rows
    assert f"## {SIGNS[word]} Release gate: {word}\n" in row["body"]
    assert f"| {word} |" in row["body"]
    lines = (folder / "trustescalate.toml").read_text("utf-8").splitlines()
    number = next(n for n, line in enumerate(lines, 1) if line.startswith(annotated))
    (error,) = re.findall(r"^::error (.*?)::", job.log, re.MULTILINE)
    assert error.startswith(f"file=trustescalate.toml,line={number},title=Release gate%3A ")
    assert (folder / job.outputs["report"]).is_file()
    assert (folder / job.outputs["junit"]).is_file()
    must_hide(job, api, folder)


def test_a_pass_creates_a_comment_and_the_same_result_again_writes_nothing(
    certified: Path, api: Comments, warm: Path, tmp_path: Path
) -> None:
    folder = copied(certified, tmp_path)
    job = gate(folder, api, warm)
    assert (job.code, job.outputs["verdict"]) == (0, "pass")
    assert 0.5 <= float(job.outputs["coverage"]) <= 1
    assert job.outputs["agreement"] == "0.9"
    assert "::error" not in job.log
    assert api.tokens == {"Bearer ghs_loopback-token-1"}
    (row,) = api.rows
    assert "## ✅ Release gate: pass\n" in row["body"]
    assert job.outputs["run-id"] not in row["body"]
    assert job.outputs["run-id"] in re.sub("<!-- -->", "", job.summary)
    again = gate(folder, api, warm, run="latest")  # the recorded run, without judging
    assert (again.code, again.outputs["run-id"]) == (0, job.outputs["run-id"])
    assert api.written == ["POST"]
    assert "comment on pull request 7: unchanged" in again.log


def test_a_missing_certificate_is_no_pass(certified: Path, api: Comments, warm: Path, tmp_path: Path) -> None:
    folder = copied(certified, tmp_path)
    (folder / "certificate.json").unlink()
    job = gate(folder, api, warm)
    assert (job.code, job.outputs["verdict"], job.outputs["coverage"]) == (3, "undecided", "")
    (row,) = api.rows
    assert "## ⚠️ Release gate: undecided\n\n**certificate.json: there is no certificate yet**" in row["body"]
    assert "there is no certificate yet" in job.summary
    assert re.search(r"^::error file=trustescalate.toml,line=1,.*no certificate yet", job.log, re.MULTILINE)
    must_hide(job, api, folder)


def test_a_fork_is_judged_from_recorded_votes_and_gets_no_comment(
    certified: Path, api: Comments, warm: Path, tmp_path: Path
) -> None:
    folder = copied(certified, tmp_path)
    job = run_action(
        folder, {"version": "installed", "items": "few.jsonl"}, payload=FORK, api=api.url, python=warm
    )
    assert (job.code, job.outputs["verdict"]) == (0, "pass")
    assert api.asked == []
    assert "::notice::no comment: " in job.log
    assert job.summary.startswith("> Judged from recorded votes, without network and secrets")
    assert "## ✅ Release gate: pass\n" in job.summary


@pytest.mark.parametrize("name", ["GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"])
def test_a_fork_that_names_a_file_of_the_runner_as_its_key_moves_nothing(
    certified: Path, api: Comments, warm: Path, tmp_path: Path, name: str
) -> None:
    folder = copied(certified, tmp_path)
    config, url = folder / "trustescalate.toml", "http://127.0.0.1:9/v1"
    judge = f'[[judges]]\nname = "x"\nbackend = "openai"\nmodel = "m"\nbase_url = "{url}"\n'
    config.write_text(f'{config.read_text("utf-8")}\n{judge}api_key_env = "{name}"\n', "utf-8")
    job = run_action(
        folder, {"version": "installed", "items": "few.jsonl"}, payload=FORK, api=api.url, python=warm
    )
    assert job.code != 0
    assert job.summary.startswith("> Judged from recorded votes, without network and secrets")
    assert job.outputs["verdict"] in ("undecided", "error")
    assert not (folder / "offline").exists()


def test_a_fork_is_judged_from_the_cache_alone_or_not_at_all(
    certified: Path, api: Comments, warm: Path, tmp_path: Path
) -> None:
    folder, key = tmp_path / "work", "team-key-4711-abcdef"
    folder.mkdir()
    for name, most in (("items.jsonl", 60), ("annotations.jsonl", 180), ("few.jsonl", 20)):
        rows = (certified / name).read_text("utf-8").splitlines()
        (folder / name).write_text("\n".join(rows[:most]), "utf-8")
    given = {"version": "installed", "items": "few.jsonl"}
    with FaultServer(lambda body: {"pass": 0.97, "fail": 0.03}) as server:
        config = folder / "trustescalate.toml"
        config.write_text(ENDPOINT.format(url=server.url), "utf-8")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TEAM_API_KEY", key)
            asyncio.run(Project.open(config).calibrate())
        job = run_action(folder, given, payload=event(), api=api.url, python=warm, TEAM_API_KEY=key)
        assert (job.code, job.outputs["verdict"]) == (0, "pass"), job.log
        must_hide(job, api, folder, key)
        asked = server.stats.requests
        assert asked >= 20
        job = run_action(folder, given, payload=FORK, api=api.url, python=warm)
        assert (job.code, job.outputs["verdict"]) == (0, "pass"), job.log
        shutil.rmtree(folder / ".trustescalate")
        job = run_action(folder, {**given, "trust": "true"}, payload=FORK, api=api.url, python=warm)
        assert (job.code, job.outputs["verdict"], job.outputs["run-id"]) == (3, "undecided", "")
        assert "the cache does not hold every vote that this run needs" in job.summary
        assert server.stats.requests == asked


def test_a_script_holds_no_expression_and_the_token_reaches_one_step() -> None:
    steps = action()["runs"]["steps"]
    assert not [step for step in steps if "${{" in step["run"]]
    assert {step["shell"] for step in steps} == {"bash"}
    assert [step["name"] for step in steps if "inputs.token" in json.dumps(step)] == [
        "Comment on the pull request"
    ]


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        ("1.2.3", ["trustescalate==1.2.3"]),
        ("$(touch x); y", ["trustescalate==$(touch x); y"]),
        ("", [str(ROOT)]),
    ],
)
def test_the_version_is_pinned_and_is_one_word(version: str, wanted: list[str], tmp_path: Path) -> None:
    (tmp_path / "python").write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$WORDS"; exit 9\n', "utf-8")
    (tmp_path / "python").chmod(0o755)
    words = tmp_path / "words"
    work = tmp_path / "work"
    work.mkdir()
    job = run_action(work, {"version": version}, python=tmp_path, WORDS=str(words))
    assert (job.code, job.steps) == (9, 1)
    given = words.read_text("utf-8").splitlines()
    assert given[:4] == ["-P", "-m", "pip", "install"]
    assert given[-1:] == wanted
    assert not list(work.iterdir())
