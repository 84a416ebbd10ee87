"""A decision model on this machine that speaks both wires, written from their documentation alone.

    with DecisionServer(answer=by_length) as server:
        ...  # base_url = server.url

`answer` gives the weights of the options of a question: (the whole text, the question's text, its options).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.support.endpoints import PathServer, simulated
from tests.support.servers import Body, Canned
from trustescalate.judges.simulated.reading import MARK

Weigh = Callable[[str, str, Sequence[str]], Sequence[float]]
Fault = Callable[[Body, int], Canned | None]


def first_of(state: str, text: str, options: Sequence[str]) -> Sequence[float]:
    """The first option, always: a model with nothing but position bias."""
    return [0.8, *[0.2 / (len(options) - 1)] * (len(options) - 1)]


class DecisionServer(PathServer):
    """The server. `bodies` are the requests in order, `model` its own name, `listed` the models it lists."""

    def __init__(
        self,
        weigh: Weigh = first_of,
        fault: Fault = lambda body, nth: None,
        *,
        model: str = "decider-2026-11-01",
        edit: Callable[[Any], Any] = lambda answer: answer,
    ) -> None:
        super().__init__(self._respond)
        self.bodies: list[Body] = []
        self.model, self.listed = model, list[str]()
        self._weigh, self._fault, self._edit = weigh, fault, edit
        self._times: dict[str, int] = {}

    def _respond(self, method: str, path: str, body: Body) -> Canned:
        if method == "GET":
            rows = [{"id": name} for name in self.listed]
            known = path == "/v1/models" and rows
            return Canned(200, {"data": rows}) if known else Canned(404, {"error": {"message": f"no {path}"}})
        self.bodies.append(body)
        key = json.dumps(body, sort_keys=True)
        self._times[key] = self._times.get(key, 0) + 1
        canned = self._fault(body, self._times[key])
        if canned is not None:
            return canned
        if path != ("/v1/systemone" if "state" in body else "/v1/decisions"):
            return Canned(404, {"error": {"message": f"no {path}"}})
        return Canned(200, decide(body, self._weigh, self._edit, self.model))


def decide(
    body: Body, weigh: Weigh, edit: Callable[[Any], Any] = lambda answer: answer, model: str = "decider"
) -> Body:
    """The reply to a request of either wire."""
    usage = {"input_tokens": len(json.dumps(body)) // 4, "output_tokens": 0}
    if "state" in body:
        named = {
            name: edit(_system_one(body["state"], asked, weigh)) for name, asked in body["questions"].items()
        }
        answers = {name: answer for name, answer in named.items() if answer is not None}
        return {"model": model, "answers": answers, "usage": usage}
    listed = [edit(_decision(body["input"], asked, weigh)) for asked in body["questions"]]
    return {"model": model, "answers": listed, "usage": {**usage, "total_tokens": usage["input_tokens"]}}


def _decision(text: str, asked: Body, weigh: Weigh) -> Body:
    options = [row["value"] for row in asked.get("choices", ())]
    options += [row["label"] for row in asked.get("levels", ())]
    shares = _shares(weigh(text, asked["instructions"], options or ("true", "false")))
    answer = {"type": asked["type"], "name": asked.get("name")}
    if asked["type"] == "predicate":
        return answer | {"probability": shares[0]}
    if asked["type"] == "choice":
        rows = [{"value": name, "probability": p} for name, p in zip(options, shares, strict=True)]
        return answer | {"choice": options[0], "confidence": 0.5, "probabilities": rows}
    levels = enumerate(zip(options, shares, strict=True))
    rows = [{"value": place, "label": name, "probability": p} for place, (name, p) in levels]
    return answer | {"score": 1.0, "confidence": 0.5, "probabilities": rows}


def _system_one(state: str, asked: Body, weigh: Weigh) -> Body:
    options = list(asked.get("criteria") or {}) if asked["type"] != "noul" else ["true", "false"]
    shares = _shares(weigh(state, asked["instructions"], options))
    if asked["type"] == "noul":
        return {"type": "noul", "noul": shares[0]}
    if asked["type"] == "choice":
        named = dict(zip(options, shares, strict=True))
        return {"type": "choice", "choice": options[0], "confidence": 0.5, "probabilities": named}
    placed = {str(place): p for place, p in enumerate(shares)}
    return {"type": "score", "score": 1.0, "confidence": 0.5, "probabilities": placed}


def _shares(weights: Sequence[float]) -> list[float]:
    return [weight / sum(weights) for weight in weights]


def responses_in(text: str) -> Mapping[str, str]:
    """The responses that stand between marks in a question, by their place."""
    parts = {}
    for place in "AB":
        _, _, rest = text.partition(f"[response {place} ")
        parts[place] = rest.partition("]\n")[2].partition(f"\n[end response {place} ")[0]
    return parts


def by_length(state: str, text: str, options: Sequence[str]) -> Sequence[float]:
    """The longer response of a pair; for one response, the likelier the longer the text is."""
    shown = responses_in(text)
    if shown["A"] or shown["B"]:
        a, b = (1 + len(shown[place]) for place in "AB")
        return [a, b, *[0.0] * (len(options) - 2)]
    return [1 + len(state) % 7, *range(1, len(options))]


def simulated_pair(state: str, text: str, options: Sequence[str]) -> Sequence[float]:
    """What the smallest simulated judge says of a pair."""
    shown = [part[mark.start() :] for part in (state, text) if (mark := MARK.search(part))]
    probs = simulated({"model": "XS", "messages": [{"role": "user", "content": "\n\n".join(shown)}]})
    named = {symbol.casefold(): p for symbol, p in probs.items()}
    return [named[option.casefold()] + 1e-9 for option in options]
