"""A project from elsewhere: nothing it names is used before the user agrees."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import trustescalate
from tests.support.command_line import cli
from tests.support.projects import calibrate, edit, run, simulated, write_project
from tests.support.servers import FaultServer

MINE = '[[judges]]\nname = "mine"\nbackend = "callable"\nfunction = "mine:judge"\nversion = "1"\n'
CODE = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\ndef judge(item):\n    return 0.9\n"
WAYS = [("judges", "list"), ("check",), ("plan",), ("calibrate", "--dry-run"), ("run", "--dry-run")]


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("TRUSTESCALATE_TRUST", raising=False)


@pytest.fixture
def coded(tmp_path: Path) -> Path:
    config = write_project(tmp_path / "project", simulated("small", "XS") + MINE)
    (config.parent / "mine.py").write_text(CODE)
    return config


def served(tmp_path: Path, url: str, **more: str) -> Path:
    lines = "".join(f'{key} = "{value}"\n' for key, value in more.items())
    judge = f'[[judges]]\nname = "api"\nbackend = "openai"\nmodel = "m"\nbase_url = "{url}"\n{lines}'
    return write_project(tmp_path / "project", judge)


# ── code ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("words", WAYS, ids=" ".join)
def test_what_asks_no_judge_imports_nothing(coded: Path, words: tuple[str, ...]) -> None:
    result = cli(*words, "--config", coded)
    assert result.exit_code == 0, result.output
    assert not (coded.parent / "ran").exists()


def test_the_list_shows_the_fingerprint_that_the_certificate_holds(coded: Path) -> None:
    rows = json.loads(cli("judges", "list", "--json", "--config", coded).stdout)["judges"]
    sealed = {seal.judge: seal.fingerprint for seal in calibrate(coded).judges}
    assert {row["name"]: row["fingerprint"] for row in rows} == sealed
    (coded.parent / "mine.py").write_text(CODE + "judge = max(judge, judge, key=id)\njudges = judge\n")
    edit(coded, "mine:judge", "mine:judges")
    assert "not imported" in cli("judges", "list", "--config", coded).stdout


def test_code_runs_after_trust_alone_and_trust_is_remembered(coded: Path) -> None:
    refused = cli("calibrate", "--config", coded)
    assert refused.exit_code == 2
    assert "judge 'mine': runs the Python function mine:judge" in refused.stderr
    assert "--trust" in refused.stderr
    assert "TRUSTESCALATE_TRUST=1" in refused.stderr
    assert not (coded.parent / "ran").exists()
    assert cli("calibrate", "--trust", "--config", coded).exit_code in (0, 3)
    assert (coded.parent / "ran").exists()
    assert cli("judges", "bench", "--rows", "certify", "--config", coded).exit_code == 0
    edit(coded, "mine:judge", "mine:other")
    assert cli("calibrate", "--config", coded).exit_code == 2
    assert not any("trusted" in path.name for path in coded.parent.rglob("*"))


def test_the_environment_accepts_too(coded: Path) -> None:
    assert cli("calibrate", "--config", coded, TRUSTESCALATE_TRUST="0").exit_code == 2
    assert cli("calibrate", "--config", coded, TRUSTESCALATE_TRUST="1").exit_code in (0, 3)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("typed", "accepted"), [(b"y\n", True), (b"n\n", False), (b"\n", False)])
def test_a_terminal_is_asked_once(coded: Path, typed: bytes, accepted: bool) -> None:
    first, shown = _on_a_terminal(coded, typed)
    assert "mine:judge" in shown
    assert (first == 2) != accepted
    assert (coded.parent / "ran").exists() == accepted
    if accepted:
        assert "mine:judge" not in _on_a_terminal(coded, b"")[1]


def _on_a_terminal(config: Path, typed: bytes) -> tuple[int, str]:
    import pty

    controller, terminal = pty.openpty()
    code = "from trustescalate.cli import main; main()"
    child = subprocess.Popen(
        [sys.executable, "-c", code, "calibrate", "--config", str(config)],
        stdin=terminal, stdout=subprocess.DEVNULL, stderr=terminal, env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(terminal)
    os.write(controller, typed)
    parts, end = [], time.monotonic() + 60
    while time.monotonic() < end:
        try:
            part = os.read(controller, 65536)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    os.close(controller)
    return child.wait(30), b"".join(parts).decode("utf-8", "replace")


def test_one_place_opens_judges_and_asks_before() -> None:
    """A command that opened a backend elsewhere would go round the question."""
    package = Path(trustescalate.__file__).parent
    texts = {path.relative_to(package).as_posix(): path.read_text("utf-8") for path in package.rglob("*.py")}
    opens = {name for name, text in texts.items() if re.search(r"(?<!def )\bopen_backend\(", text)}
    assert opens == {"judges/registry.py"}
    calls = {
        name: re.findall(r"(?<!def )\bopen_judges\((.*?\n    +)\)", text, re.DOTALL)
        for name, text in texts.items()
    }
    assert {name for name, all_ in calls.items() for call in all_ if "opened=" not in call} == {
        "cascade/panel.py"
    }
    assert texts["cascade/panel.py"].index("hooks.before_asking()") < texts["cascade/panel.py"].index(
        "open_judges(\n"
    )


# ── hosts, keys, files ─────────────────────────────────────────────────────────────────────────────


def test_no_variable_leaves_before_trust(tmp_path: Path) -> None:
    with FaultServer() as server:
        config = served(tmp_path, server.url, api_key_env="MY_DATABASE")
        refused = cli("calibrate", "--config", config, MY_DATABASE="postgres-password")
        assert (refused.exit_code, server.stats.requests) == (2, 0)
        assert "MY_DATABASE" in refused.stderr
        assert cli("check", "--config", config).exit_code == 0


def test_a_new_host_is_named_and_the_users_own_is_not(tmp_path: Path) -> None:
    with FaultServer() as server:
        config = served(tmp_path, "https://models.example/v1")
        refused = cli("calibrate", "--config", config)
        assert refused.exit_code == 2
        assert "https://models.example" in refused.stderr
        own = ["--set", f"judges.api.base_url={server.url}"]
        assert cli("calibrate", "--config", config, *own).exit_code in (0, 3)
        assert server.stats.requests > 0
        plain = served(tmp_path, server.url)
        own = ["--set", "judges.api.base_url=https://models.invalid/v1", "--set", "judges.api.attempts=1"]
        assert cli("calibrate", "--config", plain, *own).exit_code == 3


@pytest.mark.parametrize("way", ["..", "link", "absolute"])
@pytest.mark.parametrize("words", [("check",), ("calibrate",), ("report",)], ids=" ".join)
def test_a_file_outside_is_not_read_before_trust(tmp_path: Path, way: str, words: tuple[str, ...]) -> None:
    config = write_project(tmp_path / "project", more='[task]\nrubric_file = "rubric.txt"\n')
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret of the user")
    if way == "link":
        (tmp_path / "project" / "rubric.txt").symlink_to(secret)
    else:
        edit(config, '"rubric.txt"', f'"{secret if way == "absolute" else "../secret.txt"}"')
    refused = cli(*words, "--config", config)
    assert refused.exit_code == 2
    assert "rubric_file" in refused.stderr
    assert cli("check", "--trust", "--config", config).exit_code == 0
    assert cli("check", "--config", config).exit_code == 0


# ── links out of the folder ────────────────────────────────────────────────────────────────────────


def test_a_run_with_a_link_out_is_refused(tmp_path: Path) -> None:
    config = write_project(tmp_path / "project")
    calibrate(config)
    folder = config.parent / "runs" / run(config).header.id
    to = ("--to", tmp_path / "out.csv")
    ways = (("report",), ("gate",), ("run", "--resume", "latest"), ("export", "--as", "csv", *to))
    for name in ("items.jsonl", "run.json", "decisions.jsonl", "judgments.jsonl"):
        outside = tmp_path / name
        (folder / name).rename(outside)
        (folder / name).symlink_to(outside)
        before = outside.read_bytes()
        for words in ways:
            result = cli(*words, "--config", config)
            assert result.exit_code == 2, (name, words, result.output)
            assert "leads out of the project folder" in result.stderr
        assert outside.read_bytes() == before
        outside.rename(folder / name)


def test_a_link_to_a_run_is_no_run_of_its_own(tmp_path: Path) -> None:
    config = write_project(tmp_path)
    calibrate(config)
    run_id = run(config).header.id
    (tmp_path / "runs" / "zzz-latest").symlink_to(run_id)
    gated = cli("gate", "--config", config)
    assert gated.exit_code in (0, 1, 3)
    assert (tmp_path / "runs" / run_id / "decision.json").exists()


def test_a_report_is_never_written_through_a_link(tmp_path: Path) -> None:
    config, outside = write_project(tmp_path / "project"), tmp_path / "outside"
    calibrate(config)
    outside.write_text("theirs")
    names = ("report.html", "report.md", "report.json")
    for name in names:
        (config.parent / name).symlink_to(outside)
        (config.parent / f".{name}.{os.getpid()}.draft").symlink_to(outside)
    assert cli("report", "--config", config).exit_code == 0
    assert outside.read_text() == "theirs"
    assert not any((config.parent / name).is_symlink() for name in names)
