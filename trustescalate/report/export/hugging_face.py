"""Write a folder that `datasets.load_dataset` reads: typed Parquet, and a card with the certificate's claim.

Source: the dataset cards of the Hugging Face hub, whose YAML header names the files of each split.
"""

import json
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any

from trustescalate.records import Turn
from trustescalate.records.task import Json
from trustescalate.report.document import build
from trustescalate.report.export.base import Export, Target
from trustescalate.report.export.tables import NUMBERS, VERDICT, Layout, need_pyarrow, parquet_of
from trustescalate.report.markdown import code, escape

CARD, COLUMNS, DATA = "README.md", "columns.toml", "data/test-00000-of-00001.parquet"
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
    layout = Layout(export)
    layout.describe(escaped=False)
    if (described := export.beside.pop(".columns.toml", None)) is not None:
        export.beside[COLUMNS] = described
    types = _types(layout)
    export.beside[CARD] = _card(export, layout, types).encode()
    yield from parquet_of(layout, types)


def _types(layout: Layout) -> dict[str, Any]:
    """The type of each column: numbers, passages, turns where any text is a conversation, else text."""
    from pyarrow import bool_, float64, int64, list_, string

    texts, metas = ("prompt", *layout.responses), set(layout.meta.values())
    talks, kinds = set[str](), {name: set[type]() for name in metas}
    for row in layout.export.rows:
        cells = layout.cells(row)
        talks |= {name for name in texts if _is_talk(cells[name])}
        for name in metas:
            kinds[name].add(_kind(cells[name]))
    types = {name: string() for name in layout.names} | dict.fromkeys(NUMBERS, float64())
    types |= {"context": list_(string())} | dict.fromkeys(talks, _message_type())
    numbers = {bool: bool_(), int: int64(), float: float64()}
    for name, seen in kinds.items():
        kind, *others = [*(seen - {NoneType}), NoneType]
        types[name] = numbers.get(kind, string()) if others == [NoneType] else string()
    return {name: types[name] for name in layout.names}


def _kind(cell: Json) -> type:
    """The type of a cell; that of texts for an integer of more than 64 bits."""
    return str if type(cell) is int and not -(2**63) <= cell < 2**63 else type(cell)


def _is_talk(cell: Json) -> bool:
    return isinstance(cell, tuple) and any(isinstance(turn, Turn) for turn in cell)


def _message_type() -> Any:
    """The type of a conversation: turns as in chat completions."""
    from pyarrow import list_, string, struct

    function = struct([("name", string()), ("arguments", string())])
    call = struct([("id", string()), ("type", string()), ("function", function)])
    texts = [(field, string()) for field in ("role", "content", "tool_call_id", "name")]
    return list_(struct([*texts, ("tool_calls", list_(call))]))


def _card(export: Export, layout: Layout, types: Mapping[str, Any]) -> str:
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
        f"| {code(name)} | {escape(str(type_))} | {escape(MEANINGS.get(name, kinds.get(name, '')))} |"
        for name, type_ in types.items()
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
