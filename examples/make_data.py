"""Write the data of the examples: simulated items, labels and votes, the same bytes each time.

    python examples/make_data.py

Everything is simulated, so the figures of the examples say nothing about any real model or person.
"""

import json
import math
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trustescalate.judges.simulated.world import generate

HERE = Path(__file__).parent
Row = dict[str, Any]
NOUNS = ("lamp", "chair", "kettle", "rack", "bench", "clock")
COLOURS = ("red", "blue", "green", "white", "black")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")


def main() -> None:
    """Write every file."""
    for name, rows in files().items():
        path = HERE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def files() -> dict[str, list[Row]]:
    """The rows of every file, by path."""
    made: dict[str, list[Row]] = {}
    for folder, rows in (("pairwise", pairwise()), ("pass-fail", pass_fail()), ("rating", rating())):
        made |= {f"{folder}/{name}": part for name, part in rows.items()}
    own = {"ci-gate": ci_gate(), "criteria": criteria()}
    own |= {"faithfulness": faithfulness(), "task-success": task_success()}
    for folder, rows in own.items():
        made |= {f"{folder}/{name}": part for name, part in rows.items()}
    return made


def pairwise() -> dict[str, list[Row]]:
    """Pairs of sums, one right and one wrong. The small judge prefers the first response: position bias."""
    rng = random.Random(1)
    made: dict[str, list[Row]] = {"items.jsonl": [], "annotations.jsonl": []}
    votes: dict[str, list[Row]] = {"small": [], "large": []}
    for number, (left, right) in enumerate(_pairs(rng, 300)):
        name, total = f"p{number:03}", left + right
        wrong = total + rng.choice((-10, -1, 1, 10))
        answers = [f"{left} + {right} = {each}." for each in (total, wrong)]
        best = "A" if rng.random() < 0.5 else "B"
        responses = answers if best == "A" else answers[::-1]
        made["items.jsonl"].append(
            {"id": name, "prompt": f"What is {left} + {right}?", "responses": responses}
        )
        if number < 200:
            made["annotations.jsonl"] += _labels(rng, name, best, "BA"["AB".index(best)], 0.03)
        for judge, strength, bias in (("small", 1.8, 0.8), ("large", 2.8, 0.1)):
            margin = (strength if best == "A" else -strength) + rng.gauss(0, 1.5)
            probs = [{"A": _p(margin + side), "B": 1 - _p(margin + side)} for side in (bias, -bias)]
            votes[judge].append(_judgment(name, judge, probs, ("AB", "BA")))
    return made | {f"votes/{judge}.jsonl": rows for judge, rows in votes.items()}


def pass_fail() -> dict[str, list[Row]]:
    """Products, right or wrong, to be graded pass or fail."""
    rng = random.Random(2)
    made: dict[str, list[Row]] = {"items.jsonl": [], "annotations.jsonl": []}
    votes: dict[str, list[Row]] = {"small": [], "large": []}
    for number, (left, right) in enumerate(_pairs(rng, 300)):
        name, good = f"b{number:03}", rng.random() < 0.7
        answer = left * right + (0 if good else rng.choice((-100, -2, 2, 100)))
        made["items.jsonl"].append(
            {"id": name, "prompt": f"What is {left} × {right}?", "responses": [f"It is {answer}."]}
        )
        label, other = ("pass", "fail") if good else ("fail", "pass")
        if number < 200:
            made["annotations.jsonl"] += _labels(rng, name, label, other, 0.03)
        for judge, strength in (("small", 1.3), ("large", 2.8)):
            right_label = _p(strength + rng.gauss(0, 1.8))
            votes[judge].append(_judgment(name, judge, [{label: right_label, other: 1 - right_label}], ("",)))
    return made | {f"votes/{judge}.jsonl": rows for judge, rows in votes.items()}


def rating() -> dict[str, list[Row]]:
    """Lists of even numbers, graded from 5 (no mistake) down to 1 (four mistakes or more)."""
    rng = random.Random(3)
    made: dict[str, list[Row]] = {"items.jsonl": [], "annotations.jsonl": []}
    votes: dict[str, list[Row]] = {"small": [], "large": []}
    for number in range(300):
        name, start, mistakes = f"r{number:03}", 2 * number + 10, rng.choice((0, 0, 0, 1, 1, 2, 3, 4))
        odd = set(rng.sample(range(5), mistakes))
        listed = ", ".join(str(start + 2 * place + (place in odd)) for place in range(5))
        made["items.jsonl"].append(
            {"id": name, "prompt": f"List five even numbers from {start} on.", "responses": [listed]}
        )
        grade = 5 - mistakes
        if number < 200:
            near = str(min(5, max(1, grade + rng.choice((-1, 1)))))
            made["annotations.jsonl"] += _labels(rng, name, str(grade), near, 0.15)
        for judge, width in (("small", 1.0), ("large", 0.7)):
            center = grade + rng.gauss(0, width)
            weight = {str(each): math.exp(-(((each - center) / width) ** 2) / 2) for each in range(1, 6)}
            probs = {label: part / sum(weight.values()) for label, part in weight.items()}
            votes[judge].append(_judgment(name, judge, [probs], ("",)))
    return made | {f"votes/{judge}.jsonl": rows for judge, rows in votes.items()}


def ci_gate() -> dict[str, list[Row]]:
    """Answers of a calculator bot: labelled ones, and those of two releases, of which the second hedges."""
    rng = random.Random(4)
    made: dict[str, list[Row]] = {
        name: [] for name in ("items.jsonl", "annotations.jsonl", "release-1.jsonl", "release-2.jsonl")
    }
    for number, (left, right) in enumerate(_pairs(rng, 450)):
        part = "items.jsonl" if number < 300 else f"release-{1 if number < 375 else 2}.jsonl"
        good, hedges = rng.random() < 0.8, rng.random() < (0.7 if part == "release-2.jsonl" else 0.2)
        answer = str(left - right + (0 if good else rng.choice((-1, 1, 10))))
        text = f"Perhaps {answer}, depending on how you look at it." if hedges else answer
        name = f"c{number:03}"
        made[part].append({"id": name, "prompt": f"What is {left} - {right}?", "responses": [text]})
        if number < 250:
            useful = good and (not hedges or rng.random() < 0.5)
            label, other = ("pass", "fail") if useful else ("fail", "pass")
            made["annotations.jsonl"] += _labels(rng, name, label, other, 0.02)
    return made


def faithfulness() -> dict[str, list[Row]]:
    """Answers about products from retrieved passages; some claim what no passage says."""
    rng = random.Random(5)
    made: dict[str, list[Row]] = {"items.jsonl": [], "annotations.jsonl": []}
    for number in range(400):
        product, colour = f"{rng.choice(NOUNS)} {number}", rng.choice(COLOURS)
        price, days = rng.randrange(10, 900), rng.randrange(2, 30)
        sheet = f"The {product} is {colour}. It is delivered in {days} days."
        context = [
            {"title": f"{product}: price list", "text": f"The {product} costs {price} euros."},
            {"title": f"{product}: data sheet", "text": sheet},
            f"Orders of several products, the {product} among them, are sent together.",
        ]
        claims = [f"The {product} costs {price} euros.", f"It is {colour}."]
        flaw = rng.choice(("none", "none", "none", "price", "colour", "extra"))
        if flaw == "price":
            claims[0] = f"The {product} costs {price + rng.choice((-5, 5, 50))} euros."
        elif flaw == "colour":
            claims[1] = f"It is {rng.choice([each for each in COLOURS if each != colour])}."
        elif flaw == "extra":
            claims.append("It comes with a guarantee for life.")
        name = f"f{number:03}"
        made["items.jsonl"].append(
            {
                "id": name,
                "prompt": f"What does the {product} cost, and what colour is it?",
                "context": context,
                "responses": [" ".join(claims)],
            }
        )
        label, other = ("pass", "fail") if flaw == "none" else ("fail", "pass")
        if number < 300:
            made["annotations.jsonl"] += _labels(rng, name, label, other, 0.02)
    return made


def task_success() -> dict[str, list[Row]]:
    """Traces of an agent that books rooms; some claim a booking that no tool result shows."""
    rng = random.Random(6)
    made: dict[str, list[Row]] = {"items.jsonl": [], "annotations.jsonl": []}
    for number in range(400):
        name, day, people = f"t{number:03}", rng.choice(DAYS), rng.randrange(2, 12)
        flaw = rng.choice(("none", "none", "none", "taken", "day", "never"))
        room = f"R{rng.randrange(100, 999)}"
        booked = rng.choice([each for each in DAYS if each != day]) if flaw == "day" else day
        rooms = [{"room": room, "seats": people + rng.randrange(4)}, {"room": f"S{number}", "seats": 2}]
        trace = [
            *_call("c1", "find_rooms", {"day": day, "people": people}, rooms),
            *_call(
                "c2",
                "book_room",
                {"day": booked, "room": room},
                {"status": "refused", "reason": "taken"} if flaw == "taken" else {"status": "booked"},
            ),
        ]
        trace = trace[:2] if flaw == "never" else trace
        trace.append({"role": "assistant", "content": f"Room {room} is booked for {people} people on {day}."})
        task = f"Request {number}: book a room for {people} people on {day}."
        made["items.jsonl"].append({"id": name, "prompt": task, "responses": [trace]})
        label, other = ("pass", "fail") if flaw == "none" else ("fail", "pass")
        if number < 300:
            made["annotations.jsonl"] += _labels(rng, name, label, other, 0.02)
    return made


def _call(call_id: str, name: str, arguments: Row, result: Any) -> list[Row]:
    """A call of a tool and its result, as chat completions write them."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": call_id, "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": call_id, "content": json.dumps(result)},
    ]


CRITERIA = {"accuracy": (1, 5), "brevity": (1, 5), "politeness": (1, 3)}


def criteria() -> dict[str, list[Row]]:
    """Answers of the simulated world, graded on three criteria by the faults that were planted in them."""
    rng, world = random.Random(5), generate(seed=5, items=400)
    made: dict[str, list[Row]] = {"items.jsonl": [], "annotations.jsonl": []}
    for number, item in enumerate(world.items):
        side = rng.randrange(2)
        row = {"id": item.id, "prompt": item.prompt, "responses": [item.responses[side]], "group": item.group}
        made["items.jsonl"].append(row)
        if number >= 250:
            continue
        for name, (low, high) in CRITERIA.items():
            faults = [fault for fault in world.faults[item.id][side] if fault.taste == name]
            quality = math.exp(-sum(fault.severity for fault in faults))
            for who in ("ann", "bob", "eve"):
                grade = round(low + (high - low) * quality + rng.gauss(0, 0.2))
                note = {"item_id": item.id, "criterion": name, "annotator": who}
                made["annotations.jsonl"].append({**note, "label": str(min(high, max(low, grade)))})
    return made


def _pairs(rng: random.Random, count: int) -> Iterable[tuple[int, int]]:
    return rng.sample([(left, right) for left in range(11, 99) for right in range(11, 99)], count)


def _labels(rng: random.Random, item: str, label: str, other: str, rate: float) -> list[Row]:
    return [
        {"item_id": item, "annotator": name, "label": other if rng.random() < rate else label}
        for name in ("ann", "bob", "eve")
    ]


def _judgment(item: str, judge: str, probs: list[dict[str, float]], orders: tuple[str, ...]) -> Row:
    usage = {"calls": 1, "input_tokens": 120, "output_tokens": 1}
    votes = [
        {
            "exemplar_set": 0,
            "order": order,
            "probs": {k: math.floor(p * 1e4) / 1e4 for k, p in part.items()},
            "usage": usage,
        }
        for order, part in zip(orders, probs, strict=True)
    ]
    return {"item_id": item, "judge": judge, "fingerprint": judge, "votes": votes, "planned": len(votes)}


def _p(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds))


if __name__ == "__main__":
    main()
