"""Start a server that nobody here wrote on a free port of this machine, and write a small project for it."""

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.recording_proxy import RecordingProxy

STARTS_WITHIN = 300.0
"""Seconds: a model is loaded."""
LABELLED, UNLABELLED = 20, 4
OFFLINE = {
    **dict.fromkeys(("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"), "1"),
    "DO_NOT_TRACK": "1",
}


@dataclass(frozen=True)
class RealServer:
    """A server behind a proxy that records; `has_logprobs`: its answers hold log-probabilities."""

    name: str
    model: str
    has_logprobs: bool
    proxy: RecordingProxy
    process: "subprocess.Popen[bytes]"
    log: Path

    def must_be_well(self) -> None:
        """Fail if the server has ended, or left a request without an answer."""
        end = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
        assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}: {end}"
        assert not self.proxy.unanswered, f"{self.proxy.unanswered}: {end}"


@contextmanager
def started(
    command: Sequence[str], folder: Path, log: Path, **environment: str
) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Run a server in a folder from when its list of models answers; `PORT` in the command is a free port.

    Gives the address of its API, with /v1, and its process, whose output is the file `log`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [word.replace("PORT", str(port)) for word in command]
    url = f"http://127.0.0.1:{port}/v1"
    with log.open("wb") as out:
        process = subprocess.Popen(
            words, cwd=folder, stdout=out, stderr=out, env={**os.environ, **OFFLINE, **environment}
        )
        try:
            _wait(f"{url}/models", process, log)
            yield url, process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                assert response.status == 200
                return
        except OSError:
            assert process.poll() is None, log.read_text(encoding="utf-8", errors="replace")[-3000:]
            time.sleep(0.5)
    raise AssertionError(f"no answer within {STARTS_WITHIN:g} s: {log.read_text('utf-8', 'replace')[-3000:]}")


def write_sums(
    folder: Path,
    server: RealServer,
    ensemble: str = "samples = 2",
    **judge: Any,
) -> Path:
    """A project that asks whether sums are right: `LABELLED` items with labels, `UNLABELLED` without.

    Its one judge is asked with two few-shot examples, one request at a time; `judge` are further keys of it.
    Gives the path of the configuration.
    """
    folder.mkdir(parents=True)
    items, notes = [], []
    for number in range(LABELLED + UNLABELLED):
        right, total = number % 3 != 0, 7 + 2 * number
        answer = total if right else total + 5
        prompt = f"What is {number} + {number + 7}?"
        items.append({"id": f"q{number}", "prompt": prompt, "responses": [str(answer)]})
        if number < LABELLED:
            notes.append({"item_id": f"q{number}", "annotator": "a", "label": "pass" if right else "fail"})
    for name, rows in (("items.jsonl", items), ("annotations.jsonl", notes)):
        (folder / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    given: Mapping[str, Any] = {
        "model": server.model,
        "base_url": server.proxy.url,
        "concurrency": 1,
        "timeout": 200.0,
        "give_up_after": 400.0,
        "attempts": 2,
        **judge,
    }
    lines = "".join(f"{key} = {_toml(value)}\n" for key, value in given.items())
    config = folder / "trustescalate.toml"
    config.write_text(
        'version = 1\n[task]\nkind = "binary"\nquestion = "Is the answer correct?"\n'
        f"[guarantee]\nalpha = 0.4\ndelta = 0.3\npilot = 2\n"
        f"[ensemble]\nannotators = 1\nshots = 2\n{ensemble}\n"
        f'[gate]\nmin_agreement = 0.6\n[[judges]]\nname = "tiny"\nbackend = "openai"\n{lines}',
        encoding="utf-8",
    )
    return config


def _toml(value: Any) -> str:
    """A value as TOML on one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(part)}" for key, part in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)
