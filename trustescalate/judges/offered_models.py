"""Find out from a server's list of models what is wrong in a judge's table."""

import json
from collections.abc import Sequence
from typing import Any

from trustescalate.config import EndpointTable, LiteLLMJudge
from trustescalate.errors import ProviderError
from trustescalate.judges.endpoint import ONE_MODEL, Endpoint
from trustescalate.judges.transport import OPENAI_URL, Call

MOST_NAMES = 8
"""Models of a server that are listed."""
SECONDS = 10.0
"""Longest wait for a list of models."""
DESCRIPTIONS = ("root", "parent", "meta")
"""Fields of a listed model that say what stands behind its name."""
LONGEST_DESCRIPTION = 200
PATHS = ("/chat/completions", "/completions", "/models", "/score", "/rerank", "/decisions", "/systemone")
"""Ends of an address that do not belong into base_url."""


async def advise(table: EndpointTable) -> str:
    """What to change in a table whose endpoint answers, but not as it should; "" where that is not plain.

    Asks for the list of models at each address, and at those that are often meant instead. This costs
    nothing.
    """
    if isinstance(table, LiteLLMJudge):  # LiteLLM knows the models and the addresses of its providers
        return ""
    for url in table.addresses or (OPENAI_URL,):
        advice = await _advise_at(table, url.rstrip("/"))
        if advice:
            return f"{url}: {advice}" if len(table.addresses) > 1 else advice
    return ""


async def must_offer_one_model(table: EndpointTable) -> None:
    """Raise ProviderError where the addresses of a judge describe the model of its name in different words.

    Compares what vLLM (`root`, `parent`) and llama.cpp (`meta`) list of a model beside its name.
    """
    if isinstance(table, LiteLLMJudge) or len(table.addresses) < 2:
        return
    known: tuple[str, dict[str, Any]] | None = None
    for url in table.addresses:
        rows = await _models(table, url.rstrip("/")) or []
        row = next((row for row in rows if row["id"] == table.model), None)
        if row is None:
            continue
        described = {key: row[key] for key in DESCRIPTIONS if row.get(key) is not None}
        if known is not None and described != known[1]:
            raise ProviderError(
                f"{table.model} is {_words(known[1])} at {known[0]}, and {_words(described)} at {url}",
                ONE_MODEL,
            )
        known = url, described


def _words(described: dict[str, Any]) -> str:
    text = json.dumps(described, ensure_ascii=True, sort_keys=True)
    return text if len(text) <= LONGEST_DESCRIPTION else f"{text[:LONGEST_DESCRIPTION]}…"


async def _advise_at(table: EndpointTable, base: str) -> str:
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
    """State that the server at one address answers under a name that it does not list; "" where it does not.

    A server of one model, such as llama.cpp's, answers to every name and repeats it.
    """
    if isinstance(table, LiteLLMJudge) or table.model not in served:
        return ""
    (url,) = table.addresses or (OPENAI_URL,)
    names = await _model_names(table, url.rstrip("/"))
    known = {part for name in names or () for part in (name, name.rpartition("/")[2], name.partition(":")[0])}
    if not names or table.model in known:
        return ""
    return f"answers as {table.model!r}, which it does not list; {_listed(names)}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"the server has: {', '.join(names[:MOST_NAMES])}{more}"


async def _model_names(table: EndpointTable, base: str) -> list[str] | None:
    """The names of the models that a server lists at an address; None where it lists none."""
    rows = await _models(table, base)
    return None if rows is None else [row["id"] for row in rows]


async def _models(table: EndpointTable, base: str) -> list[dict[str, Any]] | None:
    """The models that a server lists at an address; None where it lists none."""
    try:
        endpoint = Endpoint(
            model=table.model, base_url=base, api_key_env=table.api_key_env, attempts=1, timeout=SECONDS
        )
    except ProviderError:
        return None
    try:
        rows, _ = await endpoint.exchange(Call("GET", "/models"), _rows)
    except ProviderError:
        return None
    finally:
        await endpoint.close()
    return rows


def _rows(content: bytes) -> tuple[list[dict[str, Any]], int] | None:
    try:
        body: Any = json.loads(content)
    except (ValueError, RecursionError):
        return None
    rows = body.get("data") if isinstance(body, dict) else None
    if not isinstance(rows, list):
        return None
    return [row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)], 0
