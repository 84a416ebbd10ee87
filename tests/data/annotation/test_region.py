"""Rows from the region: queued by what judges say, answered, tested, and named in the certificate."""

import asyncio
import json
from math import ceil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.support.labelling import answer_all
from tests.support.projects import calibrate, edit, run, write_project
from trustescalate.analysis.queues import queue_calibration
from trustescalate.analysis.threshold_region import queue_region
from trustescalate.calibration.prepare import select_rows
from trustescalate.calibration.region import read_region
from trustescalate.cli import app
from trustescalate.config import BudgetTable
from trustescalate.data.annotation.queue import Queued, open_queue, sample_order
from trustescalate.data.dataset import load_dataset
from trustescalate.errors import (
    BudgetReached,
    CertificateMismatch,
    ConfigError,
    DataError,
    NotMeasurable,
    UsageError,
)
from trustescalate.project import Project
from trustescalate.records import Annotation, Certificate
from trustescalate.records.jsonl import encode
from trustescalate.records.progress import Hooks

pytestmark = pytest.mark.slow


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def queue(config: Path, rows: int = 40, most: float | None = 0.35) -> Queued:
    return asyncio.run(queue_region(Project.open(config).config, Hooks(), rows, most))


def written(folder: Path, **more: str) -> Path:
    return write_project(folder, labelled=30, unlabelled=260, alpha=0.3, pilot=40, **more)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Certificate]:
    """A project with answered rows from a region, and the certificate that came of them."""
    config = written(tmp_path_factory.mktemp("region"))
    ways = ("--for", "calibration", "--rows", 40, "--region", 0.35)
    assert cli("label", "queue", *ways, "--config", config).exit_code == 0
    answer_like_people(config)
    assert cli("label", "import", "--config", config).exit_code == 0
    return config, calibrate(config)


def answer_like_people(config: Path, only: int | None = None) -> None:
    """Answer a queue with what the neighbouring world's people would say."""
    from trustescalate.data.annotation.answers import Answer, AnswerFile
    from trustescalate.judges.simulated import generate

    made, data = open_queue(Project.open(config).config), load_dataset(Project.open(config).config)
    said = {note.item_id: note.label for note in generate(3, len(data.items)).annotations(len(data.items), 3)}
    with AnswerFile(made.folder) as file:
        for row in made.asked[:only]:
            first = made.label(row.item_id, "first")
            label = said[row.item_id]
            answer = label if label in ("tie", "skip") else "first" if label == first else "second"
            file.add(Answer(made.header.id, row.item_id, "ann", answer, 2.0))


# ── from the queue to the certificate ────────────────────────────────────────────────────────────


def test_the_certificate_names_its_region(done: tuple[Path, Certificate]) -> None:
    config, certificate = done
    region, kept = certificate.region, read_region(config.parent)
    assert region is not None
    assert kept is not None
    assert certificate.status == "certified"
    assert (region.most, region.rows, region.uniform) == (0.35, 40, len(certificate.roles["certify"]))
    assert certificate.n == region.rows + region.uniform
    assert region.judged == len(kept.candidates)
    assert 0 < region.inside < region.judged
    assert set(certificate.roles["region"]) == {
        row.item_id for row in open_queue(Project.open(config).config).rows
    }
    test = certificate.tests[certificate.chosen or 0]
    assert test.seen is not None
    assert certificate.coverage_lower is not None
    assert 0 < certificate.coverage_lower < test.seen / region.judged < test.accepted / certificate.n
    assert all(each.seen is not None and each.seen <= region.inside for each in certificate.tests)
    assert "drawn independently from the items, of the same population" in certificate.assumptions[0]
    assert certificate.band == ()


def test_what_is_said_of_all_items_is_counted_on_the_uniform_rows_alone(
    done: tuple[Path, Certificate],
) -> None:
    config, certificate = done
    uniform = len(certificate.roles["certify"])
    assert [judge.n for judge in certificate.diagnostics] == [uniform, uniform]
    result = run(config)
    assert result.overall is not None
    assert result.overall.labels == uniform
    drawn = set(certificate.roles["region"])
    assert drawn <= {row.item_id for row in result.decisions}, "the population to be judged stays whole"
    assert not drawn & {note.item_id for note in result.annotations}
    assert {shift.before for shift in result.shift} <= set(range(uniform + 1))
    report, _ = Project.open(config).report()
    assert report is not None


def test_the_report_says_where_rows_and_coverage_come_from(done: tuple[Path, Certificate]) -> None:
    config, certificate = done
    region = certificate.region
    assert region is not None
    page = cli("report", "--config", config)
    assert page.exit_code == 0, page.output
    text = next(config.parent.rglob("report.md")).read_text(encoding="utf-8")
    assert "40 certification rows were drawn from the items that some tested policy accepts" in text
    assert f"counted on {region.judged} unlabelled items drawn from all items" in text
    assert f"{region.inside} of which lie in the region" in text
    assert "the rows drawn from all items" in text
    assert cli("report", "--alpha", 0.2, "--config", config).exit_code != 0
    assert "region" in cli("check", "--config", config).stdout


def test_the_same_policies_are_laid_out_again_and_nothing_is_paid_twice(
    done: tuple[Path, Certificate],
) -> None:
    config, certificate = done
    again = asyncio.run(Project.open(config).calibrate(BudgetTable(calls=1)))
    assert again.tests == certificate.tests
    assert again.region == certificate.region


def test_queued_rows_are_the_first_of_the_region_in_the_order_of_the_draw(tmp_path: Path) -> None:
    config = written(tmp_path)
    found = queue(config, 20)
    kept = read_region(tmp_path)
    assert kept is not None
    assert (found.purpose, found.rows) == ("region", 20)
    assert "represent these items, not all items" in found.why
    data = load_dataset(Project.open(config).config)
    taken = {item_id for ids in kept.roles.values() for item_id in ids}
    order = [rows[0].id for rows in sample_order(data, 0, without=taken)]
    assert list(kept.candidates) == order[: ceil(20 / kept.share)], "the number is fixed by the pilot"
    rows = [row.item_id for row in open_queue(Project.open(config).config).rows]
    assert rows == [item_id for item_id in order if item_id in set(rows)]
    assert not set(rows) & taken
    more = queue(config, 30, None)
    longer = [row.item_id for row in open_queue(Project.open(config).config).rows]
    assert more.rows == 30
    assert longer[:20] == rows, "a second queue goes on with the same rows"
    assert read_region(tmp_path) == kept


def test_a_region_is_drawn_without_its_pilot_and_goes_on_after_answers(tmp_path: Path) -> None:
    config = written(tmp_path)
    queue(config, 12)
    before = [row.item_id for row in open_queue(Project.open(config).config).rows]
    answer_like_people(config, only=5)
    assert cli("label", "import", "--config", config).exit_code == 0
    queue(config, 12)
    after = [row.item_id for row in open_queue(Project.open(config).config).rows]
    assert after[:7] == before[5:]
    kept = read_region(tmp_path)
    assert kept is not None
    queue_calibration(Project.open(config).config, Hooks(), 100)
    uniform = {row.item_id for row in open_queue(Project.open(config).config).rows}
    assert not uniform & set(kept.roles["pilot"])
    assert uniform & set(before[:5]), "rows of a region stay in the draw from all items"


def test_labels_of_another_purpose_join_in_the_order_of_the_draw(tmp_path: Path) -> None:
    config = written(tmp_path)
    queue(config, 10)
    rows = [row.item_id for row in open_queue(Project.open(config).config).rows]
    notes = tmp_path / "annotations.jsonl"
    with notes.open("ab") as file:
        file.write(encode(Annotation(rows[1], "bob", "A", purpose="abstained")) + b"\n")
    assert queue(config, 10).known == 1
    answer_like_people(config)
    brought = cli("label", "import", "--config", config)
    assert "drawn at random where the tested policies accept; they can certify: 9" in brought.stdout
    data = load_dataset(Project.open(config).config)
    assert {item.id for item in data.in_region} == set(rows)
    with notes.open("ab") as file:
        file.write(encode(Annotation(rows[0], "bob", "A")) + b"\n")
    data = load_dataset(Project.open(config).config)
    assert rows[0] not in {item.id for item in data.in_region}
    assert rows[0] in {item.id for item in data.labelled}
    assert rows[0] not in select_rows(Project.open(config).config, data).roles["region"]


def test_without_one_row_from_all_items_nothing_is_said_of_them(tmp_path: Path) -> None:
    config = write_project(tmp_path, labelled=2, unlabelled=260, alpha=0.3, pilot=40)
    queue(config, 40)
    answer_like_people(config)
    assert cli("label", "import", "--config", config).exit_code == 0
    made = calibrate(config)
    assert made.status == "certified"
    assert made.region is not None
    assert (made.region.uniform, made.region.rows, made.n) == (0, 40, 40)
    assert [judge.n for judge in made.diagnostics] == [0, 0]
    assert made.human_agreement is None
    result = run(config)
    assert result.overall is not None
    assert "do not stand for all" in result.overall.reason
    Project.open(config).report()
    text = next(tmp_path.rglob("report.md")).read_text(encoding="utf-8")
    assert "counted on no row: none was drawn from all" in text


# ── what is refused ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("guarantee", "more", "named"),
    [
        ('path = "tierwise"', "", "tierwise"),
        ('path = "common"\nclaim = "batch"\nlabel_budget = 30', "", "batch"),
        ('path = "common"\ncluster_test = "betting"\nlargest_cluster = 4', "", "cluster_test"),
        ('path = "common"\ninterim = [20, 40]', "", "interim"),
        ('path = "common"\nweight = "meta.w"\nweight_bound = 2.0\nweight_source = "known"', "", "weight"),
        ('path = "common"', '[groups]\nby = "meta.language"', "by"),
        ('path = "common"', '[groups]\nevidence = "meta.language"', "evidence"),
    ],
)
def test_what_has_no_proof_with_a_region_is_refused(
    tmp_path: Path, guarantee: str, more: str, named: str
) -> None:
    def described(items: list[dict[str, object]], notes: list[dict[str, object]]) -> None:
        for item in items:
            item["meta"] = {"w": 1.0, "language": "en"}

    config = write_project(tmp_path, guarantee=guarantee, more=more, change=described)
    with pytest.raises(ConfigError, match=named) as caught:
        queue(config)
    assert "leave out --region" in caught.value.hint


def test_a_region_that_saves_nothing_is_not_made(tmp_path: Path) -> None:
    config = written(tmp_path)
    with pytest.raises(NotMeasurable, match="saves no labels"):
        queue(config, 100, None)
    few = write_project(tmp_path / "few", labelled=30, unlabelled=60, pilot=10)
    with pytest.raises(NotMeasurable, match="needs 20"):
        queue(few)
    with pytest.raises(NotMeasurable, match="no policy is expected"):
        queue(config, 20, 0.001)
    assert read_region(tmp_path) is None


def test_a_budget_that_ends_leaves_no_region_and_no_queue(tmp_path: Path) -> None:
    config = written(tmp_path)
    with pytest.raises(BudgetReached):
        asyncio.run(queue_region(Project.open(config).config, Hooks(), 40, 0.35, BudgetTable(calls=30)))
    assert read_region(tmp_path) is None
    assert queue(config).rows == 40


def test_another_region_or_another_judge_is_refused(tmp_path: Path) -> None:
    config = written(tmp_path)
    queue(config, 20)
    with pytest.raises(UsageError, match=r"up to 0\.35, not 0\.5"):
        queue(config, 20, 0.5)
    answer_all(config)
    cli("label", "import", "--config", config)
    edit(config, 'path = "common"', 'path = "pooled"')
    with pytest.raises(CertificateMismatch, match="were changed since rows"):
        calibrate(config)
    with pytest.raises(CertificateMismatch, match="were changed since rows"):
        queue(config, 20, None)


def test_a_region_file_that_is_gone_or_damaged_is_named(tmp_path: Path) -> None:
    config = written(tmp_path)
    queue(config, 20)
    answer_all(config)
    cli("label", "import", "--config", config)
    path = tmp_path / "region.json"
    kept = path.read_bytes()
    told = json.loads(kept)
    told["plan"]["coverage"][0][0] += 0.01
    path.write_text(json.dumps(told))
    with pytest.raises(CertificateMismatch, match="other policies"):
        calibrate(config)
    path.write_text(json.dumps({**told, "candidates": ["nobody"]}))
    with pytest.raises(DataError, match="not in"):
        calibrate(config)
    path.write_bytes(kept[:-5])
    with pytest.raises(DataError, match=r"region\.json"):
        calibrate(config)
    path.unlink()
    with pytest.raises(DataError, match="is gone"):
        calibrate(config)


@pytest.mark.parametrize("given", ["0", "1", "many"])
def test_a_region_is_a_share_or_auto(tmp_path: Path, given: str) -> None:
    result = cli("label", "queue", "--for", "calibration", "--rows", 5, "--region", given)
    assert result.exit_code == 2
    assert "neither" in result.stderr
