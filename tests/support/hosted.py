"""Projects that a host judges with."""

import asyncio
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.documents import ROOT
from trustescalate import Project, Run


@dataclass(frozen=True)
class Certified:
    """A project folder with a certificate, the items of its run, and the command line's decisions on them."""

    folder: Path
    items: tuple[Mapping[str, Any], ...]
    decisions: Mapping[str, Mapping[str, Any]]

    @property
    def config(self) -> Path:
        return self.folder / "trustescalate.toml"

    @property
    def labels(self) -> dict[str, str | None]:
        """The released label of each item; None where the cascade abstained."""
        return {item_id: decision.get("label") for item_id, decision in self.decisions.items()}


def certified_example(folder: Path) -> tuple[Path, Run]:
    """Copy the example `pass-fail` to a new folder; give its configuration and its run."""
    shutil.copytree(ROOT / "examples" / "pass-fail", folder)
    project = Project.open(folder / "trustescalate.toml")
    asyncio.run(project.calibrate())
    return folder / "trustescalate.toml", asyncio.run(project.run())
