"""trustescalate.toml as one frozen `Config`. Values are data: nothing in them is a template or code."""

import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from trustescalate.errors import ConfigError
from trustescalate.types import TIE, Task, TaskKind

Share = Annotated[float, Field(ge=0, le=1)]
Level = Annotated[float, Field(gt=0, lt=1)]


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
        labels = self.task().labels
        if len(set(labels)) != len(labels) or not 2 <= len(labels) <= 26 or not all(map(str.strip, labels)):
            raise ValueError(f"a task has 2 to 26 different labels, not {list(labels)}")
        if self.kind is not TaskKind.PAIRWISE and self.ties != "class":
            raise ValueError('ties = "drop" is for kind = "pairwise"')
        return self

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

    @model_validator(mode="after")
    def _group_known(self) -> Self:
        if self.group is None or self.group in ("group", "prompt") or self.group.startswith("meta."):
            return self
        raise ValueError(f'group = "{self.group}" must be "group", "prompt" or "meta.<key>"')


class GuaranteeTable(_Table):
    """[guarantee]: the promise to be tested."""

    alpha: Level = Field(0.15, description="released verdicts that may disagree with people, at most")
    delta: Level = Field(0.10, description="probability that the certificate is wrong, at most")
    claim: Literal["population"] = "population"
    path: Literal["common", "tierwise"] = "common"
    procedure: Literal["fallback", "fixed_sequence", "bonferroni"] = "fallback"
    prefer: Literal["coverage", "cost"] = "coverage"
    pilot: int = Field(50, ge=0, description="unlabelled items judged by all tiers to lay out the path")

    @model_validator(mode="after")
    def _tierwise_is_a_procedure_of_its_own(self) -> Self:
        if self.path == "tierwise" and {"procedure", "prefer"} & self.model_fields_set:
            raise ValueError('path = "tierwise" brings its own procedure and choice; remove both keys')
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

    annotators: int = Field(5, ge=1, description="N few-shot prompts")
    shots: int = Field(5, ge=0, description="K examples in each; 0 is zero-shot")
    swap: bool = Field(True, description="pairwise: ask in both orders")
    estimator: Literal["ensemble", "predictive"] = "ensemble"
    samples: int = Field(3, ge=1, description="draws a vote where an endpoint has no log-probabilities")

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
    extra: dict[str, Any] = Field(default_factory=dict, description="more fields for the request body")

    @model_validator(mode="after")
    def _no_key_inside(self) -> Self:
        name = self.api_key_env
        if name is not None and not (name.isidentifier() and len(name) < 64 and not name.startswith("sk_")):
            raise ValueError("api_key_env is the name of an environment variable, never a key")
        if self.base_url is not None and ("@" in self.base_url or "?" in self.base_url):
            raise ValueError("base_url holds no user, password or query; name a key by api_key_env")
        return self


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
    options: dict[str, Any] = Field(default_factory=dict)


def _backend_of(value: Any) -> str:
    backend = value.get("backend") if isinstance(value, dict) else getattr(value, "backend", None)
    return backend if backend in ("openai", "local", "replay", "simulated") else "plugin"


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
    judges: tuple[JudgeTable, ...] = Field(min_length=1)
    budget: BudgetTable = BudgetTable()
    gate: GateTable = GateTable()
    folder: Path = Field(Path(), exclude=True, repr=False)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [judge.name for judge in self.judges]
        if len(set(names)) != len(names):
            raise ValueError(f"judges need different names, not {names}")
        return self

    def path(self, relative: str) -> Path:
        """A path from the file, seen from where the process runs."""
        return self.folder / relative


def load_config(path: Path) -> Config:
    """Read a configuration. Raises ConfigError that names every wrong key at once."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        hint = "`trustescalate init` writes one; --config names another"
        raise ConfigError(f"{path}: there is no such file", hint) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    data.pop("folder", None)
    return parse_config(data, path)


def parse_config(data: dict[str, Any], path: Path) -> Config:
    """Check the values of a configuration read from `path`."""
    try:
        return Config.model_validate({**data, "folder": path.parent})
    except ValidationError as error:
        lines = [_sentence(problem) for problem in error.errors()]
        raise ConfigError("\n  ".join([f"{path}:", *lines])) from None


def json_schema() -> dict[str, Any]:
    """The JSON schema of the file, for editors."""
    schema = Config.model_json_schema()
    schema["properties"].pop("folder")
    return schema


def _sentence(problem: Any) -> str:
    loc = [
        part for part in problem["loc"] if part not in ("openai", "local", "replay", "simulated", "plugin")
    ]
    where = ".".join(str(part + 1) if isinstance(part, int) else str(part) for part in loc)
    if problem["type"] == "extra_forbidden":
        near = get_close_matches(str(loc[-1]), _keys_near(loc[:-1], problem["loc"]), 1)
        return f"unknown key {where}" + (f": did you mean {near[0]!r}?" if near else "")
    if problem["type"] == "missing":
        return f"{where} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _keys_near(parents: list[Any], loc: tuple[Any, ...]) -> list[str]:
    models: dict[str, type[BaseModel]] = {
        "openai": OpenAIJudge, "local": LocalJudge, "replay": ReplayJudge,
        "simulated": SimulatedJudge, "plugin": PluginJudge, "price": Price,
    }  # fmt: skip
    model: type[BaseModel] = Config
    for part in parents:
        field = model.model_fields.get(str(part))
        if field is not None and isinstance(field.annotation, type):
            model = field.annotation
    for part in loc[:-1]:
        model = models.get(str(part), model)
    return [name for name in model.model_fields if name != "folder"]
