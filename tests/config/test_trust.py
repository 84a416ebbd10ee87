"""What a configuration names beyond its folder is listed, and nothing usual is."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from trustescalate.config import must_stay_inside, needs_trust, parse_config
from trustescalate.config.trust import Named, is_trusted, remember
from trustescalate.errors import UsageError

OPENAI = {"name": "a", "backend": "openai", "model": "m"}
LOCALHOST = "http://localhost:8000/v1"
SECRETS = ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "GITHUB_TOKEN", "NPM_TOKEN", "STRIPE_API_KEY"]
SECRETS += ["SSH_PRIVATE_KEY", "DJANGO_SECRET_KEY", "CI_JOB_TOKEN", "SECRET_KEY", "KEY", "TOKEN"]
LOCAL = {"name": "a", "backend": "local", "model": "org/small"}


def listed(folder: Path, judge: dict[str, Any] = OPENAI, **tables: Any) -> list[str]:
    config = parse_config({"version": 1, "judges": [judge], **tables}, folder / "trustescalate.toml")
    return [thing.what for thing in needs_trust(config)]


@pytest.mark.parametrize(
    "judge",
    [
        OPENAI,
        {**OPENAI, "api_key_env": "OPENAI_API_KEY"},
        {**OPENAI, "api_key_env": "TEAM_OPENAI_KEY"},
        {**OPENAI, "api_key_env": "GROQ_API_KEY", "base_url": "https://api.groq.com/openai/v1"},
        {**OPENAI, "api_key_env": "HF_TOKEN", "base_url": "https://router.huggingface.co:443/v1"},
        {**OPENAI, "base_url": "http://localhost:8000/v1", "api_key_env": "VLLM_API_KEY"},
        {**OPENAI, "base_url": "http://localhost:8000/v1", "api_key_env": "SMALL_KEY"},
        {**OPENAI, "base_url": "http://127.0.0.2:8000/v1"},
        {**OPENAI, "base_url": "http://[::1]:8000/v1"},
        {"name": "a", "backend": "score", "model": "m", "base_url": "http://127.0.0.1:8000"},
        LOCAL,
        {**LOCAL, "model": "gpt2", "adapter": "org/adapter"},
        {"name": "a", "backend": "replay", "votes": "votes.jsonl"},
        {"name": "a", "backend": "elsewhere", "options": {"url": "http://localhost:1", "key_env": "A_KEY"}},
    ],
)
def test_a_plain_project_needs_no_trust(tmp_path: Path, judge: dict[str, Any]) -> None:
    assert listed(tmp_path, judge) == []


@pytest.mark.parametrize(
    ("judge", "word"),
    [
        ({**OPENAI, "api_key_env": "HOME"}, "HOME"),
        ({**OPENAI, "api_key_env": "DATABASE_URL"}, "DATABASE_URL"),
        ({**OPENAI, "api_key_env": "MONKEY"}, "MONKEY"),
        ({**OPENAI, "api_key_env": "PATH", "base_url": "http://127.0.0.1:1/v1"}, "PATH"),
        ({**OPENAI, "api_key_env": "ANTHROPIC_API_KEY"}, "another provider"),
        ({**OPENAI, "api_key_env": "HF_TOKEN"}, "another provider"),
        ({**OPENAI, "api_key_env": "TEAM_COHERE_KEY", "base_url": LOCALHOST}, "another provider"),
        ({**OPENAI, "api_key_env": "OPENAI_API_KEY", "base_url": LOCALHOST}, "another provider"),
        *(
            ({**OPENAI, "api_key_env": name, **place}, f"{name}, which is named like ")
            for name in SECRETS
            for place in ({}, {"base_url": LOCALHOST})
        ),
        ({**OPENAI, "base_url": "https://models.example/v1"}, "https://models.example"),
        ({**OPENAI, "base_url": [LOCALHOST, "https://models.example/v1"]}, "https://models.example"),
        ({**OPENAI, "base_url": "http://api.openai.com/v1"}, "http://api.openai.com"),
        ({**OPENAI, "base_url": "https://api.openai.com:8443/v1"}, "api.openai.com:8443"),
        ({**OPENAI, "base_url": "https://api.openai.com.evil.example/v1"}, "evil"),
        ({**OPENAI, "base_url": "http://localhost.evil.example/v1"}, "evil"),
        ({**OPENAI, "base_url": "http://127.0.0.1.evil.example/v1"}, "evil"),
        ({**OPENAI, "base_url": "http://api.openai.com\\.evil.example/v1"}, "evil"),
        ({**OPENAI, "base_url": "http://169.254.169.254/v1"}, "169.254.169.254"),
        ({**OPENAI, "prompt": "../prompt.txt"}, "../prompt.txt"),
        ({"name": "a", "backend": "score", "model": "m", "base_url": "https://models.example"}, "example"),
        ({**LOCAL, "model": "/etc"}, "/etc"),
        ({**LOCAL, "adapter": "../adapter"}, "../adapter"),
        ({"name": "a", "backend": "reward", "model": "~/models/x"}, "~/models/x"),
        ({"name": "a", "backend": "replay", "votes": "/etc/passwd"}, "/etc/passwd"),
        ({"name": "a", "backend": "callable", "function": "mine:f", "version": "1"}, "mine:f"),
        (
            {"name": "a", "backend": "elsewhere", "options": {"of": [{"url": "https://x.example"}]}},
            "x.example",
        ),
        ({"name": "a", "backend": "elsewhere", "options": {"key_env": "HOME"}}, "HOME"),
    ],
)
def test_what_is_not_usual_is_named(tmp_path: Path, judge: dict[str, Any], word: str) -> None:
    (thing,) = listed(tmp_path, judge)
    assert word in thing


@pytest.mark.parametrize(
    "tables",
    [
        {"data": {"items": "../items.jsonl"}},
        {"data": {"annotations": "link.jsonl"}},
        {"task": {"rubric_file": "link.jsonl"}},
        {"roles": {"file": "/etc/passwd"}},
        {"prompts": {"folder": ".."}},
        {"prompts": {"folder": "prompts"}},
    ],
)
def test_a_path_that_leads_out_is_named_also_through_a_link(tmp_path: Path, tables: dict[str, Any]) -> None:
    folder = tmp_path / "project"
    (folder / "prompts").mkdir(parents=True)
    (folder / "link.jsonl").symlink_to("/etc/passwd")
    (folder / "prompts" / "direct.txt").symlink_to("/etc/passwd")
    assert any("leads out of the folder" in thing for thing in listed(folder, **tables))


def test_a_link_within_the_folder_is_none_of_it(tmp_path: Path) -> None:
    (tmp_path / "real.jsonl").touch()
    (tmp_path / "link.jsonl").symlink_to("real.jsonl")
    assert listed(tmp_path, data={"items": "link.jsonl"}) == []


# ── memory ─────────────────────────────────────────────────────────────────────────────────────────


THINGS = (Named("asking", "judge 'a': sends texts to https://x.example"),)


def test_trust_is_for_these_things_in_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    one, other = tmp_path / "one", tmp_path / "other"
    assert not is_trusted(one, THINGS)
    remember(one, THINGS)
    remember(one, THINGS)
    assert is_trusted(one, THINGS)
    assert not is_trusted(other, THINGS)
    assert not is_trusted(one, (*THINGS, Named("any", "more")))
    memory = tmp_path / "state" / "trustescalate" / "trusted"
    assert stat.S_IMODE(memory.stat().st_mode) == 0o600
    assert len(memory.read_text().splitlines()) == 1


def test_a_folder_cannot_bring_its_own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    remember(tmp_path / "state", THINGS)
    remember(tmp_path, THINGS)
    assert not is_trusted(tmp_path, THINGS)
    assert not (tmp_path / "state").exists()


def test_a_state_folder_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    remember(tmp_path / "project", THINGS)
    assert not is_trusted(tmp_path / "project", THINGS)


# ── links of the folder itself ─────────────────────────────────────────────────────────────────────


OURS = ["certificate.json", "ledger.jsonl", "probe.json", "runs", "runs/latest", "labelling/queue"]
OURS += [".trustescalate", ".trustescalate/cache.sqlite", ".trustescalate/batches"]


@pytest.mark.parametrize("name", OURS)
def test_a_file_of_ours_that_is_a_link_out_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "project"
    (folder / name).parent.mkdir(parents=True)
    must_stay_inside(folder)
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="leads out of the project folder"):
        must_stay_inside(folder)


def test_links_that_stay_inside_and_foreign_links_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    (folder / "runs" / "one").mkdir(parents=True)
    (folder / "runs" / "latest").symlink_to("one")
    (folder / "notes").symlink_to(tmp_path)
    must_stay_inside(folder)
    (folder / "runs" / "loop").symlink_to("loop")
    with pytest.raises(UsageError):
        must_stay_inside(folder)
    assert os.path.islink(folder / "runs" / "loop")
