"""HTML, Markdown, JSON and JUnit: they add no figure, and no text gets out of its place."""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from html.parser import HTMLParser
from io import BytesIO
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from pydantic import TypeAdapter

from tests.support import factory
from tests.support.hostile_run import hostile_run
from trustescalate.report.document import build, build_calibration
from trustescalate.report.html import MAX_BYTES, _first, render_html
from trustescalate.report.junit import render_junit
from trustescalate.report.machine import render_items, render_json
from trustescalate.report.markdown import render_markdown
from trustescalate.report.sections import Report
from trustescalate.report.text import visible

pytestmark = pytest.mark.slow
VARIANTS = {
    "run": lambda: build(factory.run(40)),
    "none": lambda: build_calibration(factory.no_certificate()),
    "tierwise": lambda: build_calibration(factory.tierwise_certificate()),
    "incomplete": lambda: build(factory.incomplete_run()),
    "simulated": lambda: build(factory.simulated_run()),
    "hostile": lambda: build(hostile_run()),
    "by value": lambda: build(factory.grouped_run()),
    "hostile values": lambda: build(factory.grouped_run(factory.HOSTILE, "fi")),
}
NUMBER = re.compile(r"\d[\d.,]*\d|\d")
VOID = {"meta", "img", "source", "input", "br"}


@pytest.fixture(scope="module", params=list(VARIANTS))
def report(request: pytest.FixtureRequest) -> Report:
    return VARIANTS[request.param]()


class Page(HTMLParser):
    """Texts outside style, script and charts' scales, start tags, and whether all elements close in turn."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute of {tag} is given twice"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script", "text"):
            self.texts.append(data)


def strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from (*strings(key), *strings(inner))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from strings(inner)


def numbers(texts: Iterator[str] | list[str]) -> set[str]:
    return {number for text in texts for number in NUMBER.findall(text)}


def facts_of(report: Report) -> list[str]:
    items = [asdict(row) for row in report.items]
    counts = [f"{len(items):,}", str(len(_first(report.items)))]
    return [*map(visible, strings([asdict(replace(report, items=())), items])), *counts]


def test_every_number_on_the_page_is_a_fact(report: Report) -> None:
    shown = [
        str(number) for row in report.items for number in range(row.failed, 12)
    ]  # failed votes, examples
    facts = numbers([*facts_of(report), *shown])
    tables = {str(len(section.tables)) for section in report.sections}  # "Details: method, 4 tables"
    assert numbers(Page(render_html(report.page())).texts) <= facts | tables


def test_every_number_in_markdown_is_a_fact(report: Report) -> None:
    facts = numbers(facts_of(report))
    plain = re.sub(r"&#\d+;|^#+ ", " ", render_markdown(report.page()), flags=re.MULTILINE)
    spelled = numbers([re.sub(r"[&<>|`*_~\\\[\]{}!$@#]|//", " ", text) for text in facts_of(report)])
    assert numbers([plain]) <= facts | spelled


def test_equal_reports_equal_bytes(report: Report) -> None:
    assert render_html(report.page()) == render_html(report.page())
    assert render_markdown(report.page()) == render_markdown(report.page())
    assert render_json(report) == render_json(report)


# ── HTML ─────────────────────────────────────────────────────────────────────────────────────────


def test_page_is_whole_and_named(report: Report) -> None:
    page = Page(render_html(report.page()))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert {str(target)[1:] for target in targets} <= set(ids)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("h1") == tags.count("main") == tags.count("header") == 1
    assert tags.count("caption") == tags.count("table")
    assert "img" not in tags
    drawn = [given for tag, given in page.tags if tag == "svg" and given["class"] != "share"]
    assert all(attributes["role"] == "img" for attributes in drawn)
    assert tags.count("desc") == len(drawn) == tags.count("title") - 1


def test_page_asks_the_network_for_nothing_and_has_no_inline_code(report: Report) -> None:
    page = Page(render_html(report.page()))
    for _, attributes in page.tags:
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
        for name in ("src", "srcset", "href", "action"):
            assert str(attributes.get(name) or "#").startswith("#")
    tags = [tag for tag, _ in page.tags]
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert [given for given in scripts if given.get("type") != "application/json"] == [{}, {}, {}]
    assert tags.count("style") == 1
    assert not {"iframe", "image", "use", "foreignobject", "object", "embed", "link", "base"} & set(tags)


def test_policy_allows_nothing_inline(report: Report) -> None:
    [policy] = [
        str(attributes["content"])
        for tag, attributes in Page(render_html(report.page())).tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_an_incomplete_or_simulated_run_is_loud() -> None:
    for shown in (build(factory.incomplete_run()), build(factory.simulated_run())):
        assert '<aside class="banners"' in render_html(shown.page())
        assert f"> **{shown.banners[0]}**" in render_markdown(shown.page())


def test_a_page_has_at_most_five_megabytes_and_says_what_is_not_in_it() -> None:
    run = factory.run(400)
    items = tuple(replace(item, prompt="ß" * 30_000) for item in run.items)
    page = render_html(build(replace(run, items=items)).page())
    assert 4_500_000 < len(page.encode()) <= MAX_BYTES
    assert "more characters: report.items.jsonl has the whole text." in page
    assert "ß" * 20_001 not in page
    assert "All items are in <code>report.items.jsonl</code> beside this page" in page


# ── JSON Lines ───────────────────────────────────────────────────────────────────────────────────


def test_the_items_are_lines_of_their_own(report: Report) -> None:
    assert "items" not in json.loads(render_json(report))
    lines = [json.loads(line) for line in render_items(report.items)]
    assert [line["id"] for line in lines] == [row.id for row in report.items]
    for line, row in zip(lines, report.items, strict=True):
        assert [len(step["votes"]) for step in line["trail"]] == [len(step.cast) for step in row.trail]
        assert line["failed_votes"] == sum(
            bool(vote["failure"]) for step in line["trail"] for vote in step["votes"]
        )


def test_pandas_reads_the_lines() -> None:
    pandas = pytest.importorskip("pandas")
    report = build(factory.run(40))
    table = pandas.read_json(BytesIO(b"".join(render_items(report.items))), lines=True)
    assert list(table.id) == [row.id for row in report.items]
    assert set(table.state) == {"released", "abstained"}


def test_a_score_that_is_no_number_is_null() -> None:
    run = factory.run(10)
    step = replace(run.decisions[0].trail[0], score=float("nan"), score_upper=float("inf"))
    odd = replace(run.decisions[0], score=float("nan"), trail=(step,))
    report = build(replace(run, decisions=(odd, *run.decisions[1:])))
    line = next(json.loads(line) for line in render_items(report.items) if b'"item-0000"' in line)
    assert (line["score"], line["trail"][0]["score_upper"]) == (None, None)
    assert "NaN" not in render_html(report.page())


# ── Markdown ─────────────────────────────────────────────────────────────────────────────────────


def test_hostile_markdown_is_inert() -> None:
    text = render_markdown(build(hostile_run()).page())
    lines = text.splitlines()
    tags = set(re.findall(r"<[^>]*>", text))
    assert tags <= {"<code>", "</code>", "<sub>", "</sub>", "<!-- -->"}
    assert "`" not in text
    assert "{{" not in text
    assert "{%" not in text
    assert not re.search(r"(?<!&#64;)@|https?://|\]\(", text)
    assert not [c for c in text if c != "\n" and not c.isprintable()]
    for before, line in pairwise(lines):
        if before.startswith("|") and line.startswith("|"):
            assert before.count("|") == line.count("|")
    headings = [line for line in lines if line.startswith("#")]
    assert not [line for line in headings if "heading" in line]


def test_markdown_shows_the_first_abstentions_only() -> None:
    text = render_markdown(build(factory.run(600)).page())
    assert text.count("<code>item-") == 50
    assert "10 more are in the other formats of this report." in text


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────


def test_json_round_trip(report: Report) -> None:
    text = render_json(report)
    assert text.isascii()
    assert json.loads(text)["schema"] == 2
    if "\\ud800" not in text:  # a lone surrogate is no JSON that others would read
        assert TypeAdapter(Report).validate_json(text) == replace(report, items=())


def test_json_keeps_texts_as_they_came() -> None:
    whole = json.loads(render_json(build(hostile_run())))
    assert whole["task"]["question"] == factory.HOSTILE


def test_json_has_no_nan(report: Report) -> None:
    measures = replace(report.measures, cost=replace(report.measures.cost, value=float("nan")))
    with pytest.raises(ValueError, match="not JSON compliant"):
        render_json(replace(report, measures=measures))


# ── JUnit ────────────────────────────────────────────────────────────────────────────────────────


def test_junit_is_well_formed_whatever_it_is_told() -> None:
    text = render_junit(
        factory.HOSTILE,
        [
            ("kept", "pass", ""),
            (factory.HOSTILE, "fail", factory.HOSTILE),
            ("open", "undecided", "]]>&\x00\x1b"),
        ],
    )
    root = ElementTree.fromstring(text.encode())
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("3", "1", "1")
    kept, failed, unsure = root.iter("testcase")
    assert list(kept) == []
    assert failed.get("name") == visible(factory.HOSTILE)
    assert failed[0].tag == "failure"
    assert failed[0].text == visible(factory.HOSTILE)
    assert (unsure[0].tag, unsure[0].text) == ("error", "]]>&␀␛")


def test_junit_knows_three_answers() -> None:
    with pytest.raises(ValueError, match="unknown status 'PASS'"):
        render_junit("gate", [("a", "PASS", "")])
