"""Quality checks: each warning is raised by data that deserve it, and by no others."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.support.projects import calibrate, write_project
from trustescalate.cli import app
from trustescalate.data.annotation.answers import SKIP_REASONS
from trustescalate.data.quality import check_quality
from trustescalate.errors import DataError
from trustescalate.records import Annotation, Item, Label, Task, TaskKind, ToolCall, Turn
from trustescalate.stats.minhash import jaccard, near_pairs

pytestmark = pytest.mark.slow
PAIRS = Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B", "tie"))
WORDS = [f"word{i}" for i in range(3000)]


def _texts(seed: int, words: int = 12) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS, words))


def _items(count: int) -> list[Item]:
    """Pairs of one length about different things."""
    return [
        Item(f"i{i}", _texts(3 * i), (f"{_texts(3 * i + 1)[:60]:.<60}", f"{_texts(3 * i + 2)[:60]:.<60}"))
        for i in range(count)
    ]


def _notes(labels: Sequence[Label], annotator: str = "ann") -> list[Annotation]:
    return [Annotation(f"i{i}", annotator, label) for i, label in enumerate(labels)]


def _warnings(items: Sequence[Item], notes: Sequence[Annotation], **roles: Sequence[str]) -> str:
    return "\n".join(check_quality(PAIRS, items, notes, roles)[1])


def test_plain_data_raise_no_warning() -> None:
    facts, warnings = check_quality(PAIRS, _items(60), _notes(["A", "B"] * 30), {})
    assert warnings == []
    assert dict(facts)["A is better"] == "in 30 of 60 decided pairs"


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (["A"] * 60, "A is always the better one"),
        (["B"] * 60, "B is always the better one"),
        (["A"] * 48 + ["B"] * 12, "A is better in 80% of the pairs"),
        (["A"] * 57 + ["B"] * 3, "95% of the items are 'A'"),
        (["tie"] * 40 + ["A", "B"] * 10, "ties are 67% of all annotations"),
        (["skip"] * 40 + ["A", "B"] * 10, "skips are 67% of all annotations"),
    ],
)
def test_labels_that_lean_are_named(labels: list[Label], why: str) -> None:
    assert why in _warnings(_items(60), _notes(labels))


def test_reasons_of_skips_are_counted() -> None:
    reasons = [SKIP_REASONS[1], None, "typed \u202e", SKIP_REASONS[1]]
    skips = [Annotation(f"i{i}", "ann", "skip", reason=reason) for i, reason in enumerate(reasons)]
    facts = dict(check_quality(PAIRS, _items(8), skips, {})[0])
    assert facts["skips"] == (
        f"4 of 4 annotations: {SKIP_REASONS[1]} (2), another reason (1), no reason given (1)"
    )


def test_a_trace_that_ends_with_a_call_is_not_empty() -> None:
    call = Turn("assistant", "", (ToolCall("f"),))
    task = Task(TaskKind.BINARY, "Done?", ("pass", "fail"))
    items = [Item("a", "p", ((call,),)), Item("b", "q", (" ",)), Item("c", "r", ((Turn("assistant", ""),),))]
    facts = dict(check_quality(task, items, [], {})[0])
    assert facts["empty responses"] == "2, shown as '(empty response)'"


def test_a_lean_on_length_is_named() -> None:
    items = [
        Item(f"i{i}", _texts(i), ("long " * 20, "short") if i % 2 else ("short", "long " * 20))
        for i in range(60)
    ]
    labels = ["A" if i % 2 else "B" for i in range(60)]
    assert "the longer response is better in 100% of the pairs" in _warnings(items, _notes(labels))
    labels = ["B" if i % 2 else "A" for i in range(60)]
    assert "the shorter response is better in 100% of the pairs" in _warnings(items, _notes(labels))


def test_near_duplicates_and_leaks_between_roles_are_named() -> None:
    items = _items(40)
    items[7] = Item("i7", items[3].prompt + " indeed!", items[3].responses)
    notes = _notes(["A", "B"] * 20)
    said = _warnings(items, notes, dev=["i3"], certify=["i7"])
    assert "1 items are nearly the same as others: i3 and i7" in said
    assert "in different roles, certify and dev: i3 and i7" in said
    assert "1 prompts are nearly those of other items, without a group: i3 and i7" in said
    assert "different roles" not in _warnings(items, notes, certify=["i3", "i7"])
    grouped = [Item(item.id, item.prompt, item.responses, group="g") for item in items]
    assert "without a group" not in _warnings(grouped, notes)


def test_people_are_compared_and_models_are_named() -> None:
    items, labels = _items(40), ["A", "B"] * 20
    notes = [*_notes(labels), *_notes(labels[:30] + ["tie"] * 10, "bob")]
    facts = dict(check_quality(PAIRS, items, notes, {})[0])
    assert facts["several annotators"].startswith("on 40 of 40 labelled items, Krippendorff's alpha 0.")
    assert facts["leave-one-out agreement"].startswith("75.0%")
    assert "all labels are by 'gpt-4o', named like a model" in _warnings(items, _notes(labels, "gpt-4o"))
    mixed = [*_notes(labels), Annotation("i0", "claude-3-opus", "A")]
    assert "annotator 'claude-3-opus' is named like a model" in _warnings(items, mixed)
    for person in ("ann", "expert_22", "author_2", "Claudia", "arena_user_9", "rater 3b", "Tyra", "Max"):
        assert "named like" not in _warnings(items, _notes(labels, person)), person


def test_sets_are_near_as_their_definition_says() -> None:
    rng = np.random.default_rng(1)
    sets = [rng.choice(10_000, 80, replace=False).astype(np.uint64) for _ in range(200)]
    for i in range(0, 40, 2):
        sets[i + 1] = np.unique(np.concatenate([sets[i][: 80 - i // 4], sets[i + 1][: i // 4]]))
    wanted = [
        (i, j)
        for i in range(200)
        for j in range(i + 1, 200)
        if jaccard(np.sort(sets[i]), np.sort(sets[j])) >= 0.8
    ]
    assert len(wanted) > 10
    assert near_pairs(sets, 0.8, rng) == wanted
    assert len(near_pairs([sets[0]] * 50, 0.8, rng, most=10)) == 10


# ── check, calibrate and split ───────────────────────────────────────────────────────────────────


def _by_a_model(config: Path) -> None:
    notes = config.with_name("annotations.jsonl")
    rows = [json.loads(line) for line in notes.read_text(encoding="utf-8").splitlines()]
    kept = {row["item_id"]: {**row, "annotator": "gpt-4"} for row in rows}
    notes.write_text("".join(json.dumps(row) + "\n" for row in kept.values()), encoding="utf-8")


def test_labels_of_a_model_certify_nothing_unless_they_are_peoples(tmp_path: Path) -> None:
    config = write_project(tmp_path)
    _by_a_model(config)
    with pytest.raises(DataError, match="named like a model") as caught:
        calibrate(config)
    assert 'labels_by = "people"' in caught.value.hint
    assert not (tmp_path / "certificate.json").exists()
    text = config.read_text(encoding="utf-8")
    config.write_text(f'{text}\n[data]\nlabels_by = "people"\n', encoding="utf-8")
    assert calibrate(config).roles["certify"]


def test_check_reads_a_folder_or_a_file_without_a_configuration(tmp_path: Path) -> None:
    config = write_project(tmp_path)
    with_it = CliRunner().invoke(app, ["check", str(tmp_path)])
    assert "guarantee:" in with_it.stdout
    config.unlink()
    for path in (tmp_path, tmp_path / "items.jsonl"):
        result = CliRunner().invoke(app, ["check", str(path), "--json"])
        assert result.exit_code == 0
        found = json.loads(result.stdout)
        assert found["facts"]["task"].startswith("pairwise")
        assert "leave-one-out agreement" in found["facts"]
    assert not config.exists()
    assert CliRunner().invoke(app, ["check", str(tmp_path / "nowhere")]).exit_code == 2


def _split(config: Path) -> dict[str, list[str]]:
    result = CliRunner().invoke(app, ["check", "--write-roles", "--config", str(config), "--json"])
    assert result.exit_code == 0, result.output
    roles: dict[str, list[str]] = json.loads(result.stdout)["roles"]
    return roles


def test_a_split_is_what_calibrate_would_draw_and_stays(tmp_path: Path) -> None:
    config = write_project(tmp_path)
    plain = calibrate(config)
    roles = _split(config)
    assert set(plain.roles["certify"]) <= set(roles["certify"])
    assert json.loads((tmp_path / "roles.json").read_text(encoding="utf-8")) == roles
    ids = [item_id for each in roles.values() for item_id in each]
    assert len(set(ids)) == len(ids)
    text = config.read_text(encoding="utf-8")
    config.write_text(f'{text}\n[roles]\nseed = 99\nfile = "roles.json"\n', encoding="utf-8")
    later = calibrate(config).roles
    assert later["exemplars"] == plain.roles["exemplars"] != ()
    assert set(later["certify"]) <= set(roles["certify"])
    again = CliRunner().invoke(app, ["check", "--write-roles", "--config", str(config)])
    assert again.exit_code == 2
    assert "is there already" in again.stderr


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda roles: roles["dev"].append(roles["certify"][0]), "has more than one role"),
        (lambda roles: roles["certify"].pop(), "has no role"),
        (lambda roles: roles.pop("dev"), "must hold a list of ids"),
        (lambda roles: roles.update(test=[]), "must hold a list of ids"),
        (lambda roles: roles["dev"].append(roles["certify"].pop()), "are clustered"),
    ],
)
def test_roles_that_do_not_divide_the_rows_are_refused(change: object, why: str, tmp_path: Path) -> None:
    def grouped(items: list[dict[str, object]], notes: object) -> None:
        for item in items:
            item["group"] = "all"

    config = write_project(tmp_path, change=grouped if why == "are clustered" else lambda items, notes: None)
    roles = _split(config)
    if why == "are clustered":
        roles = {
            "exemplars": [],
            "dev": [],
            "holdout": [],
            "certify": [i for ids in roles.values() for i in ids],
        }
    assert callable(change)
    change(roles)
    (tmp_path / "roles.json").write_text(json.dumps(roles), encoding="utf-8")
    text = config.read_text(encoding="utf-8")
    config.write_text(f'{text}\n[roles]\nfile = "roles.json"\n', encoding="utf-8")
    result = CliRunner().invoke(app, ["check", "--config", str(config)])
    assert result.exit_code == 2
    assert why in result.stderr
