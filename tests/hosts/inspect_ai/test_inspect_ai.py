"""The scorer in Inspect AI itself: decisions, abstentions, epochs, pairs, errors, a log and back."""

import json
import math
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalLog, ProvenanceData, edit_score, read_eval_log, write_eval_log
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import Score, ScoreEdit, Target, accuracy, scorer
from inspect_ai.solver import Generate, Solver, TaskState, solver

from trustescalate import Project, load_config
from trustescalate.errors import NoCertificate
from trustescalate.integrations.inspect_ai import certified_cascade

ROOT = Path(__file__).parents[3]
NAME = "certified_cascade"


@solver
def recorded() -> Solver:
    """Give the recorded answer; the model, which is not called, would need a tokenizer from the network."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        state.output = ModelOutput.from_content("mockllm/model", state.metadata["response"])
        state.messages.append(state.output.message)
        return state

    return solve


def samples(items: Sequence[Mapping[str, Any]]) -> list[Sample]:
    return [
        Sample(
            input=item["prompt"],
            target=item["responses"][1] if len(item["responses"]) > 1 else item.get("reference") or "",
            id=item["id"],
            metadata={"item_id": item["id"], "response": item["responses"][0]},
        )
        for item in items
    ]


def evaluated(certified: Any, folder: Path, items: Any = None, **options: Any) -> EvalLog:
    rows = certified.items if items is None else items
    config = options.pop("config", certified.config)
    (log,) = eval(
        Task(
            dataset=samples(rows),
            solver=recorded(),
            scorer=certified_cascade(str(config), item_id="item_id"),
        ),
        model="mockllm/model",
        log_dir=str(folder),
        display="plain",
        **options,
    )
    return log


def label_of(value: Any, labels: Mapping[Any, str]) -> str | None:
    return None if isinstance(value, float) and math.isnan(value) else labels[value]


@pytest.mark.parametrize("certified", ["graded", "pairs"])
def test_every_decision_is_that_of_the_command_line(
    certified: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    project = request.getfixturevalue(certified)
    log = evaluated(project, tmp_path, max_samples=32)
    assert log.status == "success"
    names = {"C": "pass", "I": "fail"} if certified == "graded" else {1.0: "A", 0.0: "B", 0.5: "tie"}
    seen = {sample.id: sample.scores[NAME] for sample in log.samples}
    assert {item_id: label_of(each.value, names) for item_id, each in seen.items()} == project.labels
    for item_id, each in seen.items():
        decision = project.decisions[item_id]
        assert each.metadata["judge"] == decision.get("judge")
        assert each.metadata["score"] == decision.get("score")


def test_an_abstention_is_unscored_and_counted(graded: Any, tmp_path: Path) -> None:
    """Of each item two epochs, and none but abstentions: no metric is 0."""
    left = [item for item in graded.items if graded.labels[item["id"]] is None]
    log = evaluated(graded, tmp_path, left, epochs=2)
    for sample in log.samples:
        score_ = sample.scores[NAME]
        assert math.isnan(score_.value)
        assert score_.reason == "abstained"
        assert score_.explanation.startswith("Abstained (")
        assert score_.metadata["certificate"] in score_.explanation
    means, counts = log.results.scores
    assert (means.scored_samples, means.unscored_samples) == (0, len(left))
    assert all(math.isnan(each.value) for each in means.metrics.values())
    assert (counts.scored_samples, counts.unscored_samples) == (0, 2 * len(left))
    assert counts.metrics["released"].value == 0
    on_disk = read_eval_log(log.location)
    assert all(math.isnan(sample.scores[NAME].value) for sample in on_disk.samples)


def test_epochs_are_judged_each_and_trio_gets_the_same(graded: Any, tmp_path: Path) -> None:
    some = graded.items[:12]
    log = evaluated(graded, tmp_path / "asyncio", some, epochs=3)
    assert len(log.samples) == 36
    for sample in log.samples:
        names = {"C": "pass", "I": "fail"}
        assert label_of(sample.scores[NAME].value, names) == graded.labels[sample.id]
    code = (
        "import json, sys; from pathlib import Path; from types import SimpleNamespace as S\n"
        "sys.path.insert(0, sys.argv[1]); import test_inspect_ai as here\n"
        "log = here.evaluated(S(config=sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4]))\n"
        "print(json.dumps({s.id: str(s.scores[here.NAME].value) for s in log.samples}))"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            str(Path(__file__).parent),
            graded.config,
            tmp_path / "trio",
            json.dumps(some),
        ],
        env={**os.environ, "INSPECT_ASYNC_BACKEND": "trio"},
        capture_output=True,
        text=True,
        check=True,
    )
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen == {s.id: str(s.scores[NAME].value) for s in log.samples}


def test_errors_are_errors_of_the_sample_and_a_missing_certificate_comes_first(
    graded: Any, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "examples" / "pass-fail", tmp_path / "project")
    with pytest.raises(NoCertificate, match="there is no certificate yet"):
        certified_cascade(str(tmp_path / "project" / "trustescalate.toml"))
    task = Task(
        dataset=samples(graded.items[:1]),
        solver=recorded(),
        scorer=certified_cascade(str(graded.config), context="passages"),
    )
    (log,) = eval(task, model="mockllm/model", log_dir=str(tmp_path / "logs"), display="none")
    assert log.status == "error"
    assert "the sample's metadata has no 'passages'" in log.error.message


@scorer(metrics=[accuracy()])
def small() -> Any:
    async def grade(state: TaskState, target: Target) -> Score:
        value = state.metadata["small"]
        return Score.unscored(reason="grader_failed") if value is None else Score(value=value)

    return grade


@scorer(metrics=[accuracy()])
def large() -> Any:
    async def grade(state: TaskState, target: Target) -> Score:
        value = state.metadata["large"]
        return Score.unscored(reason="grader_failed") if value is None else Score(value=value)

    return grade


def graded_log(folder: Path) -> EvalLog:
    """A log of two graders, the labels of a person beside three quarters of the samples."""
    coin = random.Random(7)
    rows = []
    for number in range(320):
        truth = coin.choice("CI")
        other = {"C": "I", "I": "C"}[truth]
        strong = None if number % 16 == 15 else other if coin.random() < 0.02 else truth
        weak = None if number % 32 == 31 else truth if coin.random() < 0.7 else other
        rows.append({"truth": truth, "small": weak, "large": strong, "response": f"answer {number}"})
    dataset = [Sample(input=f"Question {at}?", id=at, metadata=row) for at, row in enumerate(rows, 1)]
    task = Task(dataset=dataset, solver=recorded(), scorer=[small(), large()], name="support")
    (log,) = eval(task, model="mockllm/model", log_dir=str(folder), log_format="eval", display="none")
    for sample in log.samples:
        if sample.id <= 240:
            value = sample.metadata["truth"]
            edit = ScoreEdit(value=value, provenance=ProvenanceData(author="ann", reason="read it"))
            edit_score(log, sample.id, "large", edit, recompute_metrics=False)
    write_eval_log(log)
    return log


def shell(folder: Path, *words: str) -> str:
    env = {**os.environ, "INSPECT_DISPLAY": "plain"}
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True, env=env).stdout


@pytest.mark.timeout(1800)  # ten processes one after another
def test_a_log_comes_back_with_the_scores_of_its_cascade(tmp_path: Path) -> None:
    """log, import, calibrate, run, scores, log: the commands of the page, in its order."""
    log = graded_log(tmp_path / "logs")
    shutil.move(log.location, tmp_path / "graded.eval")
    bin_ = Path(sys.executable).parent
    page = (ROOT / "docs" / "integrations" / "inspect_ai.md").read_text("utf-8")
    (block,) = re.findall(r"^```sh\n(trustescalate import .*?)^```", page, re.MULTILINE | re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        shell(tmp_path, str(bin_ / words[0]), *words[1:])
    run = Project.open(tmp_path / "project" / "trustescalate.toml").load_run()
    labels = {row.item_id: row.label for row in run.decisions}
    assert len(labels) == 80
    assert set(labels.values()) == {"pass", "fail", None}
    names = {"C": "pass", "I": "fail"}
    back = read_eval_log(str(tmp_path / "scored.eval"))
    scores = {f"{s.id}|epoch{s.epoch}": s.scores.get("precomputed_scores") for s in back.samples}
    seen = {item_id: label_of(each.value, names) for item_id, each in scores.items() if each is not None}
    assert seen == labels
    left = list(labels.values()).count(None)
    counts = next(each for each in back.results.scores if each.name == "precomputed_scores")
    assert (counts.scored_samples, counts.unscored_samples) == (80 - left, left)
    abstained = next(each for each in scores.values() if each and each.metadata["abstained"])
    assert math.isnan(abstained.value)
    assert abstained.metadata["certificate"] in abstained.explanation
    # the scorer itself, on the log: the same decisions
    live = read_eval_log(str(tmp_path / "live.eval"))
    seen = {f"{s.id}|epoch{s.epoch}": label_of(s.scores[NAME].value, names) for s in live.samples}
    assert {item_id: seen[item_id] for item_id in labels} == labels
    # both come back as judges beside the graders; the only labels are still those of the person
    for name, judge in (("scored", "precomputed_scores"), ("live", NAME)):
        shell(tmp_path, str(bin_ / "trustescalate"), "import", f"{name}.eval", "--to", f"{name}-set")
        notes = (tmp_path / f"{name}-set" / "annotations.jsonl").read_text("utf-8").splitlines()
        assert {json.loads(note)["annotator"] for note in notes} == {"ann"}
        assert len(notes) == 240
        judges = load_config(tmp_path / f"{name}-set" / "trustescalate.toml").judges
        assert {each.name for each in judges} >= {judge}


def test_the_script_of_the_page(graded: Any, tmp_path: Path) -> None:
    script = ROOT / "examples" / "integrations" / "inspect_ai_task.py"
    assert len(script.read_text("utf-8").splitlines()) <= 20
    rows = [{"id": item["id"], "prompt": item["prompt"]} for item in graded.items]
    (graded.folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    shutil.copy(script, graded.folder)
    answers = {item["prompt"]: item["responses"][0] for item in graded.items}
    code = (
        "import json, sys; from inspect_ai import eval; from inspect_ai.model import *\n"
        "answers = json.loads(sys.argv[1])\n"
        "def answer(messages, *_):\n"
        "    output = ModelOutput.from_content('mockllm/model', answers[messages[-1].text])\n"
        "    output.usage = ModelUsage()  # without it, Inspect loads a tokenizer from the network\n"
        "    return output\n"
        "model = get_model('mockllm/model', custom_outputs=answer)\n"
        "(log,) = eval('inspect_ai_task.py', model=model, log_dir='logs', display='plain')\n"
        "print(log.location)"
    )
    output = shell(graded.folder, sys.executable, "-c", code, json.dumps(answers))
    log = read_eval_log(str(graded.folder / output.splitlines()[-1]))
    names = {"C": "pass", "I": "fail"}
    seen = {sample.id: label_of(sample.scores[NAME].value, names) for sample in log.samples}
    assert seen == graded.labels
    left = list(seen.values()).count(None)
    assert re.search(rf"released +{len(seen) - left}\.000", output)
