"""The whole file: read, checked, and every wrong key named at once."""

import json
import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from trustescalate.config.base import Table
from trustescalate.config.judges import (
    JudgeTable,
    LocalJudge,
    OpenAIJudge,
    PluginJudge,
    ReplayJudge,
    SimulatedJudge,
)
from trustescalate.config.tables import (
    FITTED_PATHS,
    BudgetTable,
    DataTable,
    EnsembleTable,
    GateTable,
    GuaranteeTable,
    RolesTable,
    TaskTable,
)
from trustescalate.errors import ConfigError


class Config(Table):
    """The whole file. `folder` is where it lies; paths in it are relative to that."""

    version: Literal[1]
    task: TaskTable = TaskTable()
    data: DataTable = DataTable()
    guarantee: GuaranteeTable = GuaranteeTable()
    roles: RolesTable = RolesTable()
    ensemble: EnsembleTable = EnsembleTable()
    judges: tuple[JudgeTable, ...] = Field(json_schema_extra={"minItems": 1})
    budget: BudgetTable = BudgetTable()
    gate: GateTable = GateTable()
    folder: Path = Field(Path(), exclude=True, repr=False)

    @field_validator("judges")
    @classmethod
    def _names_differ(cls, judges: tuple[JudgeTable, ...]) -> tuple[JudgeTable, ...]:
        names = [judge.name for judge in judges]
        if not names:
            raise ValueError("there must be at least one [[judges]]")
        if len(set(names)) != len(names):
            raise ValueError(f"names must differ: {', '.join(names)}")
        return judges

    @model_validator(mode="after")
    def _fitted_paths_have_dev_rows(self) -> Self:
        if self.guarantee.path in FITTED_PATHS and self.roles.dev == 0:
            raise ValueError(f'path = "{self.guarantee.path}" is fitted on dev rows: set [roles] dev = 0.3')
        return self

    @model_validator(mode="after")
    def _a_batch_is_whole(self) -> Self:
        if self.guarantee.claim == "batch" and self.task.ties == "drop":
            raise ValueError('claim = "batch" needs an outcome for every row drawn: set ties = "class"')
        if self.guarantee.claim == "batch" and self.roles.holdout > 0:
            raise ValueError('claim = "batch" is about every item: remove [roles] holdout')
        return self

    def path(self, relative: str) -> Path:
        """A path from the file, seen from where the process runs."""
        return self.folder / relative


def load_config(path: Path) -> Config:
    """Read a configuration. Raises ConfigError that names every wrong key at once."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        hint = "`trustescalate init` writes one; --config names another"
        raise ConfigError(f"{path}: there is no such file", hint) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start + 1}", "save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not valid TOML: nested too deeply") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    return parse_config(data, path)


def parse_config(data: dict[str, Any], path: Path) -> Config:
    """Check the values of a configuration read from `path`. Nothing is converted: "5" is no number."""
    lines = ["unknown key folder"] if "folder" in data else []
    try:
        values = json.dumps({**data, "folder": str(path.parent)}, default=str)
        config = Config.model_validate_json(values, strict=True)
    except ValidationError as error:
        lines += [_sentence(problem) for problem in error.errors(include_url=False)]
    if lines:
        raise ConfigError("\n  ".join([f"{path}:", *lines])) from None
    return config


def json_schema() -> dict[str, Any]:
    """The JSON schema of the file, for editors."""
    schema = Config.model_json_schema()
    schema["properties"].pop("folder")
    return schema


def _sentence(problem: Any) -> str:
    loc = [part for place, part in enumerate(problem["loc"]) if not _is_tag(place, problem["loc"])]
    where = ".".join(str(part + 1) if isinstance(part, int) else str(part) for part in loc)
    if problem["type"] == "extra_forbidden":
        near = get_close_matches(str(loc[-1]), _keys_near(problem["loc"]), 1)
        return f"unknown key {where}" + (f": did you mean {near[0]!r}?" if near else "")
    if problem["type"] == "missing":
        return f"{where} is missing"
    if problem["loc"] == ("judges",) and problem["type"] == "tuple_type":
        return "judges: must be written [[judges]], with two brackets, once for each judge"
    message = problem["msg"].removeprefix("Value error, ")
    message = re.sub(r"^\w+ should (be|have|match) ", r"must \1 ", message).replace("valid tuple", "list")
    return f"{where}: {message}" if where else message


def _is_tag(place: int, loc: tuple[Any, ...]) -> bool:
    """Whether this part of a place is pydantic's name of a kind of judge, and no key of the file."""
    return place == 2 and loc[0] == "judges"


def _keys_near(loc: tuple[Any, ...]) -> list[str]:
    """The known keys of the table in which an unknown one was found."""
    judges: dict[str, type[BaseModel]] = {
        "openai": OpenAIJudge, "local": LocalJudge, "replay": ReplayJudge,
        "simulated": SimulatedJudge, "plugin": PluginJudge,
    }  # fmt: skip
    model: type[BaseModel] = Config
    for place, part in enumerate(loc[:-1]):
        if _is_tag(place, loc):
            model = judges[part]
        elif str(part) in model.model_fields:
            inner = model.model_fields[str(part)].annotation
            model = inner if isinstance(inner, type) else model
    return [name for name in model.model_fields if name != "folder"]
