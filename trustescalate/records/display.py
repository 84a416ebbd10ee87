"""Show a record in a notebook or a prompt: one line of text, or a small table in HTML."""

from collections.abc import Mapping
from html import escape


def one_line(name: str, facts: Mapping[str, object]) -> str:
    """A short `repr`: the kind of record and its main facts.

    >>> one_line("Run", {"id": "r1", "decided": "2 of 3"})
    '<Run id=r1, decided=2 of 3>'
    """
    return f"<{name} {', '.join(f'{key}={value}' for key, value in facts.items())}>"


def html_table(name: str, facts: Mapping[str, object]) -> str:
    """The same facts for `_repr_html_`; every text is escaped.

    >>> html_table("Run", {"id": "<b>"})
    '<table><caption>Run</caption><tr><th scope="row">id</th><td>&lt;b&gt;</td></tr></table>'
    """
    rows = (
        f'<tr><th scope="row">{escape(key)}</th><td>{escape(str(value))}</td></tr>'
        for key, value in facts.items()
    )
    return f"<table><caption>{escape(name)}</caption>{''.join(rows)}</table>"
