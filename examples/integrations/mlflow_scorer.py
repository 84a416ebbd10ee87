"""Judge the items of a file with MLflow: python mlflow_scorer.py ITEMS, where trustescalate.toml is."""

import json
import sys
from pathlib import Path

import mlflow

from trustescalate.integrations.mlflow import certified_scorer, log_certificate
from trustescalate.integrations.shared import SharedCascade

rows = [json.loads(line) for line in Path(sys.argv[1]).read_text("utf-8").splitlines()]
data = [{"inputs": {"q": r["prompt"], "id": r["id"]}, "outputs": r["responses"][0]} for r in rows]
with SharedCascade("trustescalate.toml") as cascade, mlflow.start_run():
    result = mlflow.genai.evaluate(data, scorers=[certified_scorer(cascade, prompt="q", item_id="id")])
    log_certificate(cascade)
print(result.metrics)
