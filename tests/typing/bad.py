"""A user's file with three mistakes, each on a line of its own: MISSPELT, ARGUMENT, METHOD."""

from pathlib import Path

from trustescalate import Projekt  # MISSPELT
from trustescalate import Project

project = Project.open(42)  # ARGUMENT
project.certify(Path("trustescalate.toml"))  # METHOD
