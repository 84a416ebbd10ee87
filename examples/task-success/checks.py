"""Two judges of an agent's trace, cheap to expensive. Stand-ins for models: they know this task alone."""

import json
import re
from typing import Any


def last_result(item: dict[str, Any]) -> dict[str, float]:
    """Read the last tool result. Sure of a failure, unsure of a success: another day may be booked."""
    results = [turn["content"] for turn in item["responses"][0] if turn["role"] == "tool"]
    return _verdict(0.6 if results and _is_booked(results[-1]) else 0.03)


def whole_trace(item: dict[str, Any]) -> dict[str, float]:
    """Compare each booking with the task."""
    day = re.search(r"on (\w+)\.", item["prompt"])
    trace = item["responses"][0]
    results = {turn["tool_call_id"]: turn["content"] for turn in trace if turn["role"] == "tool"}
    calls = [call for turn in trace for call in turn.get("tool_calls", ()) if call["name"] == "book_room"]
    done = [call for call in calls if _is_booked(results.get(call["id"], ""))]
    right = day and [json.loads(call["arguments"])["day"] for call in done] == [day[1]]
    return _verdict(0.96 if right else 0.04)


def _is_booked(result: str) -> bool:
    """Whether a tool result says so; its other text may say anything."""
    try:
        parsed = json.loads(result)
    except ValueError:
        return False
    return isinstance(parsed, dict) and parsed.get("status") == "booked"


def _verdict(passes: float) -> dict[str, float]:
    return {"pass": passes, "fail": 1 - passes}
