"""Score an evaluation with the certified cascade: inspect eval inspect_ai_task.py --model PROVIDER/MODEL"""

import json
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import Sample

from trustescalate.integrations.inspect_ai import certified_cascade


@task
def support() -> Task:
    rows = map(json.loads, Path("questions.jsonl").read_text("utf-8").splitlines())
    samples = [Sample(input=row["prompt"], id=row["id"], metadata=row) for row in rows]
    return Task(dataset=samples, scorer=certified_cascade("trustescalate.toml", item_id="id"))
