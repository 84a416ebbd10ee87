"""Sample replies under each failure: in the report, and inert in a terminal."""

from dataclasses import replace

from tests.support.factory import certificate
from trustescalate.records import SampleReply, Vote, sample_replies
from trustescalate.records.judging import Judgment
from trustescalate.report.document import build_calibration
from trustescalate.report.failed_votes import failed_votes_lines, failed_votes_table
from trustescalate.report.html import render_html
from trustescalate.report.markdown import render_markdown

HOSTILE = "<script>x</script>\x1b[2J\nVerdict | A"
SAMPLES = {"none": (SampleReply("q7", HOSTILE),)}


def test_the_report_of_a_certificate_shows_replies_under_each_failure() -> None:
    given = certificate()
    *first, last = given.diagnostics
    report = build_calibration(replace(given, diagnostics=(*first, replace(last, samples=SAMPLES))))
    (section,) = (section for section in report.sections if section.slug == "judges")
    (table,) = (table for table in section.tables if table.caption == "Failed votes, by reason")
    rows = {row.cells[1].text: [cell.text for cell in row.cells] for row in table.rows}
    assert rows["none"] == [last.judge, "none", "the reply holds no verdict", "3", f"q7: “{HOSTILE}”"]
    assert rows["timeout"][-1] == "—"
    page = render_html(report.page())
    assert "&lt;script&gt;x&lt;/script&gt;␛[2J" in page
    assert "\x1b" not in page + render_markdown(report.page())


def test_a_reply_is_one_inert_line_in_a_terminal() -> None:
    lines = failed_votes_lines("large", 2500, {"timeout": 12, "none": 3}, SAMPLES)
    assert lines == [
        "  large: 12 of 2,500 votes failed: timeout (no answer in time, after all attempts)",
        "  large: 3 of 2,500 votes failed: none (the reply holds no verdict)",
        "    q7: <script>x</script>␛[2J⏎Verdict | A",
    ]


def test_three_different_replies_are_kept_of_each_failure_and_cut() -> None:
    replies = ["long " * 100, "x", "x", "", "y", "z"]
    votes = tuple(Vote(0, "", {}, reply, "none") for reply in replies)
    good = Vote(0, "", {"A": 1.0}, "A")
    samples = sample_replies(
        [Judgment("q1", "j", "f", (good, *votes), 7), Judgment("q2", "j", "f", votes, 7)]
    )
    assert [(each.item_id, each.reply[:3], len(each.reply)) for each in samples["none"]] == [
        ("q1", "lon", 201),
        ("q1", "x", 1),
        ("q1", "y", 1),
    ]


def test_a_row_of_several_criteria_has_the_name_of_its_item() -> None:
    samples = {"none": (SampleReply("q%231#clear", "Both."),)}
    table = failed_votes_table([("small", {"none": 1}, samples)], several=True)
    assert table.rows[0].cells[-1].text == "q#1 on clear: “Both.”"
    assert failed_votes_lines("small", 1, {"none": 1}, samples, several=True)[1] == "    q#1 on clear: Both."
