"""Write a folder that `datasets.load_dataset` reads: typed Parquet, and a card with the certificate's claim.

Source: the dataset cards of the Hugging Face hub, whose YAML header names the files of each split.
"""

import io
import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from trustescalate.records import Turn
from trustescalate.records.task import Json
from trustescalate.report.document import build
from trustescalate.report.export.base import Export, Target, turns
from trustescalate.report.export.tables import VERDICT, Layout, flat, need_pyarrow
from trustescalate.report.markdown import code, escape

CARD, COLUMNS, DATA = "README.md", "columns.toml", "data/test-00000-of-00001.parquet"
NUMBERS = ("score", "cost_usd")
MEANINGS = {
    "id": "id of the item",
    "item_id": "id of the item",
    "criterion": "criterion that was judged",
    "group": "cluster of the item",
    "prompt": "what was asked",
    "context": "passages",
    "response": "the response",
    "response_a": "response A",
    "response_b": "response B",
    "reference": "reference answer",
    "verdict": "released verdict; null: the cascade abstained",
    "verdict_judge": "judge whose verdict was released",
    "score": "score of that verdict",
    "reason": "why it was released, or why not",
    "cost_usd": "cost of the votes on the item, in USD",
}


def _write(export: Export) -> Iterator[bytes]:
    need_pyarrow()
    from pyarrow import Table, parquet

    layout = Layout(export)
    layout.describe(escaped=False)
    if (described := export.beside.pop(".columns.toml", None)) is not None:
        export.beside[COLUMNS] = described
    rows = [layout.cells(row) for row in export.rows]
    columns = {name: _column(export, name, [row[name] for row in rows], layout) for name in layout.names}
    export.beside[CARD] = _card(export, layout, columns).encode()
    page = io.BytesIO()
    parquet.write_table(Table.from_pydict(columns), page)
    yield page.getvalue()


def _column(export: Export, name: str, cells: Sequence[Json], layout: Layout) -> Any:
    """One column with one type: numbers, passages, turns where any text is a conversation, else text."""
    from pyarrow import ArrowException, array, bool_, float64, list_, string

    if name in NUMBERS:
        return array(cells, float64())
    if name == "context":
        return array(cells, list_(string()))
    if name in ("prompt", *layout.responses) and any(_is_talk(cell) for cell in cells):
        role: Literal["user", "assistant"] = "user" if name == "prompt" else "assistant"
        return array([None if cell is None else turns(cell, role) for cell in cells], _message_type())
    if name in layout.meta.values():
        for kind, type_ in ((bool, bool_()), (int, None), (float, float64())):
            if any(cell is not None for cell in cells) and all(
                cell is None or type(cell) is kind for cell in cells
            ):
                try:
                    return array(cells, type_)
                except (ArrowException, OverflowError):  # an integer of more than 64 bits
                    break
    texts = [None if (cell := flat(export, each)) is None else str(cell) for each in cells]
    return array(texts, string())


def _is_talk(cell: Json) -> bool:
    return isinstance(cell, tuple) and any(isinstance(turn, Turn) for turn in cell)


def _message_type() -> Any:
    """The type of a conversation: turns as in chat completions."""
    from pyarrow import list_, string, struct

    function = struct([("name", string()), ("arguments", string())])
    call = struct([("id", string()), ("type", string()), ("function", function)])
    texts = [(field, string()) for field in ("role", "content", "tool_call_id", "name")]
    return list_(struct([*texts, ("tool_calls", list_(call))]))


def _card(export: Export, layout: Layout, columns: dict[str, Any]) -> str:
    run = export.run
    report = build(run)
    header = [
        "---",
        f"pretty_name: {json.dumps(export.task.question.strip()[:200])}",
        "tags:\n- llm-as-a-judge\n- trustescalate",
        f"configs:\n- config_name: default\n  data_files:\n  - split: test\n    path: {DATA}",
        "---",
    ]
    kinds = {**dict.fromkeys(layout.meta.values(), "a field of the item's meta")}
    kinds |= dict.fromkeys(layout.judges.values(), "last verdict of this judge; null: it was not asked")
    kinds |= dict.fromkeys(layout.people.values(), "label of this annotator")
    lines = [
        f"| {code(name)} | {escape(str(column.type))} | {escape(MEANINGS.get(name, kinds.get(name, '')))} |"
        for name, column in columns.items()
    ]
    about = "none" if run.uncertified else run.header.certificate.id
    parts = [
        "\n".join(header),
        f"# {escape(export.task.question.strip())}",
        *(f"> **{escape(banner)}**" for banner in report.banners),
        f"Verdicts of an LLM-judge cascade, run {code(run.header.id)}, certificate {code(about)}: "
        f"{len(export.rows):,} rows.",
        f"**{escape(report.headline)}.** {escape(report.claim)}",
        "The claim is about all released verdicts together, not about single rows or a selection. An "
        f"abstention has no {code(VERDICT[0])}: its item needs human review.",
        "\n".join(["| column | type | content |", "|---|---|---|", *lines]),
        "Licence and origin of the texts: not known here; write them here before the set is passed on.",
    ]
    return "\n\n".join(parts) + "\n"


HF = Target("hf", "A folder for `datasets.load_dataset`", _write, several=True, inside=DATA)
