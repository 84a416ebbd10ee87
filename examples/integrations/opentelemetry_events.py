"""Judge items one by one, and send each verdict to OTEL_EXPORTER_OTLP_ENDPOINT as an OpenTelemetry event."""

import json
import sys

from trustescalate import Hooks
from trustescalate.integrations.opentelemetry import EvaluationEvents
from trustescalate.integrations.shared import SharedCascade

events = EvaluationEvents("correctness")
with SharedCascade("trustescalate.toml", hooks=Hooks(decided=events.decided)) as cascade:
    for row in map(json.loads, sys.stdin):
        item = cascade.item(row["prompt"], row["responses"][0], item_id=row["id"], meta=row.get("meta"))
        cascade.judge(item)
print(events.close())
