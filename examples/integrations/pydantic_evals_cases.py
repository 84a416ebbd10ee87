"""Evaluate an application with the certified cascade: python pydantic_evals_cases.py"""

import json
from pathlib import Path

from pydantic_evals import Case, Dataset

from trustescalate.integrations.pydantic_evals import CertifiedCascade

rows = [json.loads(line) for line in Path("outputs.jsonl").read_text("utf-8").splitlines()]
responses = {row["prompt"]: row["response"] for row in rows}


async def application(prompt: str) -> str:
    return responses[prompt]  # call your model here


cases = [Case(name=row["id"], inputs=row["prompt"]) for row in rows]
dataset = Dataset(name="support", cases=cases, evaluators=[CertifiedCascade("trustescalate.toml")])
dataset.evaluate_sync(application, progress=False).print(include_reasons=True)
