"""Judge a file with LangSmith: python langsmith_evaluator.py ITEMS, where trustescalate.toml is."""

import json
import sys
from pathlib import Path
from uuid import uuid4

from langsmith import evaluate
from langsmith.schemas import Example

from trustescalate.integrations.langsmith import certified_evaluator

rows = [json.loads(line) for line in Path(sys.argv[1]).read_text("utf-8").splitlines()]
answers = {row["id"]: {"answer": row["responses"][0]} for row in rows}
data = [Example(id=uuid4(), inputs={"q": row["prompt"], "id": row["id"]}) for row in rows]
judge = certified_evaluator("trustescalate.toml", prompt="q", item_id="id")
results = evaluate(lambda inputs: answers[inputs["id"]], data=data, evaluators=[judge], upload_results=False)
scores = [row["evaluation_results"]["results"][0].score for row in results]
print(f"{scores.count(1)} of {len(scores)} pass, {scores.count(None)} abstained")
