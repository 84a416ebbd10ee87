"""The simulated world: reproducible, honest about being simulated, and read by its judges as text."""

import asyncio
import json
import math
import tomllib
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trustescalate.judges.prompts import Exemplar, messages, symbols
from trustescalate.judges.simulated import DEMO_CONFIG, PRICES, SimulatedBackend, World, generate, write_demo
from trustescalate.judges.simulated.questions import TEMPLATES, solve
from trustescalate.judges.simulated.questions import ask as ask_question
from trustescalate.judges.simulated.reading import read_page, read_traits
from trustescalate.records import Annotation, Item, Message, Reply, Request, Task, TaskKind, visible

pytestmark = pytest.mark.slow
DEMO = Path(__file__).parents[2] / "calibration_sets" / "demo"
FILES = ("CARD.md", "annotations.jsonl", "items.jsonl", "trustescalate.toml")
PAIRWISE = Task(TaskKind.PAIRWISE, "Which response would a human reader prefer?", ("A", "B", "tie"))
SIZES = ("XS", "S", "M")


def ask(model, shown, words=("A", "B", "tie"), *, logprobs=True, temperature=0.0, sample=0) -> Reply:
    shown = shown if isinstance(shown, tuple) else (Message("user", shown),)
    request = Request(shown, words, 1, temperature, logprobs, sample)
    return asyncio.run(SimulatedBackend(model).complete(request))


def probs(reply: Reply, words=("A", "B", "tie")) -> list[float]:
    assert reply.tokens is not None
    found = {word.casefold(): 0.0 for word in words}
    for text, logprob in reply.tokens[0].top:
        if text.strip().casefold() in found:
            found[text.strip().casefold()] += math.exp(logprob)
    return list(found.values())


def majority(annotations: tuple[Annotation, ...]) -> dict[str, str]:
    votes: dict[str, list[str]] = {}
    for annotation in annotations:
        votes.setdefault(annotation.item_id, []).append(annotation.label)
    first = {id_: Counter(labels).most_common(1)[0] for id_, labels in votes.items()}
    return {id_: label for id_, (label, count) in first.items() if count >= 2 and label != "skip"}


def ceiling(annotations: tuple[Annotation, ...]) -> float:
    """How often one person agrees with the other two, where those two agree."""
    votes: dict[str, list[str]] = {}
    for annotation in annotations:
        votes.setdefault(annotation.item_id, []).append(annotation.label)
    hits = [
        one == two
        for a, b, c in votes.values()
        for one, two, three in ((a, b, c), (b, c, a), (c, a, b))
        if two == three and "skip" not in (one, two)
    ]
    return sum(hits) / len(hits)


def verdicts(model: str, world: World, exemplars: list[Exemplar]) -> list[tuple[str, str, float]]:
    """Item, label and score by the mean of both orders."""
    rows = []
    for item in world.items:
        forth = probs(ask(model, messages(PAIRWISE, exemplars, item)))
        back = probs(ask(model, messages(PAIRWISE, exemplars, item, swapped=True)))
        mean = [forth[0] + back[1], forth[1] + back[0], forth[2] + back[2]]
        rows.append((item.id, PAIRWISE.labels[mean.index(max(mean))], max(mean) / sum(mean)))
    return rows


# ── the world and the demo folder ────────────────────────────────────────────────────────────────


def test_equal_seeds_write_equal_bytes(tmp_path):
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        write_demo(tmp_path / name, seed=seed)
    for file in FILES:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert (tmp_path / "one/items.jsonl").read_bytes() != (tmp_path / "other/items.jsonl").read_bytes()


@pytest.mark.parametrize("file", FILES)
def test_demo_folder_is_what_write_demo_writes(tmp_path, file):
    write_demo(tmp_path)
    assert (DEMO / file).read_bytes() == (tmp_path / file).read_bytes()


def test_demo_says_simulated_everywhere():
    items = [json.loads(line) for line in (DEMO / "items.jsonl").read_text("utf-8").splitlines()]
    people = [json.loads(line)["annotator"] for line in (DEMO / "annotations.jsonl").read_text().splitlines()]
    judges = tomllib.loads(DEMO_CONFIG)["judges"]
    assert all(item["meta"]["simulated"] is True and item["id"].startswith("sim-") for item in items)
    assert all(person.startswith("simulated-") for person in people)
    assert [judge["name"] for judge in judges] == [f"simulated-{size}" for size in SIZES]
    assert [judge["price"] for judge in judges] == [
        {"input": price[0], "output": price[1]} for price in PRICES.values()
    ]
    assert "simulated" in (DEMO / "CARD.md").read_text().splitlines()[0]


def test_demo_rows_are_records_in_field_order():
    for line in (DEMO / "items.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        assert list(row) == ["id", "prompt", "responses", "group", "meta"]
        assert "label" not in line
    assert sum((DEMO / file).stat().st_size for file in FILES) < 1_000_000


def test_no_lure_is_the_answer():
    rng = Random(0)
    for template in TEMPLATES:
        for _ in range(200):
            solution = solve(ask_question(template, rng))
            assert solution is not None
            assert solution.lures
            assert solution.value not in solution.lures


def test_items_are_unique_and_groups_are_questions():
    items = generate(seed=8, items=700).items
    assert len({item.id for item in items}) == 700
    assert len({(item.prompt, *sorted(item.responses)) for item in items}) == 700
    assert max(Counter(item.group for item in items).values()) == 2


def test_sides_are_balanced():
    quality = generate(seed=8, items=2000).quality.values()
    first = sum(q > 0 for q in quality) / sum(q != 0 for q in quality)
    assert abs(first - 0.5) < 0.045  # four standard errors


@pytest.mark.parametrize("seed", range(4))
def test_annotators_differ_within_a_human_ceiling(seed):
    annotations = generate(seed, 1000).annotations(1000)
    assert 0.87 < ceiling(annotations) < 0.94
    labels = Counter(annotation.label for annotation in annotations)
    assert 0.02 < labels["tie"] / 3000 < 0.12
    assert 0 < labels["skip"] / 3000 < 0.03
    assert len({annotation.annotator for annotation in annotations}) == 5


def test_people_follow_the_truth():
    world = generate(seed=1, items=600)
    clear = {id_: label for id_, label in majority(world.annotations(600)).items()
             if abs(world.quality[id_]) > 0.8}  # fmt: skip
    right = sum((label == "A") == (world.quality[id_] > 0) for id_, label in clear.items())
    assert right / len(clear) > 0.95


# ── the judges ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def judged():
    world = generate(seed=21, items=400)
    truth = majority(world.annotations(400))
    shots = [Exemplar(item, truth[item.id]) for item in generate(21, 12).items if item.id in truth][:4]
    return {
        size: [
            (label == truth[id_], score) for id_, label, score in verdicts(size, world, shots) if id_ in truth
        ]
        for size in SIZES
    }


def test_bigger_judges_agree_more(judged):
    agreement = {size: sum(right for right, _ in rows) / len(rows) for size, rows in judged.items()}
    assert 0.6 < agreement["XS"] < agreement["S"] - 0.04 < agreement["M"] - 0.08


@pytest.mark.parametrize("size", SIZES)
def test_confidence_is_informative(judged, size):
    ranked = sorted(judged[size], key=lambda row: -row[1])
    sure = ranked[: len(ranked) // 3]
    assert sum(right for right, _ in sure) / len(sure) > 0.85


def test_the_smallest_judge_is_the_most_overconfident(judged):
    excess = {size: sum(score - right for right, score in rows) / len(rows) for size, rows in judged.items()}
    assert excess["XS"] > excess["S"] > excess["M"]
    assert excess["XS"] > 0.05
    assert abs(excess["M"]) < 0.05


def test_the_answer_depends_on_the_text_of_a_response():
    good, bad = (
        "The capital of Kenya is Nairobi.",
        "The capital of Kenya is Mombasa. Only an idiot would ask.",
    )
    one = Item("x", "What is the capital of Kenya?", (good, bad))
    other = Item("x", "What is the capital of Kenya?", (bad, good))
    assert ask("M", messages(PAIRWISE, [], one)).text == "A"
    assert ask("M", messages(PAIRWISE, [], other)).text == "B"


def test_swapped_responses_mostly_mirror_the_verdict():
    mirror = {"A": "B", "B": "A", "tie": "tie"}
    flips = {
        size: sum(
            ask(size, messages(PAIRWISE, [], item)).text
            != mirror[ask(size, messages(PAIRWISE, [], item, swapped=True)).text]
            for item in generate(seed=2, items=300).items
        )
        for size in SIZES
    }
    assert flips["M"] < flips["XS"] < 120


def test_exemplars_shift_the_probabilities():
    *shown, item = generate(seed=3, items=9).items
    a = ask("S", messages(PAIRWISE, [Exemplar(one, "A") for one in shown], item))
    b = ask("S", messages(PAIRWISE, [Exemplar(one, "B") for one in shown], item))
    tied = ask("S", messages(PAIRWISE, [Exemplar(one, "tie") for one in shown], item))
    assert len({tuple(probs(reply)) for reply in (a, b, tied)}) == 3
    assert probs(tied)[2] > max(probs(a)[2], probs(b)[2])


def test_equal_requests_have_equal_answers_and_samples_differ():
    shown = messages(PAIRWISE, [], generate(seed=6, items=1).items[0])
    draws = [ask("XS", shown, logprobs=False, temperature=3.0, sample=i).text for i in range(60)]
    again = [ask("XS", shown, logprobs=False, temperature=3.0, sample=i).text for i in range(60)]
    assert draws == again
    assert len(set(draws)) > 1
    assert ask("XS", shown, logprobs=False).tokens is None


def test_seeds_and_models_differ():
    request = Request(messages(PAIRWISE, [], generate(6, 1).items[0]), PAIRWISE.labels, 1, 0.0, True)
    backends = [SimulatedBackend("S"), SimulatedBackend("S", seed=1), SimulatedBackend("M")]
    assert len({asyncio.run(backend.complete(request)).tokens for backend in backends}) == 3
    with pytest.raises(ValueError, match="no simulated model"):
        SimulatedBackend("XL")


def test_logprobs_look_like_an_endpoints():
    shots = [Exemplar(item, "A") for item in generate(seed=7, items=4).items]
    reply = ask("S", messages(PAIRWISE, shots, generate(seed=9, items=1).items[0]))
    (token,) = reply.tokens
    masses = [math.exp(logprob) for _, logprob in token.top]
    assert token.top[0][0] == token.text == reply.text
    assert masses == sorted(masses, reverse=True)
    assert 0.9 < sum(probs(reply)) < sum(masses) < 1
    assert len({text for text, _ in token.top}) == len(token.top) <= 20
    assert reply.usage.calls == 1
    assert 0 < reply.usage.cached_tokens < reply.usage.input_tokens


@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        (TaskKind.BINARY, ("pass", "fail")),
        (TaskKind.BINARY, ("safe", "severe")),
        (TaskKind.RATING, ("1", "2", "3", "4", "5")),
        (TaskKind.CHOICE, ("full", "fair", "none")),
        (TaskKind.CHOICE, tuple("abcdefgh")),
    ],
)
def test_other_tasks_and_symbols(kind, labels):
    task = Task(kind, "How good is it?", labels)
    item = Item(
        "x", "What is the capital of Kenya?", ("The capital of Kenya is Nairobi.",), reference="Nairobi"
    )
    words = symbols(task)
    shots = [Exemplar(Item("y", "What is the capital of Italy?", ("Milan, maybe.",)), labels[-1])]
    for size in SIZES:
        reply = ask(size, messages(task, shots, item), words)
        assert reply.text in words
        assert 0.85 < sum(probs(reply, words)) < 1


def test_a_single_response_is_graded_by_its_faults():
    task = Task(TaskKind.BINARY, "Is the response fine?", ("pass", "fail"))
    world = generate(seed=4, items=200)
    rows = [(item, side, faults) for item in world.items for side, faults in enumerate(world.faults[item.id])]
    right = [
        (
            ask("M", messages(task, [], Item("x", item.prompt, (item.responses[side],))), task.labels).text
            == "pass"
        )
        == (sum(fault.severity for fault in faults) < 0.6)
        for item, side, faults in rows
    ]
    assert sum(right) / len(right) > 0.8


# ── odd texts ────────────────────────────────────────────────────────────────────────────────────

ODD = (
    "", "\n", "[end response A 00000000]", "[response B 00000000]\nA\n[end response B 00000000]",
    "{answer} {0}", "日本語 🦆 \ud800", "A" * 100_000, "who is taller than " * 6000, "(" * 20_000,
    "1" * 20_000 + "?",
)  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_odd_texts_get_an_answer(size, text):
    assert ask(size, text).text in PAIRWISE.labels
    assert ask(size, messages(PAIRWISE, [], Item("x", text, (text, "b" + text)))).text in PAIRWISE.labels


@settings(max_examples=60, deadline=None)
@given(prompt=st.text(), a=st.text(), b=st.text())
def test_blocks_survive_any_text(prompt, a, b):
    page = read_page(messages(PAIRWISE, [], Item("x", prompt, (a, b)))[-1].content)
    assert (page.question, page.responses) == (prompt, (visible(a), visible(b)))
    assert ask("XS", messages(PAIRWISE, [], Item("x", prompt, (a, b)))).text in PAIRWISE.labels


def test_faults_are_seen_in_the_text():
    """Reading agrees with what was planted; a few mild faults drown in polite phrases."""
    world = generate(seed=12, items=500)
    seen = {"rude": "rude", "hedging": "hedged", "contradictory ending": "turned"}
    for item in world.items:
        for response, faults in zip(item.responses, world.faults[item.id], strict=True):
            traits, kinds = read_traits(str(item.prompt), "", response), {fault.kind for fault in faults}
            assert (traits.wrong > 0) == bool(kinds & {"wrong answer", "off by one"})
            for kind, trait in seen.items():
                assert (getattr(traits, trait) > 0) == (kind in kinds)
