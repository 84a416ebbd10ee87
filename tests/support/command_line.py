"""The command line, in this process and in others."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Self

from typer.testing import CliRunner, Result

from trustescalate.cli import app


def cli(*arguments: object, **environment: str) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=environment)


FORKS = """
import json, os, sys
import trustescalate.cli, trustescalate.cli.display, trustescalate.judges.openai, trustescalate.project
import trustescalate.report.document
for line in sys.stdin:
    arguments, log = json.loads(line)
    child = os.fork()
    if child == 0:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.argv = ["trustescalate", *arguments]
        trustescalate.cli.main()
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Forks:
    """Runs the command line in fresh processes, one at a time."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._parent = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", FORKS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, *arguments: object) -> int:
        """Begin a command; gives its process."""
        assert self._parent.stdin
        assert self._parent.stdout
        self._parent.stdin.write(json.dumps([[str(a) for a in arguments], str(self._log)]) + "\n")
        self._parent.stdin.flush()
        return int(self._parent.stdout.readline())

    def end(self) -> tuple[int, str]:
        """Wait for the command; gives its exit code and what it said."""
        assert self._parent.stdout
        code = int(self._parent.stdout.readline())
        return code, self._log.read_text(encoding="utf-8", errors="replace")

    def __call__(self, *arguments: object) -> tuple[int, str]:
        self.start(*arguments)
        return self.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._parent.stdin
        assert self._parent.stdout
        self._parent.stdin.close()
        self._parent.wait(20)
        self._parent.stdout.close()
