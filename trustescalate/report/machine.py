"""Render a report as JSON: the same facts with unescaped texts, in ASCII."""

import json
from dataclasses import asdict

from trustescalate.report.sections import Report


def render_json(report: Report) -> str:
    """Render the whole report; `schema` is its version. Raises ValueError for NaN and infinity."""
    return json.dumps(asdict(report), indent=1, ensure_ascii=True, allow_nan=False) + "\n"
