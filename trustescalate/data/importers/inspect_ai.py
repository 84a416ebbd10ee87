"""Read Inspect AI logs, .json and .eval: scorers are judges, edits of a score are human labels.

The first entry of a score's history is the judge's own value, later ones are edits; the top-level value is
the last of them. NaN is an unreadable grader, as is one whose reason says so. Choices stand below the prompt,
by the letters that the model saw. Epochs are items of one group. The messages of an agent are
its response. Source: Inspect AI.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from trustescalate.data.importers.base import Files, Format, Found, Notes, Taken
from trustescalate.data.importers.choices import listed_choices, with_choices
from trustescalate.data.importers.codes import are_grades, no_verdicts
from trustescalate.data.importers.fields import answer, get, name, text
from trustescalate.data.importers.fields import turns as conversation
from trustescalate.data.importers.files import Foreign, Record, Rejected, Unusable
from trustescalate.data.importers.harness import BINARY, CHECKS
from trustescalate.data.importers.traces import as_prompt, ended, from_answer
from trustescalate.data.importers.unread import why_failed
from trustescalate.data.importers.verdicts import annotate, judged, verdict
from trustescalate.records import Annotation, Item, Judgment, Label, Task, TaskKind, Turn

GRADES = Task(TaskKind.CHOICE, "Is the response correct?", ("correct", "partial", "incorrect", "no answer"))
LETTERS = {"C": "correct", "P": "partial", "I": "incorrect", "N": "no answer"}
UNCHANGED = "UNCHANGED"


def _read(files: Files, notes: Notes) -> Iterator[Taken]:
    notes.assume(CHECKS)
    notes.assume("an edited score is its author's label, the value before it the judge's")
    for file in files["log"]:
        header, finer, grades = _survey(file)
        task = GRADES if finer else BINARY
        if notes.task is not None and notes.task != task:
            yield Rejected(str(file.path), "file", "grades partial answers where another file does not")
            continue
        notes.task = task
        models = _graders(header)
        if grades:
            notes.assume(no_verdicts(sorted(grades)))
        for sample in _samples(file):
            if isinstance(sample, Rejected):
                yield sample
                continue
            try:
                yield _sample(sample.value, task, models, grades)
            except Unusable as error:
                yield Rejected(str(file.path), sample.place, str(error))


def _survey(file: Foreign) -> tuple[Any, bool, Collection[str]]:
    """The header, whether a sample is graded in parts, and the scorers whose numbers are grades on a scale.

    Archives are read twice, and never held.
    """
    header: Any = {}
    finer, grades = False, set()
    for record in file.records():
        if record.place == "header.json" and isinstance(record, Record):
            header = record.value["value"]
        elif isinstance(record, Record) and not isinstance(record.place, str):
            header = record.value
    for sample in _samples(file):
        for scorer, score in _all_scores(sample.value) if isinstance(sample, Record) else ():
            finer = finer or _letter(score) in ("P", "N")
            if are_grades([_letter(score)]):
                grades.add(scorer)
    return header, finer, grades


def _samples(file: Foreign) -> Iterator[Record | Rejected]:
    """The samples of a log with their places, and what cannot be read."""
    for record in file.records():
        if isinstance(record, Rejected):
            yield record
        elif isinstance(record.place, str):  # a member of an archive
            if record.place.startswith("samples/"):
                yield Record(record.place, record.value["value"])
        else:
            rows = record.value.get("samples") if isinstance(record.value, dict) else None
            rows = rows if isinstance(rows, list) else []
            if not rows:
                yield Rejected(str(file.path), "samples", "the log holds no samples")
            yield from (Record(f"samples.{place}", row) for place, row in enumerate(rows))


def _graders(header: Any) -> Mapping[str, str]:
    """The model of each scorer that has one: its own option, else the role grader."""
    spec = header.get("eval") if isinstance(header, dict) else None
    spec = spec if isinstance(spec, dict) else {}
    roles = spec.get("model_roles")
    grader = _model((roles or {}).get("grader")) if isinstance(roles, dict) else ""
    graders = {}
    scorers = spec.get("scorers")
    for scorer in scorers if isinstance(scorers, list) else []:
        if isinstance(scorer, dict) and isinstance(scorer.get("name"), str):
            options = scorer.get("options")
            own = _model(options.get("model")) if isinstance(options, dict) else ""
            graders[scorer["name"]] = own or (grader if scorer["name"].startswith("model_graded") else "")
    return graders


def _model(value: Any) -> str:
    value = value.get("model") if isinstance(value, dict) else value
    return value if isinstance(value, str) else ""


def _sample(sample: Any, task: Task, models: Mapping[str, str], grades: Collection[str]) -> Found:
    if isinstance(sample, dict) and sample.get("error"):
        raise Unusable("the sample crashed: there is nothing to judge")
    item = read_item(sample)
    response = _completion(sample)
    scores = sample.get("scores")
    judgments, notes = list[Judgment](), list[Annotation]()
    for scorer, score in (scores if isinstance(scores, dict) else {}).items():
        judge = f"{scorer} {models.get(scorer, '')}".strip()
        read = _bare if scorer in grades else _label
        judgments.append(_judgment(item.id, judge, score, task, response, read))
        notes += _edits(item.id, score, task, read)
    return Found(item, tuple(notes), tuple(judgments))


def read_item(sample: Any) -> Item:
    """The item of a sample, as a log holds it: one of each epoch. Raises Unusable for what is no sample."""
    sample_id, epoch = name(sample, "id"), name(sample, "epoch")
    target = sample.get("target")
    if isinstance(target, list) and all(isinstance(each, str) for each in target):
        target = "\n".join(target)  # any of them is right
    reference = target if isinstance(target, str) and target.strip() else None
    response = _completion(sample)
    prompt = _asked(sample)
    trace = _trace(sample, prompt, response)
    return Item(f"{sample_id}|epoch{epoch}", prompt, (trace,), reference, sample_id)


def _completion(sample: Any) -> str:
    """The model's answer; older logs have it only in the message."""
    output = get(sample, "output")
    if isinstance(output, dict) and "completion" in output:
        return answer(sample, "output", "completion")
    content = get(sample, "output", "choices", 0, "message", "content")
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
        content = "".join(part["text"] for part in parts) if parts or not content else None
    if not isinstance(content, str):
        raise Unusable("the answer holds no text")
    return content


def _trace(sample: Any, prompt: str | tuple[Turn, ...], response: str) -> str | tuple[Turn, ...]:
    """The response; of an agent, with the tool calls and results that led to it."""
    messages = sample.get("messages")
    dicts = [each for each in messages if isinstance(each, dict)] if isinstance(messages, list) else []
    if not any(each.get("tool_calls") or each.get("role") == "tool" for each in dicts):
        return response
    return ended(from_answer(prompt, conversation(sample, "messages")), response)


def _asked(sample: Any) -> str | tuple[Turn, ...]:
    if isinstance(get(sample, "input"), str):
        prompt: str | tuple[Turn, ...] = text(sample, "input")
    else:
        prompt = as_prompt(conversation(sample, "input"))
    messages = sample.get("messages")
    shown = [
        content
        for message in (messages if isinstance(messages, list) else [])
        if isinstance(message, dict) and message.get("role") == "user"
        for content in _contents(message.get("content"))
    ]
    return with_choices(prompt, listed_choices(sample.get("choices")), "\n".join(shown))


def _contents(content: Any) -> list[str]:
    parts = content if isinstance(content, list) else [{"text": content}]
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return [each for each in texts if isinstance(each, str)]


def _judgment(
    item_id: str, judge: str, score: Any, task: Task, response: str, read: Callable[[Any, Task], Label | None]
) -> Judgment:
    """A scorer's own reading. Checks explain themselves with the response, which says nothing of a grader."""
    history = _history(score)
    own = history[0] if history else score
    own = own if isinstance(own, dict) else {}
    label, why = read(own.get("value"), task), _why_failed(own)
    raw = own.get("explanation")
    if not isinstance(raw, str):
        raw = score.get("explanation") if isinstance(score, dict) else ""
    echoes = isinstance(raw, str) and raw.strip() == response.strip()
    vote = verdict(None if why else label, raw="" if echoes else raw, why=why or "none")
    return judged(item_id, judge, [replace(vote, raw=response) if echoes else vote])


def _why_failed(own: Mapping[str, Any]) -> str | None:
    meta = own.get("metadata")
    return why_failed(own.get("reason")) or (
        why_failed(meta.get("unscored_reason")) if isinstance(meta, dict) else None
    )


def _edits(
    item_id: str, score: Any, task: Task, read: Callable[[Any, Task], Label | None]
) -> tuple[Annotation, ...]:
    """The last label of each author who edited a score."""
    labels: dict[str, Label] = {}
    for edit in _history(score)[1:]:
        provenance = edit.get("provenance") if isinstance(edit, dict) else None
        author = provenance.get("author") if isinstance(provenance, dict) else None
        value = edit.get("value") if isinstance(edit, dict) else None
        label = None if value == UNCHANGED else read(value, task)
        if isinstance(author, str) and author and label is not None:
            labels[author] = label
    return annotate(item_id, labels)


def _history(score: Any) -> list[Any]:
    history = score.get("history") if isinstance(score, dict) else None
    return history if isinstance(history, list) else []


def _all_scores(sample: Any) -> list[tuple[str, Any]]:
    """All scores of a sample, and what they were before, each with its scorer."""
    scores = sample.get("scores") if isinstance(sample, dict) else None
    named = scores.items() if isinstance(scores, dict) else ()
    return [(scorer, each) for scorer, score in named for each in (score, *_history(score))]


def _letter(score: Any) -> Any:
    return score.get("value") if isinstance(score, dict) else None


def _bare(value: Any, task: Task) -> Label | None:
    """The label of a scorer whose numbers are grades."""
    return None if isinstance(value, int | float) and not isinstance(value, bool) else _label(value, task)


def _label(value: Any, task: Task) -> Label | None:
    if isinstance(value, bool | int | float) and not (isinstance(value, float) and math.isnan(value)):
        value = "C" if value == 1 else "I" if value == 0 else None
    if not isinstance(value, str) or value not in LETTERS:
        return None
    if task is GRADES:
        return LETTERS[value]
    return {"C": "pass", "I": "fail"}.get(value)


def _is_log(file: Foreign) -> bool:
    first = file.head[0]
    if not isinstance(first, dict):
        return False
    if "member" in first:
        return file.path.suffix == ".eval"
    return "eval" in first and "status" in first and "plan" in first


INSPECT_AI = Format("inspect_ai", "Inspect AI logs (.json, .eval)", {"log": _is_log}, ("log",), _read)
