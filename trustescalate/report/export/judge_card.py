"""Write a judge card: what is measured and certified about the judges, to paste into a model card.

Every figure is one of the report: a card is a selection of its sections.
"""

from collections.abc import Iterator
from dataclasses import replace

from trustescalate.report.markdown import code, escape, figures_table, listed, section_parts
from trustescalate.report.sections import Report, Section

SECTIONS = (
    "judges",
    "judge-bias",
    "prompt-injection-probe",
    "failed-votes",
    "cascade",
    "certificate",
    "inter-annotator-agreement",
    "provenance",
)
"""The sections of the report that are about the judges, the certificate and the labels, by slug."""
TERMS = "Terms of the certificate"
LIMITS = (
    "The figures are about this task, these prompts and items like the labelled ones; another judge, prompt "
    "or population needs a calibration of its own.",
    "An abstention is no verdict: its item needs human review.",
)


def render_card(report: Report) -> str:
    """Render the claim word for word, the key figures, and the sections in `SECTIONS`, as Markdown."""
    page = report.page()
    by_slug = {section.slug: section for section in report.sections}
    parts = [
        "## Judge card",
        f"Question: **{escape(report.task.question.strip())}** "
        f"({escape(report.task.kind)}; labels: {escape(', '.join(report.task.labels))})",
        f"<sub>{' · '.join(map(escape, report.facts))}</sub>",
        *(f"> **{escape(banner)}**" for banner in report.banners),
        f"**{escape(report.headline)}**",
        *map(escape, page.claims),
        *([listed("Assumptions", map(escape, report.assumptions))] if report.assumptions else []),
        figures_table(report.key_figures),
        *(part for slug in SECTIONS if slug in by_slug for part in section_parts(_open(by_slug[slug]))),
        *_unprobed(by_slug),
        "### Limits",
        "\n".join(f"* {escape(sentence)}" for sentence in LIMITS),
    ]
    return "\n\n".join(parts) + "\n"


def _open(section: Section) -> Section:
    """The section with the terms of the certificate unfolded."""
    tables = tuple(replace(each, folded=each.folded and each.caption != TERMS) for each in section.tables)
    return replace(section, tables=tables)


def _unprobed(by_slug: dict[str, Section]) -> Iterator[str]:
    if "prompt-injection-probe" not in by_slug:
        yield "### Prompt-injection probe"
        yield f"Not measured: {code('trustescalate judges probe')} was not run."
