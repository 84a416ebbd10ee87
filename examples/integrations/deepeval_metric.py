"""Judge the items of a file with DeepEval: python deepeval_metric.py ITEMS, where trustescalate.toml is."""

import json
import sys
from pathlib import Path

from deepeval import evaluate
from deepeval.test_case import LLMTestCase

from trustescalate.integrations.deepeval import CertifiedMetric

rows = [json.loads(line) for line in Path(sys.argv[1]).read_text("utf-8").splitlines()]
cases = [LLMTestCase(name=row["id"], input=row["prompt"], actual_output=row["responses"][0]) for row in rows]
results = evaluate(cases, [CertifiedMetric("trustescalate.toml")]).test_results
metrics = [metric for result in results for metric in result.metrics_data]
abstained = [metric for metric in metrics if metric.error]
print(f"{sum(m.success for m in metrics)} of {len(metrics)} pass, {len(abstained)} abstained")
