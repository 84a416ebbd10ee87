"""A user's file without a mistake: mypy --strict and pyright find nothing."""

import asyncio
from pathlib import Path

from trustescalate import Annotation, Certificate, Decision, Hooks, Item, Project, ReplayJudge, Run


async def judge(project: Project, items: list[Item]) -> list[str | None]:
    async with project.cascade() as cascade:
        decisions: list[Decision] = await asyncio.gather(*(cascade.decide(item) for item in items))
    return [decision.label for decision in decisions]


def certify(path: Path) -> tuple[Certificate, Run]:
    project = Project.open(path, Hooks(notice=print))
    certificate = asyncio.run(project.calibrate())
    return certificate, asyncio.run(project.run(items=Path("items.jsonl")))


def in_memory(items: list[Item], notes: list[Annotation]) -> Project:
    small = ReplayJudge.from_labels({"q1": "A"}, name="small")
    return Project.from_records(items, notes, {"task": {"kind": "pairwise"}}, judges=[small])
