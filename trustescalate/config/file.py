"""Read and validate a configuration file, and name every wrong key at once."""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from trustescalate.config.base import NO_VERDICT, Table, verdict_free_keys
from trustescalate.config.criteria import (
    CriterionTable,
    mixed_up,
    must_ask_criteria,
    must_fit,
    must_have_means,
    rows_task,
    with_groups,
)
from trustescalate.config.guarantee import FITTED_PATHS, GroupsTable, GuaranteeTable
from trustescalate.config.judges import JUDGE_TABLES, ClassicalJudge, JudgeTable, ModelTable, PluginJudge
from trustescalate.config.moved import moved_key, moved_value
from trustescalate.config.override import apply_override
from trustescalate.config.tables import (
    BudgetTable,
    DataTable,
    EnsembleTable,
    GateTable,
    ImportTable,
    LeaderboardTable,
    PromptsTable,
    RolesTable,
    TaskTable,
)
from trustescalate.errors import ConfigError
from trustescalate.records import Task, TaskKind
from trustescalate.records.bounded import read_text


class Config(Table):
    """A configuration file in `folder`; its paths are relative to it."""

    version: Literal[1]
    task: TaskTable = TaskTable()
    criteria: tuple[CriterionTable, ...] = ()
    prompts: PromptsTable = PromptsTable()
    data: DataTable = DataTable()
    guarantee: GuaranteeTable = GuaranteeTable()
    groups: GroupsTable = GroupsTable()
    roles: RolesTable = RolesTable()
    ensemble: EnsembleTable = EnsembleTable()
    judges: tuple[JudgeTable, ...] = Field(json_schema_extra={"minItems": 1})
    budget: Annotated[BudgetTable, NO_VERDICT] = BudgetTable()
    gate: Annotated[GateTable, NO_VERDICT] = GateTable()
    columns: ImportTable = Field(ImportTable(), alias="import", exclude=True, repr=False)
    leaderboard: Annotated[LeaderboardTable, NO_VERDICT] = LeaderboardTable()
    folder: Path = Field(Path(), exclude=True, repr=False)

    @model_validator(mode="after")
    def _check_criteria(self) -> Self:
        if not self.criteria:
            return self
        must_fit(self.criteria, self.task, self.groups.by)
        must_ask_criteria(self.judges)
        must_have_means(self.criteria, self.task)
        unused = {
            "[leaderboard]": bool(self.leaderboard.models),
            "[gate] by": self.gate.by is not None,
            "[data] strata": self.data.strata is not None,
            'cluster_test = "row_weighted"': self.guarantee.cluster_test == "row_weighted",
        }
        if key := next((key for key, is_set in unused.items() if is_set), None):
            raise ValueError(f"{key} is about items of one verdict, and [[criteria]] are several; remove one")
        self.__dict__["task"] = self.task.of_rows(rows_task(self.criteria, self.task))
        return self

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
    def _check_dev(self) -> Self:
        if self.guarantee.path in FITTED_PATHS and self.roles.dev == 0:
            raise ValueError(f'path = "{self.guarantee.path}" is fitted on dev rows: set [roles] dev = 0.3')
        return self

    @model_validator(mode="after")
    def _check_estimator(self) -> Self:
        estimator = self.ensemble.estimator
        if estimator == "verbalized" and not all(map(_states_confidence, self.judges)):
            raise ValueError(
                'estimator = "verbalized" reads the confidence that judges state: set mode = "stated" in each'
            )
        stated = [judge.name for judge in self.judges if getattr(judge, "mode", None) == "stated"]
        if stated and estimator != "verbalized":
            raise ValueError(
                f'judge {stated[0]!r} has mode = "stated", which estimator = "verbalized" alone reads'
            )
        return self

    @model_validator(mode="after")
    def _check_fit_on(self) -> Self:
        classical = [judge for judge in self.judges if isinstance(judge, ClassicalJudge)]
        fitted = [judge.name for judge in classical if judge.fit_on == "last_judge"]
        if not fitted:
            return self
        name = f'judge {fitted[0]!r} has fit_on = "last_judge"'
        if self.judges[-1].name in fitted:
            raise ValueError(f"{name}, and is the last judge itself: put a stronger one after it")
        if self.guarantee.claim == "expected":
            raise ValueError(
                f'{name}, which is fitted on items of the run, and claim = "expected" needs judges that are '
                'fitted without any: set fit_on = "labels"'
            )
        if self.guarantee.pilot == 0:
            raise ValueError(f"{name}, which is fitted on the pilot: set [guarantee] pilot = 200")
        return self

    @model_validator(mode="after")
    def _check_claim(self) -> Self:
        guarantee, ties = self.guarantee, self.task.ties
        batch = guarantee.claim == "batch"
        reasons = {
            'claim = "batch" needs an outcome for every row drawn: set ties = "class"': (
                batch and ties == "drop"
            ),
            'claim = "batch" is about every item: remove [roles] holdout': batch and self.roles.holdout > 0,
            'claim = "batch" draws its rows itself: remove [roles] file': batch
            and self.roles.file is not None,
            'claim = "expected" counts every row as right or wrong, and '
            f'ties = "{ties}" does not: set ties = "class"': guarantee.claim == "expected"
            and ties != "class",
            'ties = "half" is tested by betting on rows, not with claim = "batch", '
            'cluster_test = "betting" or path = "tierwise"; set ties = "class"': ties == "half"
            and (batch or guarantee.cluster_test == "betting" or guarantee.path == "tierwise"),
            'claim = "batch" is about every item: set [task] skips = "disagree"': (
                batch and self.task.skips == "outside"
            ),
        }
        if reason := next((reason for reason, applies in reasons.items() if applies), None):
            raise ValueError(reason)
        return self

    @model_validator(mode="after")
    def _check_groups(self) -> Self:
        asked = [name for name in ("by", "evidence") if getattr(self.groups, name) is not None]
        claim = self.guarantee.claim
        key = (
            "[[criteria]]: a guarantee for each" if self.criteria else f"[groups] {asked[0]}" if asked else ""
        )
        if asked and claim != "population":
            raise ValueError(f'{key} has no test for claim = "{claim}"; set claim = "population"')
        if self.groups.by is not None and self.guarantee.path == "tierwise":
            raise ValueError(f'{key} has no test for path = "tierwise"; set path = "hedged"')
        procedure = self.guarantee.procedure
        if self.groups.by is not None and procedure != "fallback":
            raise ValueError(f'{key} has no test for procedure = "{procedure}"; set "fallback"')
        bets = {
            'reference = "annotator"': self.guarantee.reference == "annotator",
            'ties = "half"': self.task.ties == "half",
            'cluster_test = "betting"': self.guarantee.cluster_test == "betting",
        }
        bet = next((key for key, is_set in bets.items() if is_set), None)
        if asked and bet:
            raise ValueError(f"{key} counts errors, and has no test for {bet}; remove one")
        return self

    @model_validator(mode="after")
    def _check_leaderboard(self) -> Self:
        models, kind = self.leaderboard.models, self.task.kind
        wanted = 2 if kind is TaskKind.PAIRWISE else 1
        if models and kind is TaskKind.CHOICE:
            raise ValueError('[leaderboard]: labels of kind = "choice" have no order to rank models by')
        if models and len(models) != wanted:
            example = '["meta.model_a", "meta.model_b"]' if wanted == 2 else '"meta.model"'
            raise ValueError(f'[leaderboard]: kind = "{kind}" needs models = {example}')
        if self.leaderboard.method == "bradley_terry" and wanted == 1:
            raise ValueError('[leaderboard]: method = "bradley_terry" is for kind = "pairwise"')
        return self

    def criterion_tasks(self) -> dict[str, Task]:
        """The question and the labels of each criterion, by name, in order."""
        return {each.name: each.task(self.task) for each in self.criteria}

    @model_validator(mode="after")
    def _check_gate(self) -> Self:
        gate, task = self.gate, self.task
        if (gate.baseline is not None or gate.match is not None) and not self.compares:
            raise ValueError("[gate]: a baseline needs max_drop or min_gain: what it is compared for")
        keys = [key for key in ("min_rate", "max_drop", "min_gain") if getattr(gate, key) is not None]
        if keys and task.kind is TaskKind.CHOICE:
            raise ValueError(f'[gate]: labels of kind = "choice" have no mean for {keys[0]}')
        low, high = task.scale if task.kind is TaskKind.RATING and not self.criteria else (0, 1)
        if gate.min_rate is not None and not low <= gate.min_rate <= high:
            raise ValueError(f"[gate]: min_rate must lie between {low} and {high}, like the labels")
        for key in keys[gate.min_rate is not None :]:
            if getattr(gate, key) > high - low:
                raise ValueError(f"[gate]: {key} must be at most {high - low}, the length of the scale")
        return self

    @property
    def compares(self) -> bool:
        """Whether [gate] or one of [[criteria]] requires a comparison with a baseline."""
        tables: list[GateTable | CriterionTable] = [self.gate, *self.criteria]
        return any((each.max_drop, each.min_gain) != (None, None) for each in tables)

    @property
    def asks_dev(self) -> bool:
        """Whether judges vote on dev rows: the path is fitted on them."""
        return self.guarantee.path in FITTED_PATHS

    @property
    def fitted_on(self) -> set[str]:
        """The sources of classical judges: "labels", "last_judge", or both."""
        return {judge.fit_on for judge in self.judges if isinstance(judge, ClassicalJudge)}

    def rubric(self) -> str:
        """The rubric of [task], from its file if it names one. Raises ConfigError if that cannot be read."""
        if self.task.rubric_file is None:
            return self.task.rubric or ""
        path = self.path(self.task.rubric_file)
        try:
            text = read_text(path).strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read: {error}", "fix [task] rubric_file") from None
        if not text:
            raise ConfigError(f"{path}: the rubric is empty", "write one, or remove [task] rubric_file")
        return text

    @property
    def needs_exemplars(self) -> bool:
        """Whether any judge uses few-shot examples."""
        return self.ensemble.shots > 0 and any(isinstance(table, ModelTable) for table in self.judges)

    @property
    def in_flight(self) -> int:
        """The number of items, or rows by criterion, judged concurrently."""
        # More than the concurrency: while some wait for a cached prefix, others use their slots.
        each = max(16, 4 * sum(map(_slots, self.judges)))
        return each * max(1, len(self.criteria))

    def path(self, relative: str) -> Path:
        """A path of the file, relative to the working directory."""
        return self.folder / relative


def _slots(judge: JudgeTable) -> int:
    """The most requests of a judge that are open at once."""
    slots: int = getattr(judge, "slots", getattr(judge, "concurrency", 0))
    return slots


def _states_confidence(judge: JudgeTable) -> bool:
    return judge.backend == "replay" or getattr(judge, "mode", None) == "stated"


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration and apply `overrides`, each "key.path=value".

    A value is a TOML value or a bare string; a table of a list is named by its `name` or counted from 1.
    Raises ConfigError that names every wrong key at once.
    """
    try:
        data = tomllib.loads(read_text(path))
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
    return parse_config(data, path, [apply_override(data, override) for override in overrides])


def parse_config(data: dict[str, Any], path: Path, overridden: Sequence[str] = ()) -> Config:
    """Validate a configuration read from `path`, without conversions: "5" is no number.

    An error names the file and the `overridden` keys.
    """
    lines = ["unknown key folder"] if "folder" in data else []
    try:
        values = json.dumps({**with_groups(data), "folder": str(path.parent)}, default=str)
        config = Config.model_validate_json(values, strict=True)
    except ValidationError as error:
        lines += [_sentence(problem) for problem in error.errors(include_url=False)]
    if lines:
        source = " ".join([str(path), *(f"with --set {key}" for key in overridden)])
        raise ConfigError("\n  ".join([f"{source}:", *lines])) from None
    return config


def verdict_keys(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a recorded configuration that can change verdicts: all but `NO_VERDICT` fields.

    >>> verdict_keys({"gate": {}, "data": {"items": "i", "strata": "meta.s"}, "judges": []})
    {'data': {'items': 'i'}, 'judges': []}
    """
    kept = _without(recorded, Config)
    kept["data"] = _without(recorded.get("data", {}), DataTable)
    if recorded.get("criteria"):
        kept["criteria"] = [_without(each, CriterionTable) for each in recorded["criteria"]]
    else:
        kept.pop("criteria", None)
    if "guarantee" in kept:
        kept["guarantee"] = _without(kept["guarantee"], GuaranteeTable)
    kept["judges"] = [
        _without(_at_address(judge), JUDGE_TABLES.get(judge["backend"], PluginJudge))
        for judge in recorded["judges"]
    ]
    return kept


def _at_address(judge: Mapping[str, Any]) -> Mapping[str, Any]:
    """A judge's table with the address that its model is certified at."""
    kept = {key: value for key, value in judge.items() if key != "same_model_as"}
    return kept if judge.get("same_model_as") is None else {**kept, "base_url": judge["same_model_as"]}


def _without(recorded: Mapping[str, Any], table: type[BaseModel]) -> dict[str, Any]:
    skipped = verdict_free_keys(table)
    return {key: value for key, value in recorded.items() if key not in skipped}


def json_schema() -> dict[str, Any]:
    """The JSON schema of the file, for editors."""
    schema = Config.model_json_schema()
    schema["properties"].pop("folder")
    return schema


def _sentence(problem: Any) -> str:
    loc = [part for place, part in enumerate(problem["loc"]) if not _is_tag(place, problem["loc"])]
    where = ".".join(str(part + 1) if isinstance(part, int) else str(part) for part in loc)
    if problem["type"] == "extra_forbidden":
        if moved := moved_key(tuple(loc)):
            return f"{where} {moved}"
        near = get_close_matches(str(loc[-1]), _keys_near(problem["loc"]), 1)
        return f"unknown key {where}" + (f": did you mean {near[0]!r}?" if near else "")
    if problem["type"] == "missing":
        return f"{where} is missing"
    value = problem.get("input")
    if moved := moved_value(tuple(loc), value) or mixed_up(tuple(loc), value):
        return f"{where}: {moved}"
    if problem["loc"] == ("judges",) and problem["type"] == "tuple_type":
        return "judges: must be written [[judges]], with two brackets, once for each judge"
    message = problem["msg"].removeprefix("Value error, ")
    message = re.sub(r"^\w+ should (be|have|match) ", r"must \1 ", message).replace("valid tuple", "list")
    return f"{where}: {message}" if where else message


def _is_tag(place: int, loc: tuple[Any, ...]) -> bool:
    """Whether this part of a location is pydantic's tag of a judge, and no key of the file."""
    return place == 2 and loc[0] == "judges"


def _keys_near(loc: tuple[Any, ...]) -> list[str]:
    """The known keys of the table with an unknown one."""
    model: type[BaseModel] = Config
    for place, part in enumerate(loc[:-1]):
        if _is_tag(place, loc):
            model = JUDGE_TABLES[part]
        elif str(part) in model.model_fields:
            inner = model.model_fields[str(part)].annotation
            model = inner if isinstance(inner, type) else model
    return [name for name in model.model_fields if name != "folder"]
