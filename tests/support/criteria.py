"""A small project with three criteria, and an endpoint that reads the grades off the responses."""

import json
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.servers import Body, Canned, FaultServer

SCALES = {"clarity": (1, 5), "accuracy": (0, 3), "tone": (1, 3)}
WEIGHTS = {"clarity": 1.0, "accuracy": 2.0, "tone": 1.0}
HEAD = """\
version = 1

[task]
kind = "rating"

[guarantee]
alpha = 0.2
delta = 0.1
pilot = 20
{guarantee}
[ensemble]
annotators = 1
shots = {shots}
"""
QUESTIONS = {"clarity": "Is it easy to follow?", "accuracy": "Is it right?", "tone": "Is it polite?"}


def criteria_tables(alpha: str = "") -> str:
    """The [[criteria]] of the project."""
    return "".join(
        f'[[criteria]]\nname = "{name}"\nquestion = "{QUESTIONS[name]}"\nscale = [{low}, {high}]\n'
        f"weight = {WEIGHTS[name]}\n{alpha}"
        for name, (low, high) in SCALES.items()
    )


def openai_judge(url: str, name: str = "server", **more: str) -> str:
    """A judge behind a server of this machine."""
    fields = {
        "name": f'"{name}"',
        "backend": '"openai"',
        "model": '"m"',
        "base_url": f'"{url}"',
        "price": "{ request = 1.0 }",
        **more,
    }
    return "[[judges]]\n" + "".join(f"{key} = {value}\n" for key, value in fields.items())


def write_criteria(
    folder: Path,
    judges: str,
    *,
    labelled: int = 60,
    unlabelled: int = 20,
    shots: int = 0,
    guarantee: str = "",
    noise: float = 0.03,
    seed: int = 0,
) -> Path:
    """Write items whose responses name their grades, and labels that are those grades but for some noise."""
    rng = random.Random(seed)
    items, notes = [], []
    for number in range(labelled + unlabelled):
        grades = {name: rng.randint(*ends) for name, ends in SCALES.items()}
        named = " ".join(f"{name}={grade}" for name, grade in grades.items())
        items.append({"id": f"q{number}", "prompt": f"Question {number}?", "responses": [f"<{named}>"]})
        for name, grade in grades.items() if number < labelled else ():
            label = rng.randint(*SCALES[name]) if rng.random() < noise else grade
            notes.append(
                {"item_id": f"q{number}", "criterion": name, "annotator": "ann", "label": str(label)}
            )
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("items.jsonl", items), ("annotations.jsonl", notes)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = folder / "trustescalate.toml"
    head = HEAD.format(shots=shots, guarantee=guarantee)
    config.write_text(head + criteria_tables() + judges, encoding="utf-8")
    return config


def grades_of(body: Body) -> list[str]:
    """The grades that the response to be judged names, in the order of the criteria."""
    shown = body["messages"][-1]["content"]
    return [re.findall(rf"{name}=(\d)", shown)[-1] for name in SCALES]


def answered(body: Body, text: str, tokens: list[dict[str, Any]] | None = None) -> Canned:
    """A chat completion with this text."""
    choice: dict[str, Any] = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    if tokens is not None and body.get("logprobs"):
        choice["logprobs"] = {"content": tokens}
    usage = {"prompt_tokens": 50, "completion_tokens": 9}
    return Canned(200, {"id": "x", "model": "m", "choices": [choice], "usage": usage})


def direct(body: Body) -> Canned:
    """A line for each criterion; the probabilities stand at the token of each grade."""
    tokens: list[dict[str, Any]] = []
    for place, ((low, high), grade) in enumerate(zip(SCALES.values(), grades_of(body), strict=True), 1):
        rest = 0.1 / (high - low)
        top = [
            {"token": str(each), "logprob": math.log(0.9 if str(each) == grade else rest)}
            for each in range(low, high + 1)
        ]
        tokens += [
            {"token": "\n" * (place > 1) + f"{place}: ", "logprob": 0.0, "top_logprobs": []},
            {"token": grade, "logprob": math.log(0.9), "top_logprobs": top},
        ]
    return answered(body, "".join(token["token"] for token in tokens), tokens)


def structured(body: Body) -> Canned:
    """A JSON object with a field for each criterion, and no log-probabilities."""
    fields = {f"criterion_{place}": grade for place, grade in enumerate(grades_of(body), 1)}
    return answered(body, json.dumps({"reasoning": "Each was weighed.", **fields}))


def reasoned(body: Body) -> Canned:
    """A line with the nonce for each criterion, and no log-probabilities."""
    nonce = re.findall(r'"Verdict ([0-9a-f]{16})"', body["messages"][-1]["content"])[-1]
    lines = [f"Verdict {nonce} {place}: {grade}" for place, grade in enumerate(grades_of(body), 1)]
    return answered(body, "\n".join(["It is clear, and mostly right.", "", *lines]))


def serving(reply: Callable[[Body], Canned] = direct) -> FaultServer:
    """An endpoint that gives this reply to every request."""
    return FaultServer(plan=lambda body, _: reply(body))
