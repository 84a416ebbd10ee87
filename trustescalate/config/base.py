"""Define the base of all tables: strict keys, ranges of numbers, and no secrets."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

SECRET_KEYS = re.compile(
    r"api.?key|authori[sz]ation|bearer|credential|passw|secret|^(access|auth|hf)?_?token$", re.I
)


def _no_secrets(fields: dict[str, Any]) -> dict[str, Any]:
    secret = next(_secret_names(fields), None)
    if secret is not None:
        raise ValueError(
            f"{secret} seems to be a secret, and this file holds none; name a key by api_key_env"
        )
    return fields


def _secret_names(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from (name for name in value if SECRET_KEYS.search(name))
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _secret_names(part)


Share = Annotated[float, Field(ge=0, le=1)]
Level = Annotated[float, Field(gt=0, lt=1)]
Open = Annotated[dict[str, Any], AfterValidator(_no_secrets)]


NO_VERDICT = "changes no verdict"
"""Metadata of a field about the connection, price or resources of a judge, or the use of its verdicts."""


class Table(BaseModel):
    """One table of the file: frozen, and an unknown key is an error."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def verdict_free_keys(table: type[BaseModel]) -> set[str]:
    """The keys of a table that change no verdict.

    >>> class Judge(Table):
    ...     model: str
    ...     timeout: Annotated[float, NO_VERDICT] = Field(60.0, gt=0)
    >>> verdict_free_keys(Judge)
    {'timeout'}
    """
    return {name for name, field in table.model_fields.items() if NO_VERDICT in field.metadata}
