"""Find out from a server's list of models what is wrong in a judge's table."""

import json
from collections.abc import Sequence
from typing import Any

from trustescalate.config import EndpointTable, LiteLLMJudge
from trustescalate.errors import ProviderError
from trustescalate.judges.endpoint import Endpoint
from trustescalate.judges.transport import OPENAI_URL, Call

MOST_NAMES = 8
"""Models of a server that are listed."""
SECONDS = 10.0
"""Longest wait for a list of models."""
PATHS = ("/chat/completions", "/completions", "/models", "/score", "/rerank", "/decisions", "/systemone")
"""Ends of an address that do not belong into base_url."""


async def advise(table: EndpointTable) -> str:
    """What to change in a table whose endpoint answers, but not as it should; "" where that is not plain.

    Asks for the list of models at base_url, and at the addresses that are often meant instead. This costs
    nothing.
    """
    if isinstance(table, LiteLLMJudge):  # LiteLLM knows the models and the addresses of its providers
        return ""
    base = (table.base_url or OPENAI_URL).rstrip("/")
    names = await _model_names(table, base)
    if names is not None:
        if not names or table.model in names:
            return ""
        return f"no such model {table.model!r}; {_listed(names)}"
    for suffix in PATHS:
        if base.endswith(suffix) and await _model_names(table, base.removesuffix(suffix)) is not None:
            return f"leave {suffix} out of base_url"
    if await _model_names(table, f"{base}/v1") is not None:
        return f'add /v1 to base_url: base_url = "{base}/v1"'
    return ""


async def unlisted(table: EndpointTable, served: Sequence[str]) -> str:
    """State that a server answers under a name that it does not list; "" where it does not.

    A server of one model, such as llama.cpp's, answers to every name and repeats it.
    """
    if isinstance(table, LiteLLMJudge) or table.model not in served:
        return ""
    names = await _model_names(table, (table.base_url or OPENAI_URL).rstrip("/"))
    known = {part for name in names or () for part in (name, name.rpartition("/")[2], name.partition(":")[0])}
    if not names or table.model in known:
        return ""
    return f"answers as {table.model!r}, which it does not list; {_listed(names)}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"the server has: {', '.join(names[:MOST_NAMES])}{more}"


async def _model_names(table: EndpointTable, base: str) -> list[str] | None:
    """The models that a server lists at an address; None where it lists none."""
    try:
        endpoint = Endpoint(
            model=table.model, base_url=base, api_key_env=table.api_key_env, attempts=1, timeout=SECONDS
        )
    except ProviderError:
        return None
    try:
        names, _ = await endpoint.exchange(Call("GET", "/models"), _names)
    except ProviderError:
        return None
    finally:
        await endpoint.close()
    return names


def _names(content: bytes) -> tuple[list[str], int] | None:
    try:
        body: Any = json.loads(content)
    except (ValueError, RecursionError):
        return None
    rows = body.get("data") if isinstance(body, dict) else None
    if not isinstance(rows, list):
        return None
    return [row["id"] for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)], 0
