"""Read Prometheus: grading prompts with GPT-4's scores, HHH pairs, Auto-J pairs, BiGGen results.

Instruction, response and reference are cut from the grading prompt, only if every mark occurs once. The three
scores of one prompt are three draws of one judge. Source: github prometheus-eval/prometheus-eval.
"""

from collections.abc import Iterator
from typing import Any

from trustescalate.data.importers.base import Files, Format, Found, Notes, Taken, each
from trustescalate.data.importers.fields import answer, between, get, has, name, text
from trustescalate.data.importers.files import Foreign, Unusable
from trustescalate.data.importers.preferences import DRAWN, GOLD, mark, preferred
from trustescalate.data.importers.verdicts import grade, judged, pairwise, side, verdict
from trustescalate.records import Annotation, Item, Label, Task, TaskKind, Turn

GRADES = ("1", "2", "3", "4", "5")
SCORER = "gpt-4"
ASKED, SAID = "###The instruction to evaluate:\n", "###Response to evaluate:\n"
REFERENCE, RUBRIC = "###Reference Answer (Score 5):\n", "###Score Rubrics:\n"


def _read_scores(files: Files, notes: Notes) -> Iterator[Taken]:
    notes.task = Task(TaskKind.RATING, "How good is the response?", GRADES)
    notes.assume(f"gpt4_score holds draws of one judge, {SCORER!r}: votes of that judge, no human labels")
    for file in files["scores"]:
        yield from each(file, _scored)
    for file in files["biggen"]:
        yield from each(file, _biggen)


def _scored(row: Any) -> Iterator[Found]:
    shown, question, model = text(row, "instruction"), name(row, "idx"), text(row, "response_source")
    prompt, response, reference = _cut(shown)
    item_id = f"{question}|{model}"
    scores, raws = get(row, "gpt4_score"), get(row, "gpt4_feedback")
    if not isinstance(scores, list) or not isinstance(raws, list) or len(scores) != len(raws) or not scores:
        raise Unusable("gpt4_score and gpt4_feedback are no lists of one length")
    votes = [
        verdict(grade(score, 5), raw=raw, member=member)
        for member, (score, raw) in enumerate(zip(scores, raws, strict=True))
    ]
    meta = {
        "model": model,
        "category": row.get("category"),
        "rubric": shown.partition(RUBRIC)[2].partition("\n")[0],
    }
    item = Item(item_id, prompt, (response,), reference, question, meta)
    yield Found(item, judgments=(judged(item_id, SCORER, votes),))


def _biggen(value: Any) -> Iterator[Found]:
    """Read results by their id. An unusable one rejects the file, as in every document."""
    for key, row in value.items():
        model, judge = text(row, "response_model_name"), text(row, "eval_model_name")
        system = get(row, "system_prompt")
        prompt: str | tuple[Turn, ...] = text(row, "input")
        if isinstance(system, str) and system.strip():
            prompt = (Turn("system", system), Turn("user", text(row, "input")))
        meta = {
            "model": model,
            "category": text(row, "capability"),
            "rubric": text(row, "score_rubric", "criteria"),
        }
        reference = row.get("reference_answer")
        item = Item(
            f"{key}|{model}",
            prompt,
            (answer(row, "response"),),
            reference if isinstance(reference, str) and reference else None,
            key,
            meta,
        )
        vote = verdict(grade(get(row, "score"), 5), raw=get(row, "feedback"))
        yield Found(item, judgments=(judged(item.id, judge, [vote]),))


def _read_pairs(files: Files, notes: Notes) -> Iterator[Taken]:
    notes.task = pairwise()
    place = -1

    def hhh(row: Any) -> Iterator[Found]:
        nonlocal place
        place += 1
        source = text(row, "source")
        (prompt, better, _), (also, worse, _) = (
            _cut(text(row, key)) for key in ("chosen_instruction", "rejected_instruction")
        )
        if prompt != also:
            raise Unusable("the two prompts differ")
        yield preferred(prompt, better, worse, item_id=f"{source}/{place}", meta={"subset": source})

    for file in files["hhh"]:
        notes.assume(DRAWN)
        yield from each(file, hhh)
    for file in files["autoj"]:
        notes.assume("Auto-J counts from 0: label 0 is A, 1 is B, 2 a tie")
        yield from each(file, _autoj)


def _autoj(row: Any) -> Iterator[Found]:
    prompt, texts = text(row, "prompt"), (answer(row, "response 1"), answer(row, "response 2"))
    label: Label | None = "tie" if get(row, "label") == 2 else side(get(row, "label"), ("0",), ("1",))
    if label is None or isinstance(row["label"], bool):
        raise Unusable(f"label is {row['label']!r}, not 0, 1 or 2")
    meta = {"category": row["scenario"]} if isinstance(row.get("scenario"), str) else {}
    item = Item(mark(prompt, *texts), prompt, texts, None, f"prompt {mark(prompt)}", meta)
    yield Found(item, (Annotation(item.id, GOLD, label),))


def _cut(shown: str) -> tuple[str, str, str | None]:
    """Instruction, response and reference of a grading prompt."""
    given = REFERENCE in shown
    prompt = between(shown, ASKED, f"\n\n{SAID}")
    response = between(shown, SAID, f"\n\n{REFERENCE if given else RUBRIC}")
    reference = between(shown, REFERENCE, f"\n\n{RUBRIC}") if given else None
    if not prompt or not prompt.strip() or response is None:
        raise Unusable("instruction and response cannot be cut from the grading prompt")
    return prompt, response, reference


def _is_biggen(file: Foreign) -> bool:
    first = file.head[0]
    return (
        file.shape == "document"
        and isinstance(first, dict)
        and any(
            isinstance(row, dict) and {"score_rubric", "response", "eval_model_name", "score"} <= row.keys()
            for row in first.values()
        )
    )


PROMETHEUS_SCORES = Format(
    "prometheus",
    "Prometheus: grading prompts with scores, BiGGen Bench results",
    {
        "scores": lambda file: has(
            file, "idx", "response_source", "instruction", "gpt4_score", "gpt4_feedback"
        ),
        "biggen": _is_biggen,
    },
    ("scores", "biggen"),
    _read_scores,
)
PROMETHEUS_PAIRS = Format(
    "prometheus_pairs",
    "Prometheus: HHH Alignment and Auto-J pairs",
    {
        "hhh": lambda file: has(file, "chosen_instruction", "rejected_instruction", "source"),
        "autoj": lambda file: has(file, "prompt", "response 1", "response 2", "label"),
    },
    ("hhh", "autoj"),
    _read_pairs,
)
