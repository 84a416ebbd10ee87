"""Two judges of faithfulness, cheap to expensive. Stand-ins for models: they look for words alone."""

import re
from typing import Any

NUMBER = re.compile(r"\d+")


def numbers(item: dict[str, Any]) -> dict[str, float]:
    """Look for the numbers of the response in the passages; be unsure of everything else."""
    passages = " ".join(item["context"])
    found = set(NUMBER.findall(item["responses"][0])) <= set(NUMBER.findall(passages))
    return _verdict(0.6 if found else 0.03)


def claims(item: dict[str, Any]) -> dict[str, float]:
    """Look for what each sentence says of the product in the passages."""
    passages = " ".join(item["context"])
    said = [sentence.removeprefix("It ") for sentence in re.split(r"(?<=\.) ", item["responses"][0])]
    return _verdict(0.96 if all(sentence in passages for sentence in said) else 0.04)


def _verdict(passes: float) -> dict[str, float]:
    return {"pass": passes, "fail": 1 - passes}
