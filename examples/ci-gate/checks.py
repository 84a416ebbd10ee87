"""Two judges of the calculator bot, cheap to expensive: a format check and a solver."""

import re
from typing import Any

NUMBER = re.compile(r"-?\d+")


def format_check(item: dict[str, Any]) -> dict[str, float]:
    """Prefer a number and nothing else. Never sure, so most items escalate."""
    return _verdict(0.6 if NUMBER.fullmatch(item["responses"][0]) else 0.45)


def solver(item: dict[str, Any]) -> dict[str, float]:
    """Compute the difference and compare. Unsure of an answer that hedges."""
    left, right = map(int, re.findall(r"\d+", item["prompt"]))
    text = item["responses"][0]
    if not NUMBER.fullmatch(text):
        return _verdict(0.4)
    return _verdict(0.95 if int(text) == left - right else 0.05)


def _verdict(passes: float) -> dict[str, float]:
    return {"pass": passes, "fail": 1 - passes}
