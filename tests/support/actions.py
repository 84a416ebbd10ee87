"""Run the steps of a composite action as a runner would, and serve the comments of a pull request."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import yaml

ROOT = Path(__file__).parents[2]
EXPRESSION = re.compile(r"\$\{\{ ([\w.-]+) \}\}")
BOT: Mapping[str, str] = {"login": "github-actions[bot]", "type": "Bot"}


SHIM = """\
#!/bin/bash
job=$(mktemp -d "{folder}/job.XXXXXX")
env -0 > "$job/env"; pwd > "$job/cwd"; printf '%s\\0' "$@" > "$job/words"; mkfifo "$job/code"
echo "$job" > "{folder}/jobs"
read -r code < "$job/code"
cat "$job/out"
exit "$code"
"""
WARM = """
import os, runpy, sys
import scipy.stats, trustescalate.integrations.github.check, trustescalate.judges.openai
import trustescalate.report.html, trustescalate.report.junit
jobs = os.open(sys.argv[1], os.O_RDWR)
for line in os.fdopen(jobs):
    job = line.strip()
    read = lambda name: open(f"{job}/{name}", encoding="utf-8", errors="surrogateescape").read()
    if os.fork() == 0:
        code = 70
        try:
            os.environ.clear()
            os.environ.update(pair.partition("=")[::2] for pair in read("env").split("\\0")[:-1])
            os.chdir(read("cwd").rstrip("\\n"))
            file = os.open(f"{job}/out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, 1); os.dup2(file, 2)
            safe, dash, module, *words = read("words").split("\\0")[:-1]
            assert (safe, dash) == ("-P", "-m")  # a module of the pull request stands for none of ours
            sys.argv = [module, *words]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as end:
            code = end.code or 0
        finally:
            sys.stdout.flush(); sys.stderr.flush()
            open(f"{job}/code", "w").write(f"{code}\\n")
            os._exit(0)
    os.wait()
"""


class WarmPython:
    """A folder with a `python` whose processes are forked from one that has imported the package."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        os.mkfifo(folder / "jobs")
        (folder / "python").write_text(SHIM.format(folder=folder), encoding="utf-8")
        (folder / "python").chmod(0o755)
        words = [sys.executable, "-c", WARM, str(folder / "jobs")]
        self._parent = subprocess.Popen(words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._parent.terminate()
        self._parent.wait(20)


def action() -> dict[str, Any]:
    """The action of this repository."""
    parsed: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    return parsed


@dataclass
class Job:
    """What a job with the action left: its exit code, log, step summary and the outputs of its steps."""

    code: int
    log: str
    summary: str
    outputs: Mapping[str, str]
    steps: int


def event(number: int = 7, *, head: str | None = "octo/repo", base: str = "octo/repo") -> dict[str, Any]:
    """The payload of a pull request."""
    repo = None if head is None else {"full_name": head}
    return {"pull_request": {"number": number, "head": {"repo": repo}, "base": {"repo": {"full_name": base}}}}


def run_action(
    workspace: Path,
    inputs: Mapping[str, str],
    *,
    payload: Mapping[str, Any] | None = None,
    api: str = "http://127.0.0.1:9",
    python: Path = Path(sys.executable).parent,
    **environment: str,
) -> Job:
    """Run every step: inputs are put into `env` alone, and scripts are run by `bash -eo pipefail`.

    `python` is the folder of the interpreter.
    """
    parsed, temp = action(), workspace.parent / f"{workspace.name}-runner"
    temp.mkdir(exist_ok=True)
    assert set(inputs) <= set(parsed["inputs"])
    (temp / "event.json").write_text(json.dumps(payload or {}), encoding="utf-8")
    known = {"github.token": "ghs_loopback-token-1", "github.action_path": str(ROOT)}
    for name, about in parsed["inputs"].items():
        known[f"inputs.{name}"] = inputs.get(name, filled(str(about.get("default", "")), known))
    (temp / "summary.md").write_text("", encoding="utf-8")
    base = {key: value for key, value in os.environ.items() if not key.startswith(("GITHUB_", "INPUT_"))}
    base |= {
        "PATH": f"{python}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "GITHUB_ACTIONS": "true",
        "GITHUB_WORKSPACE": str(workspace),
        "GITHUB_REPOSITORY": "octo/repo",
        "GITHUB_EVENT_NAME": "pull_request",
        "GITHUB_EVENT_PATH": str(temp / "event.json"),
        "GITHUB_STEP_SUMMARY": str(temp / "summary.md"),
        "GITHUB_API_URL": api,
        "RUNNER_TEMP": str(temp),
        **environment,
    }
    log, code, steps = "", 0, 0
    for step in parsed["runs"]["steps"]:
        assert "${{" not in step["run"]
        (temp / "output").write_text("", encoding="utf-8")
        given = {key: filled(value, known) for key, value in step.get("env", {}).items()}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=workspace,
            env={**base, "GITHUB_OUTPUT": str(temp / "output"), **given},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=120,
        )
        log, code, steps = log + done.stdout.decode(), done.returncode, steps + 1
        if "id" in step:
            values = read_outputs((temp / "output").read_text(encoding="utf-8"))
            known |= {f"steps.{step['id']}.outputs.{name}": value for name, value in values.items()}
        if code:
            break
    outputs = {name: filled(about["value"], known) for name, about in parsed["outputs"].items()}
    return Job(code, log, (temp / "summary.md").read_text(encoding="utf-8"), outputs, steps)


def filled(text: str, known: Mapping[str, str]) -> str:
    """Put values into the expressions of a text; an unknown one is empty."""
    return EXPRESSION.sub(lambda match: known.get(match[1], ""), text)


def read_outputs(text: str) -> dict[str, str]:
    """Read GITHUB_OUTPUT as the runner does."""
    values, lines = {}, iter(text.split("\n"))
    for line in lines:
        name, heredoc, mark = line.partition("<<")
        if heredoc:
            rows = iter(lambda: next(lines), mark)
            values[name] = "\n".join(rows)
        elif "=" in line:
            values[line.partition("=")[0]] = line.partition("=")[2]
    return values


def as_shown(log: str) -> str:
    """The log as a runner shows it: masked values are stars, commands that mask are not shown."""
    masks = [
        line.removeprefix("::add-mask::") for line in log.splitlines() if line.startswith("::add-mask::")
    ]
    text = "\n".join(line for line in log.splitlines() if not line.startswith("::add-mask::"))
    for mask in masks:
        value = mask.replace("%0A", "\n").replace("%0D", "\r").replace("%25", "%")
        text = text.replace(value, "***")
    return text


@dataclass
class Comments:
    """The comments of a pull request behind a loopback API. `refuse(method, n)` may give a status instead."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    refuse: Callable[[str, int], int | None] = lambda method, n: None
    lose: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)

    def add(self, body: str, user: Mapping[str, str] = BOT) -> dict[str, Any]:
        """A comment that is there already."""
        self.rows.append({"id": 100 + len(self.rows), "user": dict(user), "body": body})
        return self.rows[-1]

    @property
    def written(self) -> list[str]:
        """The methods of the requests that write."""
        return [method for method, _ in self.asked if method != "GET"]

    def __enter__(self) -> Self:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.asked.append((self.command, self.path))
                outer.tokens.add(self.headers.get("Authorization", ""))
                status = outer.refuse(self.command, len(outer.asked))
                if status is None or outer.lose:
                    answer: Any = outer._answer(self.command, self.path, json.loads(body or b"null"))
                if status is not None:
                    answer = {"message": "Resource not accessible by integration"}
                text = json.dumps(answer).encode()
                self.send_response(status or 200)
                if status in (301, 302, 307):
                    self.send_header("Location", "http://127.0.0.1:9/stolen")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PATCH = handle_any

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def _answer(self, method: str, path: str, sent: Any) -> Any:
        parts = urlsplit(path)
        if method == "GET":
            assert parts.path == "/repos/octo/repo/issues/7/comments"
            asked = parse_qs(parts.query)
            size, page = int(asked["per_page"][0]), int(asked["page"][0])
            return self.rows[(page - 1) * size : page * size]
        if method == "POST":
            assert parts.path == "/repos/octo/repo/issues/7/comments"
            return self.add(sent["body"])
        (row,) = (row for row in self.rows if parts.path == f"/repos/octo/repo/issues/comments/{row['id']}")
        row["body"] = sent["body"]
        return row
