"""Write the file by which a CI service runs and gates a project: GitHub or GitLab."""

import json
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from trustescalate import __version__
from trustescalate.config.file import load_config
from trustescalate.config.trust import must_not_lead_out
from trustescalate.errors import UsageError

GITHUB = """\
# Judges what a pull request changes, gates it, and keeps one comment on it. Commit certificate.json,
# certificate.votes.jsonl and ledger.jsonl as `trustescalate calibrate` wrote them.
#
# A pull request from a fork gets no secrets, and a token that may only read. The action then judges from
# recorded votes alone (judges with backend = "replay", or the cache below), cannot reach the network, and
# writes its result into the summary of the workflow run instead of a comment. Where a vote is not recorded,
# the outcome is "undecided", exit code 3: no pass. Do not change `pull_request` to `pull_request_target`:
# that gives the secrets of this repository to files of a fork.
name: trustescalate
on:
  pull_request:
  push: # keeps replies in the cache of this branch, where pull requests from forks can read them
    branches: [main]

permissions: {}

concurrency:
  group: trustescalate-${{ github.ref }}
  cancel-in-progress: ${{ github.event_name == 'pull_request' }}

jobs:
  gate:
    runs-on: ubuntu-24.04
    timeout-minutes: 60
    permissions:
      contents: read
      pull-requests: write # for the comment; drop it with `comment: "false"`
    steps:
      - uses: actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2
        with:
          persist-credentials: false
      - uses: actions/setup-python@a26af69be951a213d495a4c3e4e4022e16d87065 # v5.6.0
        with:
          python-version: "3.12"
      - uses: actions/cache@0400d5f644dc74513175e3cd8d07132dd4860809 # v4.2.4
        with: # replies that were paid for; a fork reads those of the base branch
          path: @CACHE@
          key: trustescalate-${{ github.sha }}
          restore-keys: trustescalate-
      - uses: trustescalate/trustescalate@v@VERSION@ # a commit of this tag is safer still
        id: gate
        with:
          config: @CONFIG@
          budget-calls: "5000"
          # items: new-outputs.jsonl # default: the unlabelled items of the configuration
          # trust: "true"            # after reading which hosts, files and code the project names
          # fail-on: fail            # default: fail, undecided, budget; an error always fails the job@KEYS@
      - uses: actions/upload-artifact@ea165f8d65b6e75b540449e92b4886f43607fa02 # v4.6.2
        if: always() && steps.gate.outputs.report != ''
        with:
          name: trustescalate-report
          path: ${{ steps.gate.outputs.report }}
"""

GITLAB = """\
# Judges what a merge request changes, and gates it. Commit certificate.json, certificate.votes.jsonl and
# ledger.jsonl as `trustescalate calibrate` wrote them, and name this file in .gitlab-ci.yml:
#
#   include: {local: .gitlab-ci.trustescalate.yml}
#
# Keys of judges are masked CI/CD variables: @KEYS@.
# A merge request from a fork runs in the fork, without them: judges that need a key end the job with exit
# code 3, which is no pass. Do not run such a pipeline in this project: it gives the variables to files of
# a fork.
trustescalate:
  image: python:3.12
  stage: test
  rules:
    - if: $CI_PIPELINE_SOURCE == "merge_request_event"
  timeout: 1h
  cache: # replies that were paid for
    key: trustescalate
    paths: [@CACHE@]
  script:
    - python -P -m pip install --quiet --disable-pip-version-check "trustescalate==@VERSION@"
    - trustescalate run --config @SHELL@ --budget-calls 5000
    - trustescalate gate --config @SHELL@
  artifacts:
    when: always
    paths: [@REPORT@]
    reports:
      junit: @JUNIT@
"""
VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
KINDS = ("github", "gitlab")


def write_ci_file(folder: Path, kind: str) -> Path:
    """Write the workflow of GitHub, or the job of GitLab, for a project; return its path.

    It goes into the root of the repository that holds the folder, or into the folder where there is none.
    Raises UsageError for another `kind`, and where the file exists or leads out of the repository;
    ConfigError for a configuration that cannot be read.
    """
    if kind not in KINDS:
        raise UsageError(f"there is no CI file for {kind!r}", f"there are {', '.join(KINDS)}")
    root = next((each for each in _upwards(folder) if (each / ".git").exists()), folder)
    name = ".github/workflows/trustescalate.yml" if kind == "github" else ".gitlab-ci.trustescalate.yml"
    path = root / name
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path} exists already", "edit it, or remove it first")
    must_not_lead_out(root, [path])
    text = (_github if kind == "github" else _gitlab)(_place(folder, root), _variables(folder))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _upwards(folder: Path) -> list[Path]:
    place = folder.resolve()
    return [folder, *place.parents]


def _place(folder: Path, root: Path) -> str:
    """The folder as seen from the root, with a slash at its end; empty for the root."""
    place = os.path.relpath(folder.resolve(), root.resolve()).replace(os.sep, "/")
    if not re.fullmatch(r"[\w ./-]+", place):
        raise UsageError(
            f"{place}: a CI file cannot name this folder", "use letters, digits, '.', '-' and '_'"
        )
    return "" if place == "." else f"{place}/"


def _variables(folder: Path) -> list[str]:
    """The environment variables that hold keys of judges."""
    config = folder / "trustescalate.toml"
    if not config.exists():
        return ["OPENAI_API_KEY"]
    named = [getattr(table, "api_key_env", None) for table in load_config(config).judges]
    return list(dict.fromkeys(name for name in named if name and VARIABLE.fullmatch(name)))


def _github(place: str, keys: list[str]) -> str:
    secrets = "".join(f"\n          {key}: ${{{{ secrets.{key} }}}}" for key in keys)
    return _filled(
        GITHUB,
        {
            "CACHE": json.dumps(f"{place}.trustescalate"),
            "CONFIG": json.dumps(f"{place}trustescalate.toml"),
            "KEYS": f"\n        env:{secrets}" if keys else "",
        },
    )


def _gitlab(place: str, keys: list[str]) -> str:
    return _filled(
        GITLAB,
        {
            "CACHE": json.dumps(f"{place}.trustescalate/"),
            "KEYS": ", ".join(keys) or "this project needs none",
            "SHELL": shlex.quote(f"{place}trustescalate.toml"),
            "REPORT": json.dumps(f"{place}runs/*/report.html"),
            "JUNIT": json.dumps(f"{place}runs/*/junit.xml"),
        },
    )


def _filled(text: str, values: Mapping[str, str]) -> str:
    known = {"VERSION": __version__, **values}
    return re.sub("@([A-Z]+)@", lambda match: known[match[1]], text)
