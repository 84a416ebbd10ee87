"""Parse Markdown into a tree of named tags and texts, which the page builds as nodes: no HTML is made.

HTML in a text stays text. A link or an image is its text with its address, and nothing can be clicked. A text
whose rendering would hide a letter or digit of it is shown as it was written.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

LONGEST = 100_000
"""A longer text, in characters, is shown as it was written."""
DEEPEST = 50
"""So is one with more levels of markup within one another."""
Node = str | dict[str, Any]
"""A text, or `tag` with `children`; of a list item also its `value`, of a code block its language, `info`."""


def formatted(text: str) -> list[Node] | None:
    """Return the tree of a text; None where it has no markup, is too long, or the tree would lose a word.

    >>> formatted("No markup.") is None
    True
    >>> formatted("So *very* [good](http://x)")[0]["children"][1:]
    [{'tag': 'em', 'children': ['very']}, ' ', {'tag': 'link', 'children': ['good', ' (http://x)']}]
    """
    if len(text) > LONGEST:
        return None
    tree: list[Node] = []
    if not _fill(tree, _parser().parse(text)):
        return None
    if all(isinstance(node, dict) and node["tag"] == "p" and _is_plain(node) for node in tree):
        return None
    return None if _characters([text]) - _characters(_texts(tree)) else tree


@cache
def _parser() -> "MarkdownIt":
    from markdown_it import MarkdownIt

    class Parser(MarkdownIt):
        """Keeps addresses as they were written."""

        def normalizeLink(self, url: str) -> str:
            return url

        def normalizeLinkText(self, link: str) -> str:
            return link

    parser = Parser("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.disable(["reference", "entity"])  # both hide a part of what was written
    return parser


def _fill(into: list[Node], tokens: Sequence["Token"]) -> bool:
    """Fill a list with nodes. False where they are nested too deeply."""
    levels = [into]
    for token in tokens:
        if token.type == "inline":
            if not _fill(levels[-1], token.children or ()):
                return False
        elif token.nesting == 1:
            if len(levels) > DEEPEST:
                return False
            levels.append(levels[-1] if token.hidden else _open(levels[-1], token))
            if token.type == "link_open" and token.info != "auto":
                levels[-1].append(_address(token, "href"))  # moved behind the text when the link ends
        elif token.nesting == -1:
            ended = levels.pop()
            if token.type == "link_close" and token.info != "auto":
                ended.append(ended.pop(0))
        else:
            levels[-1].append(_leaf(token))
    return True


def _open(into: list[Node], token: "Token") -> list[Node]:
    children: list[Node] = []
    node: dict[str, Any] = {"tag": "link" if token.tag == "a" else token.tag, "children": children}
    if token.type == "list_item_open" and token.info:
        node["value"] = token.info
    into.append(node)
    return children


def _leaf(token: "Token") -> Node:
    if token.type in ("softbreak", "hardbreak"):
        return "\n"
    if token.type == "image":
        return f"[image: {token.content}{_address(token, 'src')}]"
    if token.type == "hr":
        return {"tag": "hr", "children": []}
    if token.type == "code_inline":
        return {"tag": "code", "children": [token.content]}
    if token.type in ("fence", "code_block"):
        return {"tag": "pre", "children": [token.content], "info": token.info.strip()}
    return token.content


def _address(token: "Token", name: str) -> str:
    title = token.attrs.get("title")
    return f" ({token.attrs.get(name, '')}" + (f' "{title}")' if title else ")")


def _is_plain(node: dict[str, Any]) -> bool:
    return all(isinstance(child, str) for child in node["children"])


def _texts(nodes: Sequence[Node]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, str):
            yield node
        else:
            yield from (node.get("value", ""), node.get("info", ""))
            yield from _texts(node["children"])


def _characters(texts: Sequence[str] | Iterator[str]) -> Counter[str]:
    return Counter(char for text in texts for char in text if char.isalnum())
