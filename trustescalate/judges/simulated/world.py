"""Simulate items and annotators with known truth.

A response is a right answer with its steps and planted faults. Annotators weigh the faults by their own
tastes, with noise. The truth about an item (its faults, its difference in quality) stays in the `World` and
never enters the `Item`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from trustescalate.judges.simulated.questions import TEMPLATES, Solution, ask, pick, solve
from trustescalate.records import SKIP, TIE, Annotation, Item

CONSTRAINTS = (
    "Answer in one short sentence.",
    "Use at most 15 words.",
    "Just the result, no explanation please.",
)
OPENINGS = (
    "", "", "", "Sure! ", "Happy to help. ", "Good question. ", "Let us work it out. ", "Of course. ",
    "Here is how I see it. ", "Let me take this step by step. ",
)  # fmt: skip
CLOSINGS = ("", "", "", " Hope that helps!", " Let me know if you want more steps.", " Have a nice day!")
CONFIDENT = (" I am absolutely certain.", " There is no doubt about it.", " This is definitely correct.")
LINKS = ("", "", "", "In short, ", "So in the end ", "Therefore ")
RAMBLING = (
    " By the way, people have been asking such questions for centuries.",
    " Speaking of which, my favourite season is autumn, when the leaves turn.",
    " It is also worth remembering that practice makes perfect, whatever the field.",
    " Some say that the ancient Greeks already enjoyed puzzles of this kind over dinner.",
    " On a different note, a short walk after lunch does wonders for the mind.",
    " There are many interesting books about this, and about quite a few other things.",
    " My neighbour once told me a long story about something similar, with a goat in it.",
    " Incidentally, the weather has been rather changeable of late.",
    " Whole university courses have been built around less than this.",
    " That reminds me of a train journey along the coast, which took nine hours.",
)
RUDE = (
    (" Honestly, a child could have told you that.", " You could have looked this up yourself.",
     " Not exactly a hard one, is it?"),
    (" Only an idiot would need to ask this.", " Stop wasting my time with such stupid questions.",
     " How lazy can one be? Use your own brain."),
)  # fmt: skip
HEDGES = (
    (" I think so, anyway.", " At least that seems likely to me.", " Perhaps it is worth a second look."),
    (" But I am really not sure, it might well be something else.",
     " Then again, I may be wrong, it is hard to say, and maybe it depends.",
     " I could be mistaken, though; possibly none of this is right."),
)  # fmt: skip
WORDY = (
    "Before we begin, it is helpful to go over what is being asked here, so that nothing is overlooked. ",
    "In order to arrive at an answer, we shall first of all consider all that has been given to us. ",
    "As with every question of this kind, one should first read it slowly, and then read it once again. ",
)
TURNS = (
    " Actually, no, it should be {0}.",
    " Wait, on second thought it is {0}.",
    " Or rather {0}, come to think of it.",
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One planted fault: its kind, which taste it offends, and how much (1 is a serious matter)."""

    kind: str
    taste: str
    severity: float


FAULTS: Mapping[str, tuple[str, tuple[float, float], float]] = {
    "wrong answer": ("accuracy", (1.0, 1.3), 7),
    "off by one": ("accuracy", (0.8, 1.0), 4),
    "contradictory ending": ("accuracy", (0.6, 0.8), 3),
    "missing unit": ("accuracy", (0.2, 0.35), 2),
    "rambling": ("brevity", (0.35, 0.7), 4),
    "wordy": ("brevity", (0.2, 0.35), 2),
    "ignored constraint": ("brevity", (0.45, 0.6), 4),
    "rude": ("politeness", (0.5, 0.9), 3),
    "hedging": ("clarity", (0.3, 0.6), 3),
    "no steps": ("clarity", (0.25, 0.4), 2),
}
"""Kind: the taste it offends, its severity when mild and when bad, and how often it is drawn."""

Pair = tuple[tuple[Fault, ...], tuple[Fault, ...]]
MOST_ALIKE = 2
"""Items that may share a question, and then a group."""


@dataclass(frozen=True, slots=True)
class Annotator:
    """A simulated annotator: weights of the faults, noise, and indifference (a tie)."""

    name: str
    tastes: Mapping[str, float]
    noise: float
    indifference: float
    skips: float


COUNTS = (*[(0, 1)] * 5, *[(0, 2)] * 3, (0, 3), (1, 2), (1, 1), (0, 0))
"""Numbers of faults of the two responses: mostly one good and one bad, at times both good or both bad."""
TASTES = ("accuracy", "brevity", "politeness", "clarity")
ANNOTATORS = tuple(
    Annotator(f"simulated-annotator-{i}", dict(zip(TASTES, weights, strict=True)), noise, indifference, 0.01)
    for i, (weights, noise, indifference) in enumerate((
        ((1.4, 0.8, 0.8, 0.8), 0.18, 0.07),
        ((1.1, 1.3, 0.8, 0.9), 0.20, 0.08),
        ((1.1, 0.8, 1.5, 1.0), 0.21, 0.08),
        ((1.2, 0.9, 1.0, 1.3), 0.22, 0.07),
        ((0.9, 1.1, 1.1, 1.0), 0.26, 0.10),
    ), 1)
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class World:
    """Simulated items, and by item id the faults of responses A and B."""

    seed: int
    items: tuple[Item, ...]
    faults: Mapping[str, Pair]

    @property
    def quality(self) -> dict[str, float]:
        """The advantage of A over B, by item id, for an annotator with equal tastes."""
        return {id_: _severity(b) - _severity(a) for id_, (a, b) in self.faults.items()}

    def annotations(self, count: int, per_item: int = 3) -> tuple[Annotation, ...]:
        """Labels of the first `count` items by `per_item` annotators, drawn anew for each item."""
        rng = Random(f"simulated annotators {self.seed}")
        return tuple(
            Annotation(item.id, person.name, _label(person, *self.faults[item.id], rng))
            for item in self.items[:count]
            for person in _draw_annotators(per_item, rng)
        )


def generate(seed: int, items: int) -> World:
    """A world of so many pairs. Equal arguments give equal worlds; a longer one begins with a shorter one.

    >>> world = generate(seed=1, items=2)
    >>> [item.id for item in world.items], world.items[0].meta["simulated"]
    (['sim-0001', 'sim-0002'], True)
    >>> world.items == generate(seed=1, items=3).items[:2]
    True
    """
    rng = Random(f"simulated world {seed}")
    asked: dict[str, int] = {}
    shown: set[tuple[str, ...]] = set()
    drawn: list[Item] = []
    faults: dict[str, Pair] = {}
    while len(drawn) < items:
        draft = _draft(rng)
        text = (draft.prompt, *sorted(draft.responses))
        if asked.get(draft.question, 0) == MOST_ALIKE or text in shown or len(set(text)) < len(text):
            continue
        asked[draft.question] = asked.get(draft.question, 0) + 1
        shown.add(text)
        group = f"sim-q-{list(asked).index(draft.question) + 1:04}"
        meta = {"simulated": True, "family": draft.family}
        item_id = f"sim-{len(drawn) + 1:04}"
        drawn.append(Item(item_id, draft.prompt, draft.responses, group=group, meta=meta))
        faults[item_id] = draft.planted
    return World(seed, tuple(drawn), faults)


# ── items ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Draft:
    """An item before it has an id."""

    family: str
    question: str
    prompt: str
    responses: tuple[str, str]
    planted: Pair


def _draft(rng: Random) -> Draft:
    template = pick(rng, TEMPLATES)
    question = ask(template, rng)
    solution = solve(question)
    assert solution is not None
    constraint = pick(rng, CONSTRAINTS) if rng.random() < 0.2 else ""
    planted = [_plant(count, solution, bool(constraint), rng) for count in pick(rng, COUNTS)]
    if rng.random() < 0.5:
        planted.reverse()
    first, second = (_write(solution, bool(constraint), faults, rng) for faults in planted)
    prompt = f"{question} {constraint}".strip()
    return Draft(template.family, question, prompt, (first, second), (planted[0], planted[1]))


def _plant(count: int, solution: Solution, constrained: bool, rng: Random) -> tuple[Fault, ...]:
    deck = [kind for kind, (_, _, weight) in FAULTS.items() for _ in range(int(weight))]
    chosen: dict[str, Fault] = {}
    while len(chosen) < count:
        kind = pick(rng, deck)
        taste, (mild, bad), _ = FAULTS[kind]
        if taste == "accuracy" and any(fault.taste == taste for fault in chosen.values()):
            continue
        if _possible(kind, solution, constrained):
            chosen[kind] = Fault(kind, taste, pick(rng, (mild, bad)))
    return tuple(chosen[kind] for kind in sorted(chosen))


def _possible(kind: str, solution: Solution, constrained: bool) -> bool:
    if kind == "missing unit":
        return bool(solution.unit)
    if kind == "off by one":
        return solution.value.lstrip("-").isdigit()
    if kind in ("no steps", "rambling", "wordy"):
        return not constrained
    return constrained or kind != "ignored constraint"


def _write(solution: Solution, constrained: bool, faults: tuple[Fault, ...], rng: Random) -> str:
    kinds = {fault.kind: fault.severity >= FAULTS[fault.kind][1][1] for fault in faults}
    value = _stated_value(solution, kinds, rng)
    unit = "" if "missing unit" in kinds else solution.unit
    stated = _linked(pick(rng, LINKS), solution.close.format(answer=f"{value} {unit}".strip()))
    brief = constrained and "ignored constraint" not in kinds
    parts = [stated] if brief else [pick(rng, OPENINGS), solution.steps, " ", stated]
    if "no steps" in kinds:
        parts = [stated]
    if "wordy" in kinds or kinds.get("ignored constraint", False):
        parts.insert(0, pick(rng, WORDY))
    return "".join([*parts, *_ending(solution, kinds, brief, rng)])


def _linked(link: str, sentence: str) -> str:
    return f"{link}{sentence[0].lower()}{sentence[1:]}" if link else sentence


def _stated_value(solution: Solution, kinds: Mapping[str, bool], rng: Random) -> str:
    if "wrong answer" in kinds:
        return pick(rng, solution.lures)
    if "off by one" in kinds:
        return str(int(solution.value) + pick(rng, (-1, 1)))
    return solution.value


def _ending(solution: Solution, kinds: Mapping[str, bool], brief: bool, rng: Random) -> list[str]:
    parts = []
    if "contradictory ending" in kinds:
        parts.append(pick(rng, TURNS).format(pick(rng, solution.lures)))
    for kind, pool in (("hedging", HEDGES), ("rude", RUDE)):
        if kind in kinds:
            parts.append(pick(rng, pool[kinds[kind]]))
    if "rambling" in kinds:
        start = int(rng.random() * len(RAMBLING))
        parts += [RAMBLING[(start + i) % len(RAMBLING)] for i in range(3 if kinds["rambling"] else 2)]
    if not brief and "rude" not in kinds:
        sure = 0.35 if {"wrong answer", "off by one"} & set(kinds) else 0.1
        sure = 0.0 if {"hedging", "contradictory ending"} & set(kinds) else sure
        parts.append(pick(rng, CONFIDENT) if rng.random() < sure else pick(rng, CLOSINGS))
    return parts


# ── annotators ─────────────────────────────────────────────────────────────────────────────────────


def _draw_annotators(count: int, rng: Random) -> list[Annotator]:
    rest = list(ANNOTATORS)
    drawn = [rest.pop(int(rng.random() * len(rest))) for _ in range(count)]
    return sorted(drawn, key=lambda person: person.name)


def _severity(faults: tuple[Fault, ...]) -> float:
    return sum(fault.severity for fault in faults)


def _dislike(person: Annotator, faults: tuple[Fault, ...]) -> float:
    return sum(fault.severity * person.tastes[fault.taste] for fault in faults)


def _label(person: Annotator, a: tuple[Fault, ...], b: tuple[Fault, ...], rng: Random) -> str:
    if rng.random() < person.skips:
        return SKIP
    u = min(max(rng.random(), 1e-12), 1 - 1e-12)
    lead = _dislike(person, b) - _dislike(person, a) + person.noise * math.log(u / (1 - u))
    if abs(lead) < person.indifference:
        return TIE
    return "A" if lead > 0 else "B"
