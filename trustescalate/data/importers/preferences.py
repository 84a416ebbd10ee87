"""Draw the sides of pairs that a file stores with the better response first.

Without the draw, position bias would look like agreement. It is a hash of the texts, so it is the same in
every import, and the same pair in reverse is a contradiction.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from trustescalate.data.importers.base import Found
from trustescalate.data.importers.files import Unusable
from trustescalate.records import Annotation, Item, Turn

GOLD = "gold"
DRAWN = (
    "the better response always stands first in the file: which one is A is drawn by a hash of the texts, "
    f"and the file's own label is by {GOLD!r}"
)
Text = str | tuple[Turn, ...]


def preferred(
    prompt: Text,
    better: Text,
    worse: Text,
    *,
    item_id: str | None = None,
    group: str | None = None,
    models: tuple[str, str] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Found:
    """Make an item of a better and a worse response. Rows with one prompt are one group.

    >>> first, second = preferred("2+2?", "4", "5"), preferred("2+2?", "5", "4")
    >>> first.item == second.item, first.annotations == second.annotations
    (True, False)
    """
    if better == worse:
        raise Unusable("both responses are the same, so neither is better")
    low, high = sorted((better, worse), key=lambda text: text if isinstance(text, str) else repr(text))
    is_a = (low == better) == (int(mark(prompt, low, high), 16) % 2 == 0)
    texts = (better, worse) if is_a else (worse, better)
    named = (
        {} if models is None else dict(zip(("model_a", "model_b"), models[:: 1 if is_a else -1], strict=True))
    )
    known = mark(prompt, low, high) if item_id is None else item_id
    item = Item(known, prompt, texts, None, group or f"prompt {mark(prompt)}", {**named, **(meta or {})})
    return Found(item, (Annotation(known, GOLD, "A" if is_a else "B"),))


def mark(*parts: object) -> str:
    """A short hash, for texts without an id.

    >>> mark("a text")
    'a7ba58830f0ba9a6'
    """
    return hashlib.sha256(repr(parts).encode("utf-8", "replace")).hexdigest()[:16]
