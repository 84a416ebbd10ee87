"""trustescalate.toml as one frozen `Config`. Values are data: nothing in them is a template or code."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from trustescalate.errors import ConfigError
from trustescalate.types import SKIP, TIE, Task, TaskKind

MOST_LABELS = 26
MOST_PROMPTS = 1000
"""Of annotators, of shots and of samples: beyond it lies a slip of the finger, and no memory is enough."""

SECRET_KEYS = re.compile(
    r"api.?key|authori[sz]ation|bearer|credential|passw|secret|^(access|auth|hf)?_?token$", re.I
)


def _no_secrets(fields: dict[str, Any]) -> dict[str, Any]:
    secret = next(_secret_names(fields), None)
    if secret is not None:
        raise ValueError(f"{secret} looks like a secret, and this file holds none; name a key by api_key_env")
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


class _Table(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TaskTable(_Table):
    """[task]: what is asked of a judge."""

    kind: TaskKind = Field(TaskKind.PAIRWISE, description="pairwise | binary | rating | choice")
    question: str = Field("Which response would a human reader prefer?", min_length=1)
    labels: tuple[str, ...] | None = Field(
        None, description="what a judge may answer; for choice required, for the other kinds known"
    )
    scale: tuple[int, int] = Field((1, 5), description="rating: the lowest and the highest grade")
    ties: Literal["class", "drop"] = Field("class", description="pairwise: a tie is a verdict, or left out")

    @model_validator(mode="after")
    def _labels_fit(self) -> Self:
        if self.kind is TaskKind.CHOICE and self.labels is None:
            raise ValueError('kind = "choice" needs labels = ["…", "…"]')
        if self.kind in (TaskKind.PAIRWISE, TaskKind.RATING) and self.labels is not None:
            raise ValueError(f'kind = "{self.kind}" has labels of its own; remove labels')
        if self.kind is TaskKind.BINARY and self.labels is not None and len(self.labels) != 2:
            raise ValueError('kind = "binary" has two labels; for more of them set kind = "choice"')
        if self.kind is not TaskKind.RATING and "scale" in self.model_fields_set:
            raise ValueError('scale is for kind = "rating"')
        if self.kind is not TaskKind.PAIRWISE and self.ties != "class":
            raise ValueError('ties = "drop" is for kind = "pairwise"')
        return self

    @field_validator("labels")
    @classmethod
    def _labels_differ(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if labels is None:
            return None
        if not 2 <= len(labels) <= MOST_LABELS or len(set(labels)) != len(labels):
            raise ValueError(f"must be 2 to {MOST_LABELS} different labels")
        if not all(map(str.strip, labels)) or SKIP in labels:
            raise ValueError(f'a label must not be empty, nor "{SKIP}", which is how annotators pass')
        return labels

    @field_validator("scale")
    @classmethod
    def _scale_rises(cls, scale: tuple[int, int]) -> tuple[int, int]:
        if not 0 <= scale[0] < scale[1] < scale[0] + MOST_LABELS:
            raise ValueError(f"must be [lowest, highest], from 0 on, with at most {MOST_LABELS} grades")
        return scale

    def task(self) -> Task:
        """The record that judges and statistics work with."""
        if self.kind is TaskKind.PAIRWISE:
            labels: tuple[str, ...] = ("A", "B") if self.ties == "drop" else ("A", "B", TIE)
        elif self.kind is TaskKind.RATING:
            labels = tuple(str(grade) for grade in range(self.scale[0], self.scale[1] + 1))
        else:
            labels = self.labels or ("pass", "fail")
        return Task(self.kind, self.question, labels, self.ties)


class DataTable(_Table):
    """[data]: files, relative to the configuration."""

    items: str = "items.jsonl"
    annotations: str = "annotations.jsonl"
    group: str | None = Field(
        None, description='what hangs together: "group", "prompt" or "meta.<key>"; default: the field group'
    )

    @field_validator("group")
    @classmethod
    def _group_known(cls, group: str | None) -> str | None:
        if group is None or group in ("group", "prompt") or re.match(r"meta\..", group):
            return group
        raise ValueError('must be "group", "prompt" or "meta.<key>"')


PathName = Literal["hedged", "common", "calibrated", "pareto", "stacked", "tierwise"]
FITTED_PATHS = {"calibrated", "pareto", "stacked"}
"""Paths that are laid out on dev rows."""
NOT_FOR_BATCHES = {"stacked", "tierwise"}
"""Paths whose later tiers read what earlier ones said of every item, or that bring a test of their own."""


class GuaranteeTable(_Table):
    """[guarantee]: the promise to be tested."""

    alpha: Level = Field(0.15, description="released verdicts that may disagree with people, at most")
    delta: Level = Field(0.10, description="probability that the certificate is wrong, at most")
    claim: Literal["population", "batch"] = Field(
        "population", description="about items like these, or about the very items of [data]"
    )
    label: int | None = Field(
        None, ge=1, description='claim = "batch": how many items are drawn for people to label'
    )
    path: PathName = Field("hedged", description=f"cascades to test: {' | '.join(get_args(PathName))}")
    procedure: Literal["fallback", "fixed_sequence", "bonferroni"] = "fallback"
    prefer: Literal["coverage", "cost", "total"] = Field(
        "cost", description="which of the certified cascades to use; an abstained item has paid every judge"
    )
    abstention_price: float | None = Field(
        None, gt=0, description='USD that a person costs per item, for prefer = "total"'
    )
    pilot: int = Field(50, ge=0, description="unlabelled items judged by all tiers to lay out the path")

    @model_validator(mode="after")
    def _tierwise_is_a_procedure_of_its_own(self) -> Self:
        if self.path == "tierwise" and {"procedure", "prefer"} & self.model_fields_set:
            raise ValueError('path = "tierwise" brings its own procedure and choice; remove both keys')
        return self

    @model_validator(mode="after")
    def _a_batch_is_drawn_from(self) -> Self:
        if (self.claim == "batch") != (self.label is not None):
            raise ValueError('claim = "batch" and label go together: label = 200 draws 200 items to label')
        if self.claim == "batch" and self.path in NOT_FOR_BATCHES:
            raise ValueError(f'path = "{self.path}" has no test for claim = "batch"; set path = "common"')
        return self

    @model_validator(mode="after")
    def _total_has_a_price(self) -> Self:
        if (self.prefer == "total") != (self.abstention_price is not None):
            raise ValueError('prefer = "total" and abstention_price go together')
        return self


class RolesTable(_Table):
    """[roles]: how labelled rows are divided; each group is in exactly one role."""

    seed: int = 0
    exemplars: int | None = Field(None, ge=0, description="rows for the few-shot prompts; default: as needed")
    dev: Share = 0.0
    holdout: Share = 0.0

    @model_validator(mode="after")
    def _room_to_certify(self) -> Self:
        if self.dev + self.holdout >= 1:
            raise ValueError("dev + holdout must leave rows to certify with")
        return self


class EnsembleTable(_Table):
    """[ensemble]: how each judge is asked."""

    annotators: int = Field(5, ge=1, le=MOST_PROMPTS, description="N few-shot prompts")
    shots: int = Field(5, ge=0, le=MOST_PROMPTS, description="K examples in each; 0 is zero-shot")
    swap: bool = Field(True, description="pairwise: ask in both orders")
    estimator: Literal["ensemble", "predictive"] = "ensemble"
    samples: int = Field(
        3, ge=1, le=MOST_PROMPTS, description="draws a vote where an endpoint has no log-probabilities"
    )

    @model_validator(mode="after")
    def _asks_what_it_reads(self) -> Self:
        if self.shots == 0 and self.annotators > 1 and "annotators" in self.model_fields_set:
            raise ValueError("shots = 0 makes all prompts the same; set annotators = 1")
        if self.estimator == "predictive" and "annotators" in self.model_fields_set and self.annotators > 1:
            raise ValueError('estimator = "predictive" reads one prompt; set annotators = 1')
        return self

    @property
    def members(self) -> int:
        """How many different prompts are asked."""
        return 1 if self.shots == 0 or self.estimator == "predictive" else self.annotators


class Price(_Table):
    """USD per million tokens, and per call. Cached input defaults to the price of input."""

    input: float = Field(0.0, ge=0)
    output: float = Field(0.0, ge=0)
    cached_input: float | None = Field(None, ge=0)
    request: float = Field(0.0, ge=0)


BUILT_IN = ("openai", "local", "replay", "simulated")


class _Judge(_Table):
    name: str = Field(min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f]+$")
    price: Price = Price()


class _ModelJudge(_Judge):
    channel: Literal["auto", "logprobs", "samples"] = Field(
        "auto", description="where probabilities come from; auto: log-probabilities if the model has them"
    )


class OpenAIJudge(_ModelJudge):
    """A model behind any OpenAI-compatible endpoint."""

    backend: Literal["openai"]
    model: str
    base_url: str | None = None
    api_key_env: str | None = Field(None, description="the NAME of the variable that holds the key")
    concurrency: int = Field(16, ge=1)
    timeout: float = Field(60.0, gt=0, description="seconds an attempt may take")
    attempts: int = Field(6, ge=1)
    give_up_after: float = Field(300.0, gt=0, description="seconds one question may take in all")
    extra: Open = Field(default_factory=dict, description="more fields for the request body")

    @field_validator("api_key_env")
    @classmethod
    def _a_name_and_no_key(cls, name: str | None) -> str | None:
        if name is None or re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", name):
            return name
        raise ValueError("must be the NAME of an environment variable in capitals, never a key")

    @field_validator("base_url")
    @classmethod
    def _an_address_and_no_key(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if "@" in url or "?" in url or "#" in url:
            raise ValueError("must hold no user, password or query; name a key by api_key_env")
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
            raise ValueError("must start with http:// or https:// and a host")
        return url


class LocalJudge(_ModelJudge):
    """A Hugging Face model on this machine."""

    backend: Literal["local"]
    model: str
    dtype: str = "auto"
    device: str = "auto"
    attn_implementation: str | None = None


class ReplayJudge(_Judge):
    """Votes recorded earlier. `of` names the judge whose rows to take, if not this one's name."""

    backend: Literal["replay"]
    votes: str
    of: str | None = None


class SimulatedJudge(_ModelJudge):
    """A judge of the simulated world."""

    backend: Literal["simulated"]
    model: Literal["XS", "S", "M"]
    seed: int = 0


class PluginJudge(_ModelJudge):
    """A backend from another package (entry point group `trustescalate.backends`)."""

    backend: str
    options: Open = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _keys_are_options(cls, value: Any) -> Any:
        keys = [key for key in value if key not in cls.model_fields] if isinstance(value, dict) else []
        if keys and isinstance(value.get("backend"), str):
            near = get_close_matches(value["backend"], BUILT_IN, 1)
            raise ValueError(
                f"backend {value['backend']!r} is not built in"
                + (f": did you mean {near[0]!r}?" if near else f" ({', '.join(BUILT_IN)} are)")
                + f" (A plugin takes {', '.join(map(repr, keys))} in options.)"
            )
        return value


def _backend_of(value: Any) -> str:
    backend = value.get("backend") if isinstance(value, dict) else getattr(value, "backend", None)
    return backend if backend in BUILT_IN else "plugin"


ModelTable = OpenAIJudge | LocalJudge | SimulatedJudge | PluginJudge
JudgeTable = Annotated[
    Annotated[OpenAIJudge, Tag("openai")]
    | Annotated[LocalJudge, Tag("local")]
    | Annotated[ReplayJudge, Tag("replay")]
    | Annotated[SimulatedJudge, Tag("simulated")]
    | Annotated[PluginJudge, Tag("plugin")],
    Discriminator(_backend_of),
]


class BudgetTable(_Table):
    """[budget]: what one invocation may spend. A run that stops here can be resumed."""

    usd: float | None = Field(None, gt=0)
    calls: int | None = Field(None, gt=0)


class GateTable(_Table):
    """[gate]: what CI asks for."""

    min_agreement: Share | None = None
    min_coverage: Share | None = None
    max_failures: Share = Field(0.05, description="failed votes, as a share of all, above which: undecided")


class Config(_Table):
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
