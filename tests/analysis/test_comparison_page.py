"""The page of a comparison says what the comparison says: which run is better, and where they differ."""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import factory
from tests.support.compared_runs import compared, judges, sides_of, systems
from tests.support.hostile import UNSAFE
from tests.support.projects import write_project
from trustescalate.analysis.comparison import compare
from trustescalate.analysis.comparison_page import comparison_page
from trustescalate.analysis.matched_pairs import matched_pairs
from trustescalate.analysis.product import product
from trustescalate.config import load_config
from trustescalate.records import Item, Product, Run, Task, TaskKind
from trustescalate.report.html import render_html
from trustescalate.report.items_data import pack
from trustescalate.report.pictures import Bars, Intervals
from trustescalate.report.product import estimate_figure
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


def page_of(config: Path, first: Run, second: Run, options: Sequence[str] = ()) -> Page:
    """Each run with its own items and labels, in one project."""
    sides, pairs = sides_of(first, second, load_config(config)), matched_pairs(first, second)
    return comparison_page(compare(sides, pairs), sides, pairs, COMMAND, options)


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
    first, second = systems(2, better=better, labels=labels)
    page = page_of(config, first, second)
    assert (page.kind, page.tone, page.headline) == ("comparison", tone, headline)
    assert [figure.name for figure in page.figures] == [
        "Baseline: win rate of A", "Candidate: win rate of A", "Difference", "Items matched",
    ]  # fmt: skip
    assert bool(page.advice) == (tone == "warning")
    assert len(page.follow) == 1
    seen = as_the_gate(config, first, second)
    charts = [picture for picture in page.pictures if isinstance(picture, Intervals)]
    assert bool(charts) == (headline != "Not measured")
    if not charts:
        return
    [chart] = charts
    assert (chart.reference, chart.reference_name, chart.points) == (0.0, "no difference", True)
    assert chart.title.endswith(", in points")
    change = seen.changes[0]
    measured = [limits for limits in (change.first, change.second) if limits is not None]
    assert [bar.limits for bar in chart.bars] == [(limits.low, limits.high) for limits in measured]
    assert "with probability ≥ 95 %" in page.claims[0]
    assert all("probability" in figure.detail for figure in page.figures[:3])


def test_the_next_command_names_the_configuration(config: Path) -> None:
    first, second = systems(6)
    options = ("--config", "p/t.toml", "--set", "task.ties='half'")
    page = page_of(config, first, second, options)
    [following] = page.follow
    assert json.loads(pack(page.items, 10**6, page.options).table)["options"] == list(options)
    assert '"options":["--config","p/t.toml","--set",' in render_html(page)
    assert shlex.split(following) == [
        "trustescalate", "gate", *options, second.header.id, "--baseline", first.header.id
    ]  # fmt: skip


def test_runs_of_two_projects_have_no_gate_in_common(config: Path) -> None:
    (before, after), pairs = sides_of(*systems(6), load_config(config)), matched_pairs(*systems(6))
    moved = before._replace(config=before.config.model_copy(update={"folder": config.parent / "other"}))
    page = comparison_page(compare((moved, after), pairs), (moved, after), pairs, COMMAND)
    assert (page.headline, page.follow) == ("Candidate better", ())


def as_the_gate(config: Path, first: Run, second: Run) -> Product:
    """What the gate computes of these two runs."""
    before, after = sides_of(first, second, load_config(config))
    gate = after.config.gate.model_copy(update={"by": None})
    asked = after.config.model_copy(update={"gate": gate})
    return product(asked, second, after.data, (first, before.data))


def test_the_difference_is_the_one_of_the_gate(config: Path) -> None:
    first, second = systems(6, better=0.3)
    page, seen = page_of(config, first, second), as_the_gate(config, first, second)
    change, baseline, candidate = seen.changes[0].first, seen.baseline_mean, seen.means[0].first
    assert baseline is not None
    shown = [figure.figure.text for figure in page.figures[:3]]
    texts = [estimate_figure(limits, False).text for limits in (baseline.first, candidate)]
    texts.append(estimate_figure(change, False, signed=True).text)
    assert all(text.startswith(figure) for figure, text in zip(shown, texts, strict=True))
    assert baseline.first.confidence == candidate.confidence


def test_a_selection_is_not_measured_and_says_why(config: Path) -> None:
    page = page_of(config, *systems(1, picked=True))
    assert page.headline == "Not measured"
    assert "were selected, not drawn at random" in page.claims[0] + page.claims[-1]


def test_labels_without_an_order_are_compared_as_verdicts(config: Path) -> None:
    task = Task(TaskKind.CHOICE, "Which?", ("A", "B"))

    def chosen(run: Run) -> Run:
        made = replace(run.header.certificate, task=task)
        return replace(run, header=replace(run.header, certificate=made))

    page = page_of(config, *map(chosen, systems(6)))
    assert (page.tone, page.headline, page.advice, page.follow) == ("warning", "Verdicts compared", "", ())
    assert page.figures[0].name == "Human agreement of the candidate"
    assert all(figure.figure.value is not None for figure in page.figures)


def test_the_count_of_labels_says_what_it_is_for(config: Path) -> None:
    advice = page_of(config, *systems(2, better=0.0)).advice
    assert re.match(r"About [\d,]+ more (human labels|items), of a random draw, would tell which", advice)
    assert "needs another number" in advice


def test_judges_are_compared_by_agreement_coverage_and_cost(config: Path) -> None:
    first, second = judges()
    page = page_of(config, first, second)
    agreement = compared(first, second).agreement
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
    page, found = page_of(config, first, second), compared(first, second)
    moves = next(picture for picture in page.pictures if isinstance(picture, Bars))
    counts = {bar.name: bar.values[0] for bar in moves.bars}
    assert sum(counts.values()) == found.matched
    assert counts["The same verdict"] == found.same
    assert counts["A → B"] + counts["B → A"] == found.differ
    assert counts["Only the candidate released one"] == found.one_released
    rows = [(row.verdict.text, row.baseline and row.baseline.text) for row in page.items]
    assert len(rows) == found.matched
    assert all(before == ("B" if label == "A" else "A") for label, before in rows[: found.differ])
    assert all(before == "no verdict" for _, before in rows[found.differ :][: found.one_released])
    assert [row.changed for row in page.items] == [n < found.differ for n in range(found.matched)]
    shown = render_html(page)
    assert "Verdicts that disagree with human labels come first" not in shown
    assert "in this order" not in shown
    assert '<th scope="col" data-key="baseline">Baseline verdict</th>' in shown
    assert {step.judge.split(":")[0] for step in page.items[0].trail} == {"baseline", "candidate"}


def test_each_changed_response_is_paired_with_that_of_the_baseline(config: Path) -> None:
    """The first response of two differs: three texts, of which the page compares two word by word."""
    row = page_of(config, *systems(6)).items[0]
    [(before, after)] = row.pairs
    assert len(row.responses) == 3
    titles = [row.responses[place][0].title for place in (before, after)]
    assert titles == [f"Baseline: {titles[1]}", titles[1]]


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
