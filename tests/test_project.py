"""What a project does with its files: renewal, refusal, staleness, resumption, measured agreement."""

import asyncio
import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.projects import (
    JUDGES,
    Calls,
    calibrate,
    comparable,
    edit,
    run,
    shuffled,
    simulated,
    write_project,
)
from trustescalate.config import BudgetTable
from trustescalate.errors import (
    BudgetReached,
    CertificateMismatch,
    ConfigError,
    DataError,
    NoCertificate,
    NotMeasurable,
    ProviderError,
    UsageError,
)
from trustescalate.project import Project
from trustescalate.records import Overall, Reply, Request
from trustescalate.records.progress import Hooks, Progress

pytestmark = pytest.mark.slow


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_project(tmp_path / "a project")


# ── certificates come and go ─────────────────────────────────────────────────────────────────────


def test_a_refusal_replaces_an_older_good_certificate(config: Path) -> None:
    assert calibrate(config).status == "certified"
    notes = [json.loads(line) for line in (config.parent / "annotations.jsonl").read_text().splitlines()]
    shuffled((), notes)
    (config.parent / "annotations.jsonl").write_text("".join(json.dumps(note) + "\n" for note in notes))
    refusal = calibrate(config)
    assert refusal.status == "none"
    assert refusal.reason
    assert refusal.advice
    stored = json.loads((config.parent / "certificate.json").read_text())
    assert stored["thresholds"] is None
    assert stored["chosen"] is None
    with pytest.raises(NoCertificate, match="there is no certificate: none of"):
        run(config)
    assert not Project.open(config).run_ids()


@pytest.mark.parametrize("status", ["budget", "provider"])
def test_what_stops_a_calibration_replaces_nothing(config: Path, calls: Calls, status: str) -> None:
    calibrate(config)
    before = (config.parent / "certificate.json").read_bytes()
    edit(config, "shots = 2", "shots = 3")
    if status == "budget":
        with pytest.raises(BudgetReached):
            calibrate(config, calls=5)
    else:
        calls.then = _doomed
        with pytest.raises(ProviderError):
            calibrate(config)
    assert (config.parent / "certificate.json").read_bytes() == before


def _doomed(request: Request) -> Reply | None:
    raise ProviderError("the key is refused", "check it")


def test_a_second_calibration_costs_nothing(config: Path, calls: Calls) -> None:
    first = calibrate(config)
    asked = len(calls.asked)
    second = calibrate(config)
    assert len(calls.asked) == asked
    assert replace(second, created="") == replace(first, created="")


def test_calibration_goes_on_after_its_budget(config: Path, calls: Calls) -> None:
    for _ in range(30):
        with pytest.raises(BudgetReached):
            calibrate(config, calls=10)
        if len(calls.asked) >= 200:
            break
    calibrate(config)
    assert len(calls.asked) == len({(model, repr(request)) for model, request in calls.asked})


# ── a run refuses what does not fit ──────────────────────────────────────────────────────────────

MISFITS = {
    "task": ("version = 1\n", 'version = 1\n[task]\nquestion = "Which is shorter?"\n', "task"),
    "alpha": ("alpha = 0.3", "alpha = 0.2", "alpha was 0.3 and is 0.2"),
    "delta": ("delta = 0.2", "delta = 0.1", "delta was 0.2 and is 0.1"),
    "estimator": (
        "annotators = 2\n", 'annotators = 2\nestimator = "sampled"\n',
        "estimator was 'ensemble' and is 'sampled'",
    ),
    "shots": ("shots = 2", "shots = 1", "fingerprint of small"),
    "model": ('model = "M"', 'model = "S"', "fingerprint of large"),
    "name": ('name = "large"', 'name = "big"', "judge 2 was 'large' and is 'big'"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISFITS)
def test_a_certificate_for_something_else_is_refused_by_field(config: Path, calls: Calls, case: str) -> None:
    calibrate(config)
    asked = len(calls.asked)
    old, new, field = MISFITS[case]
    edit(config, old, new)
    with pytest.raises(CertificateMismatch, match=field):
        run(config)
    assert len(calls.asked) == asked
    assert not Project.open(config).run_ids()


def test_the_order_and_the_number_of_judges_matter(tmp_path: Path) -> None:
    config = write_project(tmp_path)
    calibrate(config)
    text = config.read_text()
    config.write_text(text.replace(JUDGES, simulated("large", "M") + simulated("small", "XS")))
    with pytest.raises(CertificateMismatch, match="judge 1 was 'small' and is 'large'"):
        run(config)
    config.write_text(text.replace(JUDGES, simulated("small", "XS")))
    with pytest.raises(CertificateMismatch, match="number of judges was 2 and is 1"):
        run(config)


def test_a_damaged_or_foreign_certificate_is_an_error_not_a_crash(config: Path) -> None:
    path = config.parent / "certificate.json"
    with pytest.raises(NoCertificate, match="no certificate yet"):
        run(config)
    path.write_text('{"schema": 1, "thresholds": [0.0, 0.0]')
    with pytest.raises(DataError, match="not valid JSON"):
        run(config)
    calibrate(config)
    path.write_bytes(path.read_bytes().replace(b'"schema":1', b'"schema":99', 1))
    with pytest.raises(NoCertificate, match="another schema"):
        run(config)


# ── gate and report ──────────────────────────────────────────────────────────────────────────────


def gate(config: Path) -> tuple[str, list[str]]:
    verdict, _ = Project.open(config).gate()
    return verdict.status, [check.name for check in verdict.checks if check.status != "pass"]


def test_a_current_whole_run_passes(config: Path) -> None:
    calibrate(config)
    run(config)
    assert gate(config) == ("pass", [])


def test_the_files_of_a_run_state_the_verdict_of_its_last_gate(config: Path) -> None:
    calibrate(config)
    run(config)
    _, page = Project.open(config).report()
    assert json.loads(page.with_suffix(".json").read_text())["release"]["status"] == "pass"
    for asked in ("gate.min_coverage=1.0", "gate.min_coverage=0.0"):
        verdict, decision = Project.open(config, overrides=[asked]).gate()
        written = json.loads(page.with_suffix(".json").read_text())
        assert json.loads(decision.read_text())["status"] == written["release"]["status"] == verdict.status
        assert f"Release gate: {verdict.status}" in page.with_suffix(".md").read_text()
        assert f'class="release {verdict.status}"' in page.read_text()
        assert any(asked in command for command in written["follow"])
    assert page.with_name("report.items.jsonl").exists()


def test_a_calibration_made_again_keeps_the_certificate_and_the_run(config: Path) -> None:
    made = calibrate(config)
    run(config)
    project = Project.open(config, Hooks(clock=lambda: datetime(2040, 1, 1, tzinfo=UTC)))
    assert asyncio.run(project.calibrate()) == made == project.certificate()
    assert gate(config) == ("pass", [])


def test_the_order_of_the_items_in_their_file_is_no_change(config: Path) -> None:
    calibrate(config)
    made = run(config)
    items = config.parent / "items.jsonl"
    items.write_text("".join(reversed(items.read_text().splitlines(keepends=True))))
    assert gate(config) == ("pass", [])
    assert run(config).header.certificate == made.header.certificate


def test_a_renewed_certificate_makes_a_run_stale(config: Path) -> None:
    calibrate(config)
    run(config)
    edit(config, "alpha = 0.3", "alpha = 0.31")
    calibrate(config)
    assert gate(config) == ("undecided", ["run is current"])
    (config.parent / "certificate.json").unlink()
    assert gate(config) == ("undecided", ["run is current"])


@pytest.mark.parametrize(
    ("old", "new", "stale"),
    [
        ("alpha = 0.3", "alpha = 0.25", True),
        ("shots = 2", "shots = 3", True),
        ('model = "M"', 'model = "S"', True),
        ("min_coverage = 0.3", "min_coverage = 0.2", False),
        ("input = 5.0", "input = 6.0", False),
    ],
)
def test_only_what_the_figures_rest_on_makes_a_run_stale(
    config: Path, old: str, new: str, stale: bool
) -> None:
    calibrate(config)
    run(config)
    edit(config, old, new)
    assert gate(config) == (("undecided", ["run is current"]) if stale else ("pass", []))


def test_a_coverage_that_is_too_low_is_a_breach(config: Path) -> None:
    calibrate(config)
    run(config)
    edit(config, "min_coverage = 0.3", "min_coverage = 1.0")
    assert gate(config) == ("fail", ["coverage"])


def test_a_partial_run_is_not_a_breach(config: Path) -> None:
    calibrate(config)
    edit(config, "min_coverage = 0.3", "min_coverage = 1.0")
    with pytest.raises(BudgetReached):
        run(config, budget=BudgetTable(calls=20))
    status, failing = gate(config)
    assert status == "undecided"
    assert "run is complete" in failing


def test_without_a_run_the_report_is_about_the_certificate(config: Path) -> None:
    calibrate(config)
    report, path = Project.open(config).report()
    assert (report.kind, path.parent) == ("calibration", config.parent)
    with pytest.raises(NotMeasurable, match="there is no run yet"):
        Project.open(config).gate()


# ── which run ────────────────────────────────────────────────────────────────────────────────────


def test_the_latest_run_is_the_last_one_whatever_the_clock_and_the_files_say(config: Path) -> None:
    calibrate(config)
    made = []
    for year in (2030, 2030, 2027):
        project = Project.open(config, Hooks(clock=lambda year=year: datetime(year, 1, 1, tzinfo=UTC)))  # type: ignore[misc]
        made.append(asyncio.run(project.run()).header.id)
        assert project.load_run().header.id == made[-1]
    assert len(set(made)) == 3
    for age, name in enumerate(made):
        os.utime(config.parent / "runs" / name / "items.jsonl", (10**9 - age, 10**9 - age))
    assert Project.open(config).run_ids() == made
    assert Project.open(config).gate()[1].parent.name == made[-1]
    (config.parent / "runs/.attempts.jsonl").unlink()
    assert Project.open(config).gate()[1].parent.name == made[-1]


def test_a_gate_does_not_pass_on_the_run_before_an_attempt_that_failed(config: Path, calls: Calls) -> None:
    calibrate(config)
    good = run(config).header.id
    assert gate(config) == ("pass", [])
    with pytest.raises(DataError):
        run(config, items=config.parent / "missing.jsonl")
    with pytest.raises(NotMeasurable, match=r"the last attempt to run, at .*Z, failed: .*missing\.jsonl"):
        Project.open(config).gate()
    assert Project.open(config).gate(good)[0].status == "pass"
    assert Project.open(config).load_run().header.id == good

    def refuse(request: Request) -> Reply:
        raise ProviderError("the key is refused", "check it")

    (config.parent / ".trustescalate/cache.sqlite").unlink()
    calls.then = refuse
    for resume in (None, "latest"):
        with pytest.raises(ProviderError):
            run(config, resume=resume)
        assert gate(config)[1][0] == "run is complete"
    calls.then = lambda request: None
    run(config, resume="latest")
    assert gate(config) == ("pass", [])


def test_a_gate_names_the_run_its_age_its_items_and_its_judges(config: Path) -> None:
    calibrate(config)
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    made = asyncio.run(Project.open(config, Hooks(clock=lambda: moment)).run()).header.id
    later = Project.open(config, Hooks(clock=lambda: moment + timedelta(hours=2, minutes=5)))
    _, path = later.gate()
    described = f"{made} (2 hours old), 40 items, judges small → large"
    assert json.loads(path.read_text())["checks"][1]["observed"] == described
    assert described in path.with_name("junit.xml").read_text()


def test_an_empty_id_is_no_run(config: Path) -> None:
    for empty in ("", " "):
        for use in (Project.open(config).gate, Project.open(config).report, Project.open(config).load_run):
            with pytest.raises(UsageError, match="the run's id is empty"):
                use(empty)
        with pytest.raises(UsageError, match="the run's id is empty"):
            run(config, resume=empty)


def test_a_run_can_be_named_by_its_folder(config: Path) -> None:
    calibrate(config)
    made = run(config).header.id
    project = Project.open(config)
    assert project.load_run(f"runs/{made}/").header.id == made
    with pytest.raises(UsageError, match=r"there is no run '\.\./\.\./etc'"):
        project.load_run("../../etc")


def test_running_twice_asks_nothing_again(config: Path, calls: Calls) -> None:
    calibrate(config)
    first = run(config)
    asked = len(calls.asked)
    second = run(config)
    assert len(calls.asked) == asked
    assert first.header.id != second.header.id
    assert first.decisions == second.decisions


# ── resuming ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("limit", [{"calls": 23}, {"usd": 0.03}])
def test_a_run_stops_at_its_budget_and_goes_on(config: Path, calls: Calls, limit: dict[str, Any]) -> None:
    edit(config, "pilot = 20", "pilot = 0")
    calibrate(config)
    whole = run(config)
    (config.parent / ".trustescalate/cache.sqlite").unlink()
    spent: list[Progress] = []
    calls.asked.clear()
    target, stops = None, 0
    while stops < 30:
        project = Project.open(config, Hooks(progress=spent.append))
        before = len(calls.asked)
        try:
            resumed = asyncio.run(project.run(resume=target, budget=BudgetTable(**limit)))
            break
        except BudgetReached:
            stops += 1
            target = project.run_ids()[-1]
            assert project.load_run(target).header.status == "budget"
            assert len(calls.asked) - before <= limit.get("calls", 10**9)
    assert stops >= 2
    assert all(state.spent <= limit.get("usd", 1e9) for state in spent)
    assert len(calls.asked) == len({(model, repr(request)) for model, request in calls.asked})
    assert comparable(resumed) == comparable(whole)


def test_how_a_judge_is_reached_may_change_before_a_run_goes_on(config: Path) -> None:
    calibrate(config)
    with pytest.raises(BudgetReached):
        run(config, budget=BudgetTable(calls=20))
    edit(config, "input = 5.0", "input = 4.0")
    assert run(config, resume="latest").header.status == "complete"
    assert gate(config)[0] == "pass"


def test_a_run_goes_on_with_the_judges_it_began_with_or_not_at_all(config: Path) -> None:
    calibrate(config)
    with pytest.raises(BudgetReached):
        run(config, budget=BudgetTable(calls=20))
    edit(config, 'model = "M"', 'model = "S"')
    with pytest.raises(CertificateMismatch, match="fingerprint of large"):
        run(config, resume="latest")


def test_a_run_whose_items_were_edited_is_refused(config: Path) -> None:
    calibrate(config)
    made = run(config)
    path = config.parent / "runs" / made.header.id / "items.jsonl"
    path.write_text(path.read_text().replace("?", "!"))
    with pytest.raises(DataError, match=r"items\.jsonl: was changed after the run"):
        run(config, resume="latest")
    with pytest.raises(DataError, match=r"items\.jsonl: was changed after the run"):
        Project.open(config).load_run()


def test_items_and_resume_exclude_each_other(config: Path) -> None:
    with pytest.raises(UsageError, match="has its items already"):
        run(config, resume="latest", items=config.parent / "items.jsonl")


def test_items_may_be_added_while_the_judges_work(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trustescalate.judges.simulated.backend import SimulatedBackend

    calibrate(config)
    items, ask = config.parent / "items.jsonl", SimulatedBackend.complete
    first = json.loads(items.read_text("utf-8").splitlines()[0])
    added = json.dumps({**first, "id": f"later-{first['id']}"})

    async def and_add(self: SimulatedBackend, request: Request) -> Reply:
        if "later-" not in items.read_text("utf-8"):
            with items.open("a", encoding="utf-8") as file:
                file.write(f"{added}\n")
        return await ask(self, request)

    monkeypatch.setattr(SimulatedBackend, "complete", and_add)
    assert run(config).header.status == "complete"
    assert "later-" in items.read_text("utf-8")


def test_a_torn_last_line_is_dropped(config: Path) -> None:
    calibrate(config)
    whole = run(config)
    whole = replace(whole, judgments=tuple(whole.judgments))  # their file is cut below
    folder = config.parent / "runs" / whole.header.id
    for name in ("decisions.jsonl", "judgments.jsonl"):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: -len(data.splitlines()[-1]) // 2])
    assert len(Project.open(config).load_run().decisions) < len(whole.decisions)
    resumed = run(config, resume="latest")
    assert resumed.decisions == whole.decisions
    assert resumed.judgments == whole.judgments


# ── what breaks under us ─────────────────────────────────────────────────────────────────────────


def test_a_full_disk_leaves_a_run_that_goes_on(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trustescalate.cascade import run_writer

    calibrate(config)
    whole = run(config)
    append, written = run_writer.append, [0]

    def full(file: int, data: bytes) -> None:
        written[0] += 1
        if written[0] > 21:
            append(file, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        append(file, data)

    monkeypatch.setattr(run_writer, "append", full)
    with pytest.raises(OSError, match="No space left"):
        run(config)
    assert written[0] == 22, "a row was written behind one that failed half-way"
    monkeypatch.setattr(run_writer, "append", append)
    project = Project.open(config)
    assert project.load_run().header.status == "stopped"
    assert run(config, resume="latest").decisions == whole.decisions


def test_a_budget_in_usd_needs_prices(tmp_path: Path) -> None:
    judge = '[[judges]]\nname = "j"\nbackend = "openai"\nmodel = "m"\nbase_url = "http://127.0.0.1:9/v1"\n'
    with pytest.raises(ConfigError, match="needs the price of 'j'"):
        calibrate(write_project(tmp_path, judge), usd=1.0)


# ── measured agreement ───────────────────────────────────────────────────────────────────────────


def test_rows_that_made_the_certificate_measure_nothing(config: Path) -> None:
    certificate = calibrate(config)
    every = run(config, items=config.parent / "items.jsonl")
    used = {item_id for role, ids in certificate.roles.items() if role != "holdout" for item_id in ids}
    assert every.annotations
    assert not used & {note.item_id for note in every.annotations}
    assert Project.open(config).load_run().annotations == every.annotations


def test_an_id_that_means_another_text_measures_nothing(config: Path) -> None:
    edit(config, "version = 1", "version = 1\n[roles]\nholdout = 0.2")
    calibrate(config)
    assert run(config).annotations
    path = config.parent / "others.jsonl"
    rows = [json.loads(line) for line in (config.parent / "items.jsonl").read_text().splitlines()]
    path.write_text("".join(json.dumps({**row, "prompt": "something else"}) + "\n" for row in rows))
    assert run(config, items=path).annotations == ()


def test_every_labelled_item_and_no_items_is_a_usage_error(tmp_path: Path) -> None:
    config = write_project(tmp_path, unlabelled=0)
    calibrate(config)
    with pytest.raises(UsageError, match="nothing to judge"):
        run(config)


# ── what stands beside the guarantee ──


def test_a_run_is_read_back_with_what_stands_beside_it(config: Path) -> None:
    calibrate(config)
    made = run(config)
    assert made.overall is not None
    assert made.overall.estimate is not None
    assert made.shift
    assert Project.open(config).load_run() == made


def test_the_votes_of_another_certificate_are_not_used(config: Path) -> None:
    calibrate(config)
    run(config)
    votes = config.parent / "certificate.votes.jsonl"
    kept = votes.read_bytes()
    gone = Overall(None, "the recorded votes of the certificate are missing")
    for part in (kept[: len(kept) // 2].rpartition(b"\n")[0] + b"\n", None):
        votes.unlink() if part is None else votes.write_bytes(part)
        again = Project.open(config).load_run()
        assert (again.overall, again.shift) == (gone, ())
    votes.write_bytes(kept)
    assert Project.open(config).load_run().shift
    (config.parent / "certificate.json").unlink()
    assert Project.open(config).load_run().shift == ()
