"""The command line: parse, call, print. Nothing here that a library user could need.

Everything heavy is imported where it is used, so that `--help` is instant. stdout is data, stderr is talk.
"""

from trustescalate.cli import data, first_steps, judges, judging, labelling, planning, results
from trustescalate.cli.app import app, main

__all__ = ["app", "data", "first_steps", "judges", "judging", "labelling", "main", "planning", "results"]
