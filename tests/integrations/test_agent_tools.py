"""The tools for coding agents: the command line's results, in one folder, without keys or false passes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import cli
from tests.support.documents import ROOT
from tests.support.endpoints import CANARY
from tests.support.projects import edit, simulated, write_project
from tests.support.servers import Canned, FaultServer
from trustescalate.integrations.agent_tools import MOST_CHARACTERS, AgentTools, answer

CONFIG = "project/trustescalate.toml"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds the project `project`: recorded votes on single answers."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("TRUSTESCALATE_TRUST", raising=False)
    shutil.copytree(ROOT / "examples" / "pass-fail", tmp_path / "folder" / "project")
    return tmp_path / "folder"


def ask(tool: Callable[..., dict[str, Any]], config: str = CONFIG, **given: Any) -> dict[str, Any]:
    """The result of a tool that is no error."""
    body, failed = answer(lambda: tool(config, **given))
    assert not failed, body
    return body


def refused(tool: Callable[..., dict[str, Any]], config: str = CONFIG, **given: Any) -> dict[str, Any]:
    """The result of a tool that is an error, with its exit code."""
    body, failed = answer(lambda: tool(config, **given))
    assert failed, body
    assert set(body) - {"notes"} == {"exit_code", "hint", "error"}
    assert body["exit_code"] != 0
    return body


def printed(*words: object) -> Any:
    return json.loads(cli(*words, "--json").stdout)


def accepted(tools: AgentTools, config: str = CONFIG, **given: Any) -> dict[str, Any]:
    """The result of a calibration whose cost was accepted."""
    return ask(tools.calibrate, config, accept=ask(tools.calibrate, config, **given)["accept"], **given)


# ── the results of the command line ────────────────────────────────────────────────────────────────


def test_check_and_plan_are_those_of_the_command_line(folder: Path) -> None:
    tools, config = AgentTools(folder), folder / CONFIG
    for body, words in (
        (ask(tools.check), ("check",)),
        (ask(tools.plan), ("plan",)),
        (ask(tools.plan, alpha=0.2, disagreement=0.05), ("plan", "--alpha", 0.2, "--disagreement", 0.05)),
    ):
        assert {"exit_code": 0, "hint": body["hint"], **printed(*words, "--config", config)} == body


def test_a_plan_reads_labels_only_where_it_is_told_to(folder: Path) -> None:
    tools, ledger = AgentTools(folder), (folder / CONFIG).with_name("ledger.jsonl")
    accepted(tools)
    before = ledger.read_bytes()
    assert ask(tools.plan)["disagreement"] == 0.08
    assert ledger.read_bytes() == before
    assert "used for choices" not in ask(tools.check)["facts"]
    assert refused(tools.plan, read_votes=True, disagreement=0.1)["exit_code"] == 2
    assert "labels" in AgentTools.plan.__doc__.partition("read_votes")[2]  # type: ignore[union-attr]


def test_a_plan_needs_no_project(folder: Path) -> None:
    assert ask(AgentTools(folder).plan, "trustescalate.toml", alpha=0.2)["alpha"] == 0.2
    assert refused(AgentTools(folder).plan, "other.toml", alpha=0.2)["exit_code"] == 2


def test_a_calibration_states_its_cost_first(folder: Path) -> None:
    tools, config = AgentTools(folder), folder / CONFIG
    before = sorted(folder.rglob("*"))
    stated = ask(tools.calibrate)
    assert stated["dry_run"] is True
    assert stated["cost"] == printed("calibrate", "--dry-run", "--config", config)
    assert stated["accept"] in stated["hint"]
    for wrong in ("yes", "true", stated["accept"].upper() + "0"):
        assert "not the code" in refused(tools.calibrate, accept=wrong)["error"]
    assert sorted(folder.rglob("*")) == before
    made = ask(tools.calibrate, accept=stated["accept"])
    assert (made["exit_code"], made["dry_run"], made["cost"]) == (0, False, stated["cost"])
    written = json.loads((folder / CONFIG).with_name("certificate.json").read_text())
    assert made["certificate"]["status"] == written["status"] == "certified"
    assert made["certificate"]["thresholds"] == written["thresholds"]


def test_a_code_belongs_to_one_cost_and_one_configuration(folder: Path) -> None:
    tools = AgentTools(folder)
    stated = ask(tools.calibrate)["accept"]
    assert ask(tools.calibrate, budget_usd=5)["accept"] != stated
    edit(folder / CONFIG, "alpha = 0.1", "alpha = 0.2")
    assert "not the code" in refused(tools.calibrate, accept=stated)["error"]
    assert not (folder / CONFIG).with_name("certificate.json").exists()


def test_no_certificate_is_exit_code_3_with_the_advice(folder: Path) -> None:
    edit(folder / CONFIG, "alpha = 0.1", "alpha = 0.02")
    made = accepted(AgentTools(folder))
    assert (made["exit_code"], made["certificate"]["status"]) == (3, "none")
    assert made["hint"] == f"no certificate: {made['certificate']['advice']}"


@pytest.mark.slow
def test_the_gate_is_that_of_the_command_line(folder: Path) -> None:
    tools, config = AgentTools(folder), folder / CONFIG
    assert refused(tools.gate)["exit_code"] == 3
    accepted(tools)
    assert cli("run", "--config", config).exit_code == 0
    for change, status, code in (("", "pass", 0), ("min_coverage = 0.99\n", "fail", 1)):
        config.write_text(f"{config.read_text().partition('[gate]')[0]}[gate]\n{change}")
        body = ask(tools.gate)
        assert (body["status"], body["exit_code"]) == (status, code)
        assert cli("gate", "--config", config).exit_code == code
        shown = printed("gate", "--config", config)
        assert {key: body[key] for key in shown} == shown
        assert ask(tools.gate, run=next((config.parent / "runs").glob("*/run.json")).parent.name) == body
    edit(config, "min_coverage = 0.99", "min_rate = 0.9\nmin_coverage = 0.1")
    (config.parent / "certificate.json").unlink()
    undecided = ask(tools.gate)
    assert (undecided["status"], undecided["exit_code"]) == ("undecided", 3)


def test_budgets_lower_the_limits_and_never_raise_them(tmp_path: Path) -> None:
    write_project(tmp_path / "project", more="[budget]\ncalls = 30\n")
    tools = AgentTools(tmp_path)
    costs = [ask(tools.calibrate, budget_calls=limit)["cost"]["calls"] for limit in (None, 10, 5000)]
    assert costs == [30, 10, 30]
    stated = ask(tools.calibrate, budget_calls=10)["accept"]
    assert refused(tools.calibrate, accept=stated, budget_calls=10)["exit_code"] == 4
    for wrong in (0, -1, float("inf"), float("nan")):
        assert refused(tools.calibrate, budget_usd=wrong)["exit_code"] == 2


def test_what_a_command_notes_is_in_its_result(folder: Path) -> None:
    with FaultServer(plan=lambda body, nth: Canned(400, {"error": {"message": "too long"}})) as server:
        served(folder / "served", server.url)
        body = refused(AgentTools(folder).calibrate, "served/trustescalate.toml", **stated(folder))
    assert any("too long" in note for note in body["notes"])


# ── the folder, trust and keys ─────────────────────────────────────────────────────────────────────


def served(folder: Path, url: str, **more: str) -> Path:
    lines = "".join(f'{key} = "{value}"\n' for key, value in more.items())
    judge = f'[[judges]]\nname = "api"\nbackend = "openai"\nmodel = "m"\nbase_url = "{url}"\n{lines}'
    return write_project(folder, judge)


def stated(folder: Path, config: str = "served/trustescalate.toml", **given: Any) -> dict[str, str]:
    return {"accept": ask(AgentTools(folder, **given).calibrate, config)["accept"]}


@pytest.mark.parametrize(
    "config", ["../else/trustescalate.toml", "/etc/hostname", "out/trustescalate.toml", "a\0b", "~"]
)
def test_a_path_out_of_the_folder_is_refused(folder: Path, config: str) -> None:
    shutil.copytree(folder / "project", folder.parent / "else")
    (folder / "out").symlink_to(folder.parent / "else")
    tools = AgentTools(folder, trust=True)
    for tool in (tools.check, tools.plan, tools.calibrate, tools.gate):
        body = refused(tool, config)
        assert body["exit_code"] == 2
        assert "leads out of" in body["error"] or config == "~"


def test_only_the_id_of_a_run_names_a_run(folder: Path) -> None:
    tools = AgentTools(folder)
    for wrong in ("../x", "/tmp", "runs/x", "..", "."):
        assert "is not the id of a run" in refused(tools.gate, run=wrong)["error"]
        assert "is not the id of a run" in refused(tools.gate, baseline=wrong)["error"]
    config = folder / CONFIG
    edit(config, "[gate]", '[gate]\nbaseline = "../../else/runs/x"\nmax_drop = 0.1')
    assert "leads out of" in refused(tools.gate)["error"]


def test_what_needs_trust_is_refused_with_the_list(folder: Path) -> None:
    served(folder / "served", "http://models.example.com/v1", api_key_env="HOME")
    tools, config = AgentTools(folder), "served/trustescalate.toml"
    assert ask(tools.check, config)["exit_code"] == 0
    body = refused(tools.calibrate, config, **stated(folder))
    assert body["exit_code"] == 2
    assert "sends texts to http://models.example.com" in body["error"]
    assert "sends the environment variable HOME" in body["error"]
    assert "--trust" in body["hint"]
    edit(folder / config, "[gate]", '[data]\nitems = "../../items.jsonl"\n[gate]')
    for tool in (tools.check, tools.plan, tools.calibrate, tools.gate):
        assert "leads out of the folder" in refused(tool, config)["error"]


def test_a_server_with_trust_uses_what_a_project_names(folder: Path) -> None:
    mine = '[[judges]]\nname = "mine"\nbackend = "callable"\nfunction = "mine:judge"\nversion = "1"\n'
    config = write_project(folder / "coded", simulated("small", "XS") + mine)
    ran = config.with_name("ran")
    code = (
        "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\ndef judge(item):\n    return 0.9\n"
    )
    config.with_name("mine.py").write_text(code)
    name, code = "coded/trustescalate.toml", stated(folder, "coded/trustescalate.toml")
    assert (
        "runs the Python function mine:judge" in refused(AgentTools(folder).calibrate, name, **code)["error"]
    )
    assert not ran.exists()
    ask(AgentTools(folder, trust=True).calibrate, name, **code)
    assert ran.exists()


def test_no_result_holds_a_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_API_KEY", CANARY)
    echo = Canned(400, {"error": {"message": f"bad key {CANARY}", "code": "x"}})
    with FaultServer(plan=lambda body, nth: echo) as server:
        config = served(folder / "served", server.url, api_key_env="JUDGE_API_KEY")
        edit(config, "[gate]", f'[task]\nquestion = "Which, {CANARY}?"\n[gate]')
        items = config.with_name("items.jsonl")
        items.write_text(items.read_text().replace('"id":"', f'"id":"{CANARY}\u202e', 1))
        tools, name = AgentTools(folder), "served/trustescalate.toml"
        bodies = [answer(lambda tool=tool: tool(name))[0] for tool in (tools.check, tools.plan, tools.gate)]
        bodies += [answer(lambda: tools.calibrate(name))[0]]
        bodies += [answer(lambda: tools.calibrate(name, accept=bodies[-1].get("accept", "x")))[0]]
    shown = json.dumps(bodies, ensure_ascii=False)
    assert CANARY not in shown
    assert "\u202e" not in shown


# ── bounds and errors ──────────────────────────────────────────────────────────────────────────────


def test_a_result_is_bounded_in_size() -> None:
    big = {
        "ids": [f"item {n}" for n in range(10**5)],
        "text": "x" * 10**6,
        "rows": {f"key {n}": ["y" * 500] * 500 for n in range(500)},
    }
    for value in (big, {"deep": [big] * 9}):
        body, failed = answer(lambda value=value: value)
        assert len(json.dumps(body)) <= MOST_CHARACTERS
        assert failed == ("error" in body)
        assert failed or "more" in json.dumps(body)
    assert answer(lambda: {"ids": list(range(100))})[0]["ids"][-1] == "… and 70 more"


@pytest.mark.parametrize(
    ("error", "code"),
    [(RuntimeError("odd"), 70), (PermissionError(13, "Permission denied", "x"), 2), (ValueError(), 70)],
)
def test_no_error_is_a_pass(error: Exception, code: int) -> None:
    def fail() -> dict[str, Any]:
        raise error

    body, failed = answer(fail)
    assert (failed, body["exit_code"]) == (True, code)


def test_a_configuration_that_is_wrong_names_its_key(folder: Path) -> None:
    edit(folder / CONFIG, "alpha = 0.1", "alfa = 0.1")
    for tool in (AgentTools(folder).check, AgentTools(folder).calibrate, AgentTools(folder).gate):
        assert "alfa" in refused(tool)["error"]
