"""The page of a comparison says what the comparison says: which run is better, and where they differ."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import factory
from tests.support.compared_runs import judges, systems
from tests.support.hostile import UNSAFE
from tests.support.projects import write_project
from trustescalate.analysis.comparison import compare
from trustescalate.analysis.comparison_page import comparison_page
from trustescalate.config import load_config
from trustescalate.records import Item, Run, Task, TaskKind
from trustescalate.report.html import render_html
from trustescalate.report.pictures import Bars, Intervals
from trustescalate.report.sections import Page

pytestmark = pytest.mark.slow
COMMAND = "trustescalate compare a b"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(
        tmp_path_factory.mktemp("compared"),
        gate='max_drop = 0.05\nby = "meta.half"',
        labelled=4,
        unlabelled=4,
    )


def page_of(config: Path, first: Run, second: Run) -> Page:
    read = load_config(config)
    return comparison_page(compare(first, second), ((read, first), (read, second)), None, COMMAND)


def halved(run: Run) -> Run:
    """The items have a half of their own, by their place."""
    items = tuple(replace(item, meta={"half": str(n // 4 % 2)}) for n, item in enumerate(run.items))
    return replace(run, items=items)


@pytest.mark.parametrize(
    ("better", "labels", "tone", "headline"),
    [
        (0.3, 200, "good", "Candidate better"),
        (-0.3, 200, "bad", "Candidate worse"),
        (0.0, 200, "warning", "Cannot be told apart"),
        (0.4, 60, "good", "Candidate better"),
        (0.1, 0, "warning", "Not measured"),
    ],
)
def test_responses_are_better_worse_or_not_told_apart(
    config: Path, better: float, labels: int, tone: str, headline: str
) -> None:
    first, second = systems(6, better=better, labels=labels)
    page = page_of(config, first, second)
    assert (page.kind, page.tone, page.headline) == ("comparison", tone, headline)
    assert [figure.name for figure in page.figures] == [
        "Baseline: win rate of A", "Candidate: win rate of A", "Difference", "Items matched",
    ]  # fmt: skip
    assert bool(page.advice) == (tone == "warning")
    assert page.follow == (f"trustescalate gate {second.header.id} --baseline {first.header.id}",)
    change = compare(first, second).change
    assert change is not None
    chart = next(picture for picture in page.pictures if isinstance(picture, Intervals))
    assert (chart.reference, chart.reference_name) == (0.0, "no difference")
    shown = {bar.name: (bar.estimate, bar.limits) for bar in chart.bars}
    assert shown["Judges alone"] == (change.by_judges, None)
    assert ("Predictions and labels" in shown) == change.usable
    if change.usable:
        assert shown["Predictions and labels"] == (change.estimate, change.interval)


def test_a_selection_is_not_measured_and_says_why(config: Path) -> None:
    page = page_of(config, *systems(1, picked=True))
    assert page.headline == "Not measured"
    assert "were selected, not drawn at random" in page.claims[0]


def test_labels_without_an_order_are_compared_as_verdicts(config: Path) -> None:
    task = Task(TaskKind.CHOICE, "Which?", ("A", "B"))

    def chosen(run: Run) -> Run:
        made = replace(run.header.certificate, task=task)
        return replace(run, header=replace(run.header, certificate=made))

    page = page_of(config, *map(chosen, systems(6)))
    assert (page.tone, page.headline, page.advice, page.follow) == ("warning", "Verdicts compared", "", ())
    assert page.figures[0].name == "Human agreement of the candidate"
    assert all(figure.figure.value is not None for figure in page.figures)


def test_a_clearer_difference_takes_fewer_labels(config: Path) -> None:
    """About the labels that are there times the square of width by difference; more than match says so."""
    found = compare(*systems(6, better=0.0)).change
    assert found is not None
    assert found.estimate is not None
    assert found.interval is not None
    width = (found.interval[1] - found.interval[0]) / 2
    wanted = 200 * (width / found.estimate) ** 2
    advice = page_of(config, *systems(6, better=0.0)).advice
    assert f"About {int(wanted) + 1:,} items labelled in both runs" in advice
    assert ("more than the 400 that match" in advice) == (wanted > 400)


def test_judges_are_compared_by_agreement_coverage_and_cost(config: Path) -> None:
    first, second = judges()
    page = page_of(config, first, second)
    agreement = compare(first, second).agreement
    assert (page.tone, page.headline) == ("good", "Candidate agrees more often")
    assert f"the candidate on {agreement.only_second:,}" in page.claims[1]
    assert "Coverage of the matched items: 100 %" in page.claims[2]
    assert "Cost per 1,000 items" in page.claims[2]
    back = page_of(config, second, first)
    assert (back.tone, back.headline) == ("bad", "Candidate agrees less often")
    same = page_of(config, first, first)
    assert same.headline == "Cannot be told apart"
    assert "both were right on the same" in same.claims[0]


def test_groups_are_charted_with_wider_limits(config: Path) -> None:
    pages = [page_of(config, *map(halved, judges())), page_of(config, *map(halved, systems(6, better=0.3)))]
    for page in pages:
        [section] = [section for section in page.sections if section.slug == "groups"]
        [chart] = section.pictures
        assert isinstance(chart, Intervals)
        assert chart.reference_name == "no difference"
        assert [bar.name for bar in chart.bars][-2:] == ["0", "1"]
        assert "hold simultaneously" in section.text[0]
    [chart] = next(section for section in pages[0].sections if section.slug == "groups").pictures
    assert isinstance(chart, Intervals)
    whole, *halves = (bar.limits for bar in chart.bars)
    assert whole is not None
    assert all(half is not None and half[1] - half[0] > whole[1] - whole[0] for half in halves)


def test_verdicts_move_and_the_items_that_moved_come_first(config: Path) -> None:
    first, second = judges()
    page, found = page_of(config, first, second), compare(first, second)
    moves = next(picture for picture in page.pictures if isinstance(picture, Bars))
    counts = {bar.name: bar.values[0] for bar in moves.bars}
    assert sum(counts.values()) == found.matched
    assert counts["The same verdict"] == found.same
    assert counts["A → B"] + counts["B → A"] == found.differ
    assert counts["Only the candidate released one"] == found.one_released
    rows = [(row.verdict.text, row.verdict.note) for row in page.items]
    assert len(rows) == found.matched
    assert all(note == f"baseline: {'B' if label == 'A' else 'A'}" for label, note in rows[: found.differ])
    assert all(note == "baseline: no verdict" for _, note in rows[found.differ :][: found.one_released])
    assert {step.judge.split(":")[0] for step in page.items[0].trail} == {"baseline", "candidate"}


def test_what_does_not_hold_is_said(config: Path) -> None:
    first, second = systems(6)
    partial = replace(second, header=replace(second.header, status="budget"))
    shifted = replace(first, shift=factory.shift(raised=True))
    banners = page_of(config, shifted, partial).banners
    assert any(banner.startswith("Candidate: the run is incomplete") for banner in banners)
    assert any(banner.startswith("Baseline: verdicts or scores of") for banner in banners)


def test_hostile_texts_stay_texts(config: Path) -> None:
    def hostile(run: Run) -> Run:
        items: list[Item] = [replace(item, prompt=factory.HOSTILE) for item in run.items]
        return replace(run, items=tuple(items), header=replace(run.header, id=factory.HOSTILE))

    page = render_html(page_of(config, *map(hostile, systems(6, labels=20))))
    assert not UNSAFE.search(page.partition("<script")[0].replace("\n", ""))
    assert "<script>alert" not in page
