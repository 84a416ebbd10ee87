"""Exports that come back by an import, what annotators see, and cells that would be formulas."""

import csv
import io
import json
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.exports import exported, relabelled, single
from tests.support.formats import Parsed, parse
from trustescalate.records import Run, Task, TaskKind, ToolCall, Turn
from trustescalate.report.export.base import Export
from trustescalate.report.export.registry import TARGETS
from trustescalate.report.export.tables import guarded

pytestmark = pytest.mark.slow


def labels(parsed: Parsed) -> dict[tuple[str, str], str]:
    return parsed.annotations


def people(done: Run) -> dict[tuple[str, str], str]:
    return {(note.item_id, note.annotator): note.label for note in done.annotations}


# ── round trips ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("target", ["csv", "jsonl", "parquet"])
def test_tables_come_back_whole(target: str, done: Run, tmp_path: Path) -> None:
    given_run = relabelled(done)
    path, _ = exported(target, given_run, tmp_path)
    parsed = parse(tmp_path / "set", path, columns=path.with_name(path.name + ".columns.toml"))
    assert parsed.result.refused == 0
    assert list(parsed.items) == [item.id for item in given_run.items]
    for item in given_run.items:
        back = parsed.items[item.id]
        assert (back.prompt, back.responses, back.group) == (item.prompt, item.responses, item.group)
        assert (back.reference, back.meta) == (item.reference, item.meta)
    assert labels(parsed) == people(given_run)
    verdicts = {(d.item_id, step.judge): step.label for d in given_run.decisions for step in d.trail}
    assert {key: parsed.votes(*key)[0][1] for key in parsed.judgments} == {
        key: label or "invalid" for key, label in verdicts.items()
    }


def test_json_lines_keep_turns(done: Run, tmp_path: Path) -> None:
    call = Turn("assistant", "", (ToolCall("count", "{}", "c1"),))
    used = (call, Turn("tool", "2", tool_call_id="c1"))
    talk = (Turn("assistant", "One."), Turn("user", "And?"), *used, Turn("assistant", "Two."))
    items = tuple(replace(i, responses=(talk, i.responses[1]), context=("P", "Q")) for i in done.items)
    path, _ = exported("jsonl", replace(done, items=items), tmp_path)
    parsed = parse(tmp_path / "set", path, columns=path.with_name(path.name + ".columns.toml"))
    assert [item.responses for item in parsed.items.values()] == [item.responses for item in items]
    assert {item.context for item in parsed.items.values()} == {("P", "Q")}
    (tmp_path / "table").mkdir()
    table, export = exported("csv", replace(done, items=items), tmp_path / "table")
    assert b"tool call 1: name: count" in table.read_bytes().replace(b"\n", b" ")
    assert any("conversations become one text" in notice for notice in export.notices)


def test_argilla_comes_back(done: Run, tmp_path: Path) -> None:
    given_run = relabelled(done)
    path, _ = exported("argilla", given_run, tmp_path)
    parsed = parse(tmp_path / "set", path)
    assert (parsed.result.format, parsed.result.refused) == ("argilla", 0)
    assert [(i.id, i.prompt, i.responses) for i in parsed.items.values()] == [
        (item.id, item.prompt, item.responses) for item in given_run.items
    ]
    assert labels(parsed) == people(given_run)


def labelled_there(
    tasks: list[dict[str, Any]], labels: Mapping[tuple[str, str], str]
) -> list[dict[str, Any]]:
    """The tasks as Label Studio exports them when people have answered, as to what stood left and right."""
    for number, task in enumerate(tasks, 1):
        data, given = task["data"], []
        for (item_id, who), label in labels.items():
            if item_id != data["item_id"]:
                continue
            side = {"type": "pairwise", "from_name": "comparison", "to_name": "comparison"}
            side |= {"value": {"selected": "left" if label == data.get("left_is") else "right"}}
            names = ("tie", "prompt") if "left_is" in data else ("label", "response")
            chosen = {"type": "choices", "from_name": names[0], "to_name": names[1]}
            chosen |= {"value": {"choices": [label]}}
            answer = [] if label == "skip" else [side if label in ("A", "B") else chosen]
            given.append({"completed_by": who, "result": answer, "was_cancelled": label == "skip"})
        task |= {"id": number, "annotations": given}
    return tasks


def test_label_studio_comes_back(done: Run, tmp_path: Path) -> None:
    given_run = relabelled(done)
    path, export = exported("label_studio", given_run, tmp_path)
    tasks = labelled_there(json.loads(path.read_bytes()), people(given_run))
    path.write_text(json.dumps(tasks), encoding="utf-8")
    parsed = parse(tmp_path / "set", path)
    assert parsed.result.format == "label_studio"
    assert [(i.id, i.prompt, i.responses, i.reference, i.group) for i in parsed.items.values()] == [
        (item.id, item.prompt, item.responses, item.reference, item.group) for item in given_run.items
    ]
    skipped = [key for key, label in people(given_run).items() if label == "skip"]
    assert labels(parsed) == {key: label for key, label in people(given_run).items() if label != "skip"}
    assert parsed.result.refused == len(skipped) > 0, "who skipped is counted, and says nothing"
    shown = {(row.item.id, row.suggestion[0]): row.suggestion[1] for row in export.rows if row.suggestion}
    assert {key: parsed.votes(*key)[0][1] for key in parsed.judgments} == shown
    assert len(shown) > 0


def test_label_studio_comes_back_with_single_answers(done: Run, tmp_path: Path) -> None:
    given_run = single(done, TaskKind.BINARY, ("pass", "fail"))
    answers = {(item.id, "7"): ("pass", "fail")[n % 2] for n, item in enumerate(given_run.items)}
    path, _ = exported("label_studio", given_run, tmp_path)
    path.write_text(json.dumps(labelled_there(json.loads(path.read_bytes()), answers)), encoding="utf-8")
    parsed = parse(tmp_path / "set", path)
    assert parsed.result.refused == 0
    assert [(i.id, i.prompt, i.responses) for i in parsed.items.values()] == [
        (item.id, item.prompt, item.responses) for item in given_run.items
    ]
    assert labels(parsed) == answers


def test_alpaca_eval_comes_back(done: Run, tmp_path: Path) -> None:
    path, _ = exported("alpaca_eval", done, tmp_path)
    parsed = parse(tmp_path / "set", path)
    assert (parsed.result.format, parsed.result.refused) == ("alpaca_eval", 0)
    back = {(item.prompt, item.responses): item for item in parsed.items.values()}
    for item, decision in zip(done.items, done.decisions, strict=True):
        twin = back[item.prompt, item.responses]
        assert twin.meta == item.meta
        for step in decision.trail:
            judgment = next(
                each for each in done.judgments if (each.item_id, each.judge) == (item.id, step.judge)
            )
            assert parsed.votes(twin.id, step.judge) == [("", step.label or "invalid")]
            assert parsed.judgments[twin.id, step.judge].cost == pytest.approx(judgment.cost)


def test_mt_bench_comes_back_with_both_games(done: Run, tmp_path: Path) -> None:
    path, _ = exported("mt_bench", done, tmp_path)
    beside = [path.with_name(f"{path.name}.{name}.jsonl") for name in ("question", "model_answer")]
    parsed = parse(tmp_path / "set", path, *beside)
    assert (parsed.result.format, parsed.result.refused) == ("mt_bench_pair", 0)
    for item in done.items:
        twin = parsed.items[f"{item.id}|secret-one|secret-two|turn1"]
        assert (twin.prompt, twin.responses) == (item.prompt, item.responses)
    for judgment in done.judgments:
        votes = parsed.votes(f"{judgment.item_id}|secret-one|secret-two|turn1", judgment.judge)
        first = {vote.order: vote for vote in reversed(judgment.votes)}
        assert votes == [(o, max(first[o].probs, key=lambda k: first[o].probs[k])) for o in ("AB", "BA")]


def test_mt_bench_has_two_turns_and_no_place_for_one_order(done: Run, tmp_path: Path) -> None:
    first = (Turn("assistant", "One."), Turn("user", "And?"), Turn("assistant", "Two."))
    second = (Turn("assistant", "Uno."), Turn("user", "And?"), Turn("assistant", "Dos."))
    items = tuple(replace(item, responses=(first, second)) for item in done.items)
    path, export = exported("mt_bench", replace(done, items=items), tmp_path)
    beside = [path.with_name(f"{path.name}.{name}.jsonl") for name in ("question", "model_answer")]
    parsed = parse(tmp_path / "set", path, *beside)
    assert export.left_out == {}
    assert {item.responses for item in parsed.items.values()} == {(first, second)}
    one = tuple(
        replace(row, votes=tuple(vote for vote in row.votes if vote.order == "AB")) for row in done.judgments
    )
    _, export = exported("mt_bench", replace(done, judgments=one), tmp_path)
    assert export.left_out == {
        "MT-Bench cannot hold a judge that judged in one response order only": len(done.items)
    }


# ── what labellers see ───────────────────────────────────────────────────────────────────────────


def test_label_studio_shows_each_side_by_lot_and_says_which(done: Run, tmp_path: Path) -> None:
    path, export = exported("label_studio", done, tmp_path)
    tasks = json.loads(path.read_bytes())
    assert {task["data"]["left_is"] for task in tasks} == {"A", "B"}
    trails = {decision.item_id: decision.trail for decision in done.decisions}
    predicted = 0
    for item, task, row in zip(done.items, tasks, export.rows, strict=True):
        data = task["data"]
        shown = (data["answer1"], data["answer2"])
        assert (shown if data["left_is"] == "A" else shown[::-1]) == item.texts
        assert (data["item_id"], data["prompt"]) == (item.id, item.prompt)
        assert bool(task["predictions"]) == (row.suggestion is not None)
        for prediction in task["predictions"]:
            step = next(step for step in reversed(trails[item.id]) if step.label is not None)
            (result,) = prediction["result"]
            side = result["value"].get("selected")
            label = (
                "tie"
                if side is None
                else data["left_is"]
                if side == "left"
                else "AB".replace(data["left_is"], "")
            )
            assert (prediction["model_version"], prediction["score"], label) == (
                step.judge,
                step.score,
                step.label,
            )
            predicted += 1
    assert predicted > 0
    again, _ = exported("label_studio", done, tmp_path)
    assert json.loads(again.read_bytes()) == tasks


def test_a_labelling_configuration_escapes_what_it_holds(done: Run) -> None:
    task = Task(TaskKind.CHOICE, '<Header/> "&" $prompt', ('a"b', "<c>&"))
    certificate = replace(done.header.certificate, task=task)
    export = Export(replace(done, header=replace(done.header, certificate=certificate)), ())
    list(TARGETS["label_studio"].write(export))
    view = Xml.fromstring(export.beside[".config.xml"])
    assert [each.get("value") for each in view.iter("Choice")] == ['a"b', "<c>&"]
    assert [each.get("value") for each in view.iter("Header")] == ['<Header/> "&" $prompt']
    assert len(list(view.iter("Choices"))) == 1


@pytest.mark.parametrize("target", ["label_studio", "argilla"])
def test_rows_that_measure_carry_no_opinion_and_no_row_a_models_name(
    target: str, done: Run, tmp_path: Path
) -> None:
    shown = json.loads(exported(target, done, tmp_path)[0].read_bytes())
    assert sum(map(_opinions, shown)) > 0
    roles = {**done.header.certificate.roles, "certify": tuple(item.id for item in done.items)}
    measured = replace(
        done, header=replace(done.header, certificate=replace(done.header.certificate, roles=roles))
    )
    for hidden, blind in ((measured, False), (done, True)):
        records = json.loads(exported(target, hidden, tmp_path, blind=blind)[0].read_bytes())
        assert len(records) == len(done.items)
        assert sum(map(_opinions, records)) == 0
    assert "secret" not in json.dumps(shown)


def _opinions(record: dict[str, Any]) -> int:
    """How many opinions of judges a record shows."""
    return len(record.get("predictions", [])) + sum("suggestion" in key for key in record)


@pytest.mark.parametrize("target", ["csv", "jsonl"])
def test_a_blind_table_is_there_to_be_filled_in(target: str, done: Run, tmp_path: Path) -> None:
    path, _ = exported(target, relabelled(done), tmp_path, blind=True)
    text = path.read_text(encoding="utf-8-sig")
    assert not any(word in text for word in ("secret-", "judge:", "verdict", "person:", "bob"))
    if target == "csv":
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        rows[0] |= {"label": "B", "annotator": "zoe"}
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            table = csv.DictWriter(file, rows[0].keys())
            table.writeheader()
            table.writerows(rows)
        parsed = parse(tmp_path / "set", path, columns=path.with_name(path.name + ".columns.toml"))
        assert labels(parsed) == {(done.items[0].id, "zoe"): "B"}
        assert parsed.items[done.items[0].id].prompt == done.items[0].prompt


# ── text that would be a formula ─────────────────────────────────────────────────────────────────


def test_no_cell_of_a_spreadsheet_begins_a_formula(done: Run, tmp_path: Path) -> None:
    path, _ = exported("csv", relabelled(done), tmp_path)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    with path.open(encoding="utf-8-sig", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell.lstrip()[:1] in tuple("=+-@＝＋－＠")[:8] and cell.strip()]


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_a_guard_can_be_undone(text: str) -> None:
    safe = guarded(text)
    assert safe.removeprefix("'") == text
    assert safe.lstrip(" ")[:1] not in {"=", "+", "-", "@"}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.text(min_size=1, max_size=30).filter(str.strip), min_size=3, max_size=3),
    target=st.sampled_from(sorted(TARGETS)),
)
def test_any_texts_can_be_written(texts: list[str], target: str, done: Run, tmp_path: Path) -> None:
    items = tuple(
        replace(item, prompt=texts[0], responses=(texts[1], texts[2]), meta={texts[0]: texts[1]})
        for item in done.items[:5]
    )
    known = {item.id for item in items}
    small = replace(
        done, items=items, decisions=tuple(each for each in done.decisions if each.item_id in known)
    )
    path, export = exported(target, small, tmp_path)
    if target in ("csv", "jsonl"):
        columns = tomllib.loads(export.beside[".columns.toml"].decode())["import"]
        assert list(columns["meta"]) == [texts[0]]
    if target == "csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
        assert len(rows) - 1 == len(items) - sum(export.left_out.values())
