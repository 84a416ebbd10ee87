"""Write Label Studio tasks, and the labelling configuration that shows them.

The order of responses is drawn per item (`base.coin`) and stored in `data.left_is`. The last verdict of a
judge becomes a prediction, except on rows that measure. Annotators see no model's name. Of several criteria
each task has its own question and labels, in `data.asked` and `data.options`.
"""

from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as Xml

from trustescalate.records import TIE, Label, TaskKind
from trustescalate.records.criteria import row_name
from trustescalate.report.export.base import (
    Export,
    Row,
    Target,
    as_json,
    coin,
    listed,
    readable,
    with_passages,
)

SIDES = ("answer1", "answer2")
"""Left and right."""


def _write(export: Export) -> Iterator[bytes]:
    export.beside[".config.xml"] = config(export)
    if not export.blind:
        export.say(
            "annotators see the predictions, so the labels of these rows must not certify a judge "
            "(--blind shows no predictions)"
        )

    def task(row: Row) -> Iterator[bytes]:
        yield as_json(_task(export, row))

    return listed(export.each(task))


def config(export: Export) -> bytes:
    """Make the labelling configuration as XML: the question, the texts and the labels."""
    view = Xml.Element("View")
    asked = "$asked" if export.criteria else _literal(export.task.question)
    Xml.SubElement(view, "Header", value=asked)
    Xml.SubElement(view, "Text", name="prompt", value="$prompt")
    if any(row.item.reference is not None for row in export.rows):
        Xml.SubElement(view, "Header", value="Reference")
        Xml.SubElement(view, "Text", name="reference", value="$reference")
    if export.task.kind is TaskKind.PAIRWISE:
        Xml.SubElement(view, "Pairwise", name="comparison", toName=",".join(SIDES))
        for side in SIDES:
            Xml.SubElement(view, "Text", name=side, value=f"${side}")
        ties = Xml.SubElement(view, "Choices", name="tie", toName="prompt")
        Xml.SubElement(ties, "Choice", value=TIE)
    else:
        Xml.SubElement(view, "Text", name="response", value="$response")
        labels = Xml.SubElement(view, "Choices", name="label", toName="response", required="true")
        if export.criteria:
            labels.set("value", "$options")
        for label in () if export.criteria else export.task.labels:
            Xml.SubElement(labels, "Choice", value=label)
    Xml.indent(view)
    return bytes(Xml.tostring(view, encoding="utf-8")) + b"\n"


def _literal(text: str) -> str:
    """Protect a text from being read as a field of the task, which a leading $ would name."""
    return f" {text}" if text.startswith("$") else text


def _task(export: Export, row: Row) -> dict[str, Any]:
    item, turned = row.item, coin(export.run, row.item)
    data: dict[str, Any] = {"item_id": item.id, "prompt": readable(with_passages(item))}
    texts = [readable(response) for response in item.responses]
    if export.task.kind is TaskKind.PAIRWISE:
        data |= dict(zip(SIDES, reversed(texts) if turned else texts, strict=True))
        data["left_is"] = "B" if turned else "A"
    else:
        data["response"] = texts[0]
    data["reference"] = item.reference or ""
    if item.group is not None:
        data["group"] = item.group
    if export.criteria:
        name = row_name(item).criterion
        data["asked"] = f"{name}: {export.criteria[name].question}"
        data["options"] = [{"value": label} for label in export.criteria[name].labels]
    return {"data": data, "predictions": [*_predictions(export, row, turned)]}


def _predictions(export: Export, row: Row, turned: bool) -> Iterator[dict[str, Any]]:
    if row.suggestion is not None:
        judge, label, score = row.suggestion
        result = {"id": "judge", **_result(export, label, turned)}
        yield {"model_version": judge, "score": score, "result": [result]}


def _result(export: Export, label: Label, turned: bool) -> dict[str, Any]:
    if export.task.kind is not TaskKind.PAIRWISE:
        value = {"choices": [label]}
        return {"type": "choices", "from_name": "label", "to_name": "response", "value": value}
    if label == TIE:
        value = {"choices": [TIE]}
        return {"type": "choices", "from_name": "tie", "to_name": "prompt", "value": value}
    side = "left" if (label == "A") != turned else "right"
    place = {"from_name": "comparison", "to_name": "comparison"}
    return {"type": "pairwise", **place, "value": {"selected": side}}


LABEL_STUDIO = Target(
    "label_studio", "Label Studio tasks, with a labelling configuration", _write, blind=True, several=True
)
