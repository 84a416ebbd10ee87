"""`init --ci`: files that a CI service reads, with least permissions and pins, and nothing overwritten."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.actions import ROOT, action
from tests.support.command_line import cli
from trustescalate import __version__
from trustescalate.config.ci_files import write_ci_file
from trustescalate.errors import ConfigError, UsageError

JUDGES = """\
version = 1
[[judges]]
name = "a"
backend = "openai"
model = "m"
api_key_env = "TEAM_API_KEY"
[[judges]]
name = "b"
backend = "mock"
"""


def test_the_workflow_has_least_permissions_pins_and_the_actions_own_inputs(tmp_path: Path) -> None:
    (tmp_path / "trustescalate.toml").write_text(JUDGES, "utf-8")
    path = write_ci_file(tmp_path, "github")
    assert path == tmp_path / ".github" / "workflows" / "trustescalate.yml"
    text = path.read_text("utf-8")
    workflow = yaml.safe_load(text)
    assert set(workflow[True]) == {"pull_request", "push"}  # YAML reads the key `on` as a boolean
    assert workflow["permissions"] == {}
    (job,) = workflow["jobs"].values()
    assert job["permissions"] == {"contents": "read", "pull-requests": "write"}
    steps = job["steps"]
    assert not [step for step in steps if "run" in step]
    others = [step["uses"] for step in steps if not step["uses"].startswith("trustescalate/")]
    assert not [uses for uses in others if not re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", uses)]
    (own,) = (step for step in steps if step["uses"].startswith("trustescalate/"))
    assert own["uses"] == f"trustescalate/trustescalate@v{__version__}"
    named = set(own["with"]) | set(re.findall(r"^ +# ([\w-]+): .*#", text, re.MULTILINE))
    assert named == {"config", "budget-calls", "items", "trust", "fail-on"}
    assert named <= set(action()["inputs"])
    assert own["env"] == {"TEAM_API_KEY": "${{ secrets.TEAM_API_KEY }}"}
    assert steps[0]["with"] == {"persist-credentials": False}
    outputs = re.findall(r"steps\.gate\.outputs\.([\w-]+)", text)
    assert set(outputs) <= set(action()["outputs"])


def test_the_gitlab_job_runs_what_the_command_line_knows(tmp_path: Path) -> None:
    folder = tmp_path / "evals x"
    folder.mkdir()
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (folder / "trustescalate.toml").write_text(JUDGES, "utf-8")
    path = write_ci_file(folder, "gitlab")
    assert path == tmp_path / ".gitlab-ci.trustescalate.yml"
    text = path.read_text("utf-8")
    (job,) = yaml.safe_load(text).values()
    assert "masked CI/CD variables: TEAM_API_KEY." in text
    assert job["artifacts"]["when"] == "always"
    assert job["artifacts"]["reports"] == {"junit": "evals x/runs/*/junit.xml"}
    assert job["script"][1:] == [
        "trustescalate run --config 'evals x/trustescalate.toml' --budget-calls 5000",
        "trustescalate gate --config 'evals x/trustescalate.toml'",
    ]
    for line in job["script"][1:]:
        words = line.split()[1:2]
        assert cli(*words, "--help").exit_code == 0


@pytest.mark.parametrize("kind", ["github", "gitlab"])
def test_nothing_is_overwritten(kind: str, tmp_path: Path) -> None:
    first = cli("init", tmp_path, "--ci", kind)
    assert (first.exit_code, first.stdout.count("\n")) == (0, 1)
    path = Path(first.stdout.strip())
    path.write_text("mine\n", "utf-8")
    second = cli("init", tmp_path, "--ci", kind)
    assert (second.exit_code, f"{path} exists already" in second.stderr) == (2, True)
    assert path.read_text("utf-8") == "mine\n"
    assert not (tmp_path / "trustescalate.toml").exists()


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no CI file for 'jenkins'"):
        write_ci_file(tmp_path, "jenkins")
    (tmp_path / "out").mkdir()
    home = tmp_path / "home"
    home.mkdir()
    (home / ".github").symlink_to(tmp_path / "out")
    with pytest.raises(UsageError, match="leads out"):
        write_ci_file(home, "github")
    assert not list((tmp_path / "out").iterdir())
    odd = tmp_path / "a${{ x }}"
    odd.mkdir()
    (tmp_path / ".git").mkdir()
    with pytest.raises(UsageError, match="a CI file cannot name this folder"):
        write_ci_file(odd, "github")
    (home / "trustescalate.toml").write_text("nonsense", "utf-8")
    with pytest.raises(ConfigError):
        write_ci_file(home, "gitlab")
    assert cli("init", tmp_path, "--ci", "github", "--prompts").exit_code == 2


def test_the_example_and_the_page_use_this_release_of_the_action() -> None:
    pinned = f"trustescalate/trustescalate@v{__version__}"
    workflow = yaml.safe_load((ROOT / "examples/ci-gate/workflow.yml").read_text("utf-8"))
    (step,) = (step for step in workflow["jobs"]["gate"]["steps"] if step["uses"] == pinned)
    assert set(step["with"]) <= set(action()["inputs"])
    page = (ROOT / "docs/integrations/github.md").read_text("utf-8")
    assert pinned in page
    known = set(action()["inputs"]) | set(action()["outputs"])
    rows = [row.split("|")[1] for row in page.splitlines() if row.startswith("| `")]
    assert {name for row in rows[5:] for name in re.findall(r"`([\w-]+)`", row)} == known
