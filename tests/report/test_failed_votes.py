"""Sample replies under each failure: in the report, and inert in a terminal."""

from dataclasses import replace

from tests.support.factory import certificate, run
from trustescalate.records import SampleReply, Vote, sample_replies
from trustescalate.records.criteria import BY_CRITERION
from trustescalate.records.judging import Judgment
from trustescalate.report.document import build_calibration
from trustescalate.report.failed_votes import failed_votes_lines, failed_votes_section
from trustescalate.report.html import render_html
from trustescalate.report.markdown import render_markdown
from trustescalate.report.pictures import Bars

HOSTILE = "<script>x</script>\x1b[2J\nVerdict | A"
SAMPLES = {"none": (SampleReply("q7", HOSTILE),)}


def test_the_report_of_a_certificate_shows_replies_under_each_failure() -> None:
    given = certificate()
    *first, last = given.diagnostics
    report = build_calibration(replace(given, diagnostics=(*first, replace(last, samples=SAMPLES))))
    (section,) = (section for section in report.sections if section.slug == "failed-votes")
    (table,) = section.tables
    (chart,) = section.pictures
    assert isinstance(chart, Bars)
    assert [bar.name for bar in chart.bars] == [
        f"{last.judge}: no answer in time, after all attempts",
        f"{last.judge}: the reply holds no verdict",
    ]
    assert [bar.values for bar in chart.bars] == [(12.0,), (3.0,)]
    assert section.text[0].startswith(
        "15 of 7,500 votes failed (0.2 %) at calibration, all of large (no answer in"
    )
    rows = {row.cells[2].text: [cell.text for cell in row.cells] for row in table.rows}
    assert rows["none"] == [last.judge, "the reply holds no verdict", "none", "3", f"q7: “{HOSTILE}”"]
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
    given = certificate()
    judge = replace(given.diagnostics[0], failures={"none": 1}, samples=samples)
    section = failed_votes_section(replace(given, diagnostics=(judge,), group_by=BY_CRITERION), None)
    assert section is not None
    assert section.tables[0].rows[0].cells[-1].text == "q#1 on clear: “Both.”"
    assert failed_votes_lines("small", 1, {"none": 1}, samples, several=True)[1] == "    q#1 on clear: Both."


def test_a_run_counts_its_own_failures_and_those_at_calibration() -> None:
    whole = run()
    section = failed_votes_section(whole.header.certificate, whole)
    assert section is not None
    assert [table.caption for table in section.tables] == [
        "Failed votes of this run",
        "Failed votes at calibration",
    ]
    assert section.text[0] == (
        "30 of 3,740 votes failed (0.8 %) in this run, all of large (no answer in time, after all "
        "attempts × 30). At calibration, 15 of 7,500 votes failed (0.2 %)."
    )
    (chart,) = section.pictures
    assert isinstance(chart, Bars)
    assert [(bar.name, bar.texts) for bar in chart.bars] == [
        ("large: no answer in time, after all attempts", ("30 (6.8 % of its votes)",))
    ]


def test_without_a_failed_vote_there_is_no_such_section() -> None:
    given = certificate()
    silent = tuple(replace(judge, failures={}) for judge in given.diagnostics)
    assert failed_votes_section(replace(given, diagnostics=silent), None) is None
