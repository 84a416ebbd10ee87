"""The command line: parse arguments, call a workflow, print its result; one module per help panel.

stdout carries data, stderr messages. Heavy modules are imported inside the commands, so `--help` is instant.
"""

from trustescalate.cli import certify, judges, people, run_and_gate, start
from trustescalate.cli.app import app, main

__all__ = ["app", "certify", "judges", "main", "people", "run_and_gate", "start"]
