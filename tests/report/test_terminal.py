"""The first screen and the gate as text: every figure, every width, no colour needed, no text alive."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

import pytest

from tests.support import factory
from tests.support.hostile import UNSAFE
from tests.support.hostile_run import hostile_run
from tests.support.products import Products
from tests.support.projects import calibrate, shuffled, write_project
from trustescalate.project import Project
from trustescalate.report.document import build, build_calibration
from trustescalate.report.follow import with_next
from trustescalate.report.html import render_html
from trustescalate.report.markdown import code, render_markdown
from trustescalate.report.pictures import Flow, FlowTier
from trustescalate.report.sections import Check, Page
from trustescalate.report.terminal import Screen, gate_lines, next_lines, page_lines
from trustescalate.report.text import cells, one_line

PAGES: dict[str, Callable[[], Page]] = {
    "run": lambda: build(factory.run(40)).page(),
    "none": lambda: build_calibration(factory.no_certificate()).page(),
    "incomplete": lambda: build(factory.incomplete_run()).page(),
    "by value": lambda: build(factory.grouped_run()).page(),
    "hostile": lambda: build(hostile_run()).page(),
}
CHECKS = (
    Check("what is checked", "pass", "stated", "the product and the judges", ""),
    Check("win rate of A", "fail", "at least 55 %", "51.0 % (46.1 to 55.9 %)", "300 items; from labels"),
    Check("coverage", "pass", "at least 60 %", "84.3 %", ""),
    Check("cost\ngate: pass", "undecided", "at most USD 3", "—", "a price is\nunknown"),
)


@pytest.fixture(scope="module", params=list(PAGES))
def page(request: pytest.FixtureRequest) -> Page:
    return PAGES[request.param]()


def flat(lines: Sequence[str]) -> str:
    return " ".join(" ".join(lines).split())


def letters(*lines: str) -> str:
    return "".join("".join(map(one_line, lines)).split())


@pytest.mark.parametrize("width", [1, 40, 60, 100, 400])
def test_it_fits_the_width_and_nothing_of_it_is_alive(page: Page, width: int) -> None:
    lines = page_lines(page, Screen(width))
    assert max(map(len, lines)) <= min(max(width, 40), 100)
    assert UNSAFE.search("".join(lines)) is None
    ours = [line for line in lines if line and not line.startswith("  ")]
    assert all(line[:2] in ("✓ ", "! ", "✗ ") for line in ours), ours


def test_it_says_what_the_page_says(page: Page) -> None:
    text = letters(*page_lines(page, Screen(100)))
    for figure in page.figures:
        assert letters(figure.name, figure.figure.text) in text
    for stated in (page.headline, *page.claims, *page.banners, page.advice, *page.facts):
        assert letters(stated) in text


def test_the_verdict_is_the_first_line_and_needs_no_colour(page: Page) -> None:
    plain, painted = page_lines(page), page_lines(page, Screen(colour=True))
    assert page.headline in plain[0]
    assert "\x1b" not in "".join(plain)
    assert [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in painted] == plain
    assert painted[0].startswith("\x1b[1;3")


def test_a_terminal_without_block_characters_gets_others() -> None:
    lines = page_lines(PAGES["run"](), Screen(encoding="ascii"))
    assert flat(lines).isascii()
    assert ">= 85 %" in flat(lines)
    (bar,) = [line.strip() for line in lines if re.fullmatch(r"  [#=+.]{70,}", line)]
    assert set(bar) <= set("#=+.")


def test_tiers_that_have_items_differ_in_the_bar() -> None:
    for used, signs in (([5], "█"), ([0, 5], "█▓"), (range(7), "1234567")):
        tiers = tuple(FlowTier(f"judge {n}", 70, 10 * (n in used), "") for n in range(7))
        flow = Flow("Where the items went", tiers, 10 * len(used), 0, 0, "judged", "")
        lines = page_lines(replace(PAGES["run"](), pictures=(flow,)), Screen(80))
        at = lines.index("  Where the items went")
        assert "".join(dict.fromkeys(lines[at + 1].strip())) == signs
        legend = [line[2] for line in lines[at + 2 : at + 9]]
        assert [legend[n] for n in used] == list(signs)
        assert legend.count(" ") == 7 - len(used)


def test_the_bar_is_in_proportion_and_the_legend_counts_each_part() -> None:
    tiers = (FlowTier("small", 300, 143, "USD 0.08"), FlowTier("large " * 30, 157, 86, "USD 1.76"))
    flow = Flow("Where the items went", tiers, 300, 70, 0, "released", "", labelled=1)
    lines = page_lines(replace(PAGES["run"](), pictures=(flow,)), Screen(80))
    at = lines.index("  Where the items went")
    bar = lines[at + 1].strip()
    assert len(bar) == 78
    assert [bar.count(sign) for sign in "█▓▄░"] == [37, 22, 1, 18]
    assert "".join(dict.fromkeys(bar)) == "█▓▄░"
    small, large, labels, review = lines[at + 2 : at + 6]
    assert re.fullmatch(r"  █ small +300 asked +143 released +USD 0\.08", small)
    assert re.fullmatch(r"  ▓ large large .*… +157 asked +86 released +USD 1\.76", large)
    assert (labels.split(), review.split()) == (
        ["▄", "human", "labels", "1", "items"],
        ["░", "human", "review", "70", "items"],
    )


def test_a_gate_leads_both_forms(tmp_path: Path) -> None:
    world = Products(tmp_path, {"base": 0.6, "new": 0.5}, size=60, right=1.0, gate={"min_rate": 0.9})
    world.calibrate()
    world.run("new")
    page = world.project.report()[0].page()
    assert page.release is not None
    first, rate, *_ = page_lines(page, Screen(100))
    assert first == f"Release gate: {page.release.status}"
    assert rate.startswith(f"  {page.release.shown[0].status}: pass rate: ")
    assert re.match(rf"## \S+ Release gate: {page.release.status}\n", render_markdown(page))


# ── the gate ─────────────────────────────────────────────────────────────────────────────────────


def test_a_gate_is_its_outcome_then_a_table_of_its_checks() -> None:
    lines = gate_lines("fail", CHECKS, Screen(100))
    assert lines[0] == "gate: fail (checked: the product and the judges)"
    titles, rate, why, coverage, cost = lines[2:7]
    assert titles.split() == ["check", "observed", "required"]
    assert (rate.index("51.0 %"), rate.index("at least")) == (
        titles.index("observed"),
        titles.index("required"),
    )
    assert coverage.index("84.3 %") == titles.index("observed")
    assert why.strip() == "300 items; from labels"
    assert cost.split()[:2] == ["undecided", "cost⏎gate:"]


@pytest.mark.parametrize("width", [40, 60, 100])
def test_a_gate_fits_the_width_and_no_line_is_forged(width: int) -> None:
    lines = gate_lines("undecided", CHECKS, Screen(width, colour=True))
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    assert max(map(len, plain)) <= width
    assert [line for line in plain if line and not line.startswith("  ")] == plain[:1]
    words = {word for check in CHECKS[:3] for word in check.observed.split()}
    assert words <= set(re.split(r"[\s;]+", flat(plain)))


# ── the next commands ────────────────────────────────────────────────────────────────────────────


def test_a_run_is_followed_by_its_gate_and_its_queue_or_is_resumed() -> None:
    done, stopped = factory.run(40, annotated=False), factory.incomplete_run()
    queue = f"trustescalate label queue {done.header.id}"
    assert with_next(build(done), (), done).follow == ("trustescalate gate", queue)
    first = with_next(build(done), ("--config", "a b.toml"), done, written=False).follow[0]
    assert first == "trustescalate report --config 'a b.toml'"
    assert with_next(build(stopped), (), stopped).follow == (
        f"trustescalate run --resume {stopped.header.id}",
    )
    uncertified = replace(done, header=replace(done.header, uncertified={}))
    rows = tuple(replace(row, label=None) for row in done.decisions)
    assert with_next(build(done), (), replace(uncertified, decisions=rows)).follow == (queue,)
    assert with_next(build(done), None, done).follow == ()


def test_every_form_of_a_page_names_the_same_commands(tmp_path: Path) -> None:
    config = write_project(tmp_path, alpha=0.1, labelled=60, change=shuffled)
    assert calibrate(config).status == "none"
    page = Project.open(config, overrides=["guarantee.alpha=0.1"]).report()[0].page()
    assert [command.split()[1] for command in page.follow] == ["run", "label", "plan"]
    assert all(f"--config {config} --set guarantee.alpha=0.1" in command for command in page.follow)
    assert [line.split("`")[1] for line in next_lines(page)] == list(page.follow)
    text, html = render_markdown(page), render_html(page)
    assert all(f"* {code(command)}" in text for command in page.follow)
    assert all(f"<code>{escape(command, quote=False)}</code>" in html for command in page.follow)


def test_a_certificate_is_followed_by_a_run() -> None:
    for made, words in ((factory.certificate(), "run"), (factory.no_certificate(), "run --uncertified")):
        assert with_next(build_calibration(made), (), made).follow[-1:] == (f"trustescalate {words}",)


def test_no_line_is_wider_than_the_screen_whatever_its_characters() -> None:
    run = factory.run(40)
    task = replace(run.header.certificate.task, question="どちらの回答が良いですか " * 9)
    certificate = replace(run.header.certificate, task=task)
    page = build(replace(run, header=replace(run.header, certificate=certificate))).page()
    for screen in (Screen(40), Screen(80), Screen(40, encoding="ascii")):
        assert max(map(cells, page_lines(page, screen))) <= screen.columns
