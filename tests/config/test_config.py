"""trustescalate.toml: what is wrong is said at once, in words, and nothing secret gets in."""

import json
from pathlib import Path
from typing import Any

import pytest

from trustescalate.config import Config, json_schema, load_config, verdict_free_keys, verdict_keys
from trustescalate.config.judges import JUDGE_TABLES
from trustescalate.config.moved import REMOVED, REMOVED_VALUES, RENAMED, RENAMED_VALUES
from trustescalate.config.starter import STARTER, TEMPLATES, write_starter
from trustescalate.config.tables import DataTable
from trustescalate.errors import ConfigError, UsageError
from trustescalate.records import Task, TaskKind

JUDGE = '\n[[judges]]\nname = "a"\nbackend = "openai"\nmodel = "m"\n'
BATCH = '[guarantee]\nclaim = "batch"\nlabel_budget = 100\n'
BET = '[guarantee]\ncluster_test = "betting"\nlargest_cluster = 9\n'
MODEL = '[[judges]]\nname = "m"\nbackend = "openai"\nmodel = "m"\n'
SCHEMA = Path(__file__).parents[2] / "trustescalate" / "config.schema.json"


def load(folder: Path, text: str | bytes, judge: str = JUDGE) -> Config:
    path = folder / "trustescalate.toml"
    path.write_bytes(text if isinstance(text, bytes) else f"version = 1\n{text}{judge}".encode())
    return load_config(path)


def refused(folder: Path, text: str | bytes, judge: str = JUDGE) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, judge)
    head, *lines = caught.value.message.split("\n  ")
    assert head.startswith(f"{folder / 'trustescalate.toml'}:")
    return lines or [head.partition(": ")[2]]


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_is_accepted(name: str, tmp_path: Path) -> None:
    config = load_config(write_starter(tmp_path, name))
    assert len(config.judges) == 2
    assert config.task.task().responses == (2 if name == "pairwise" else 1)
    with pytest.raises(UsageError, match="there is no template 'other'"):
        write_starter(tmp_path / "new", "other")


@pytest.mark.parametrize("name", ["faithfulness", "task-success"])
def test_the_example_of_a_template_asks_its_question(name: str, tmp_path: Path) -> None:
    shipped = load_config(Path(__file__).parents[2] / "examples" / name / "trustescalate.toml")
    config = load_config(write_starter(tmp_path, name))
    assert (shipped.task, shipped.rubric()) == (config.task, config.rubric())


def test_the_starter_and_the_smallest_file_are_accepted(tmp_path: Path) -> None:
    assert len(load(tmp_path, STARTER.encode()).judges) == 2
    config = load(tmp_path, "")
    assert config.folder == tmp_path
    assert config.path("items.jsonl") == tmp_path / "items.jsonl"
    assert config.task.task().labels == ("A", "B", "tie")
    assert "folder" not in config.model_dump(mode="json")


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    text = """
jugdes = 3
[task]
kindd = "rating"
[guarantee]
alpha = 2
delta = nan
pilot = -1
[data]
cluster = "topic"
[roles]
dev = 0.6
holdout = 0.4
"""
    judges = """
[[judges]]
name = "a"
backend = "openai"
modell = "m"
api_key_env = "sk-live-123"
base_url = "https://user:pass@host/v1"
price = { inptu = 1, output = "x" }
[[judges]]
name = "b"
backend = "opanai"
model = "m"
[[judges]]
backend = "replay"
vote = "v.jsonl"
"""
    assert sorted(refused(tmp_path, text, judges)) == sorted(
        [
            "unknown key jugdes: did you mean 'judges'?",
            "unknown key task.kindd: did you mean 'kind'?",
            "guarantee.alpha: must be less than 1",
            "guarantee.delta: must be a finite number",
            "guarantee.pilot: must be greater than or equal to 0",
            'data.cluster: must be "group", "prompt", "item" or "meta.<key>"',
            "roles: dev + holdout must leave rows to certify with",
            "judges.1.model is missing",
            "unknown key judges.1.modell: did you mean 'model'?",
            "judges.1.api_key_env: must be the NAME of an environment variable in capitals, never a key",
            "judges.1.base_url: must hold no user, password or query; name a key by api_key_env",
            "unknown key judges.1.price.inptu: did you mean 'input'?",
            "judges.1.price.output: must be a valid number",
            "judges.2: backend 'opanai' is not built in: did you mean 'openai'? "
            "(A plugin takes 'model' in options.)",
            "judges.3.name is missing",
            "judges.3.votes is missing",
            "unknown key judges.3.vote: did you mean 'votes'?",
        ]
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[local]\nx = 1", "unknown key local"),
        ('folder = "elsewhere"', "unknown key folder"),
        ('[guarantee]\nalpha = "0.1"', "guarantee.alpha: must be a valid number"),
        ("[guarantee]\nalpha = 0", "guarantee.alpha: must be greater than 0"),
        ('[guarantee]\nclaim = "sample"', "guarantee.claim: must be 'population', 'batch' or 'expected'"),
        ('[guarantee]\nclaim = "batch"', "label_budget = 200 draws 200 items to label"),
        ("[guarantee]\nlabel_budget = 100", 'claim = "batch" and label_budget go together'),
        (
            '[guarantee]\nclaim = "batch"\nlabel_budget = 0',
            "guarantee.label_budget: must be greater than or equal to 1",
        ),
        (f'{BATCH}path = "tierwise"', 'path = "tierwise" has no test for claim = "batch"'),
        (f'{BATCH}path = "stacked"', 'path = "stacked" has no test for claim = "batch"'),
        (f'{BATCH}[task]\nties = "drop"', 'set ties = "class"'),
        (f"{BATCH}[roles]\nholdout = 0.2", "remove [roles] holdout"),
        ("[guarantee]\nrelease_human_labels = true", 'release_human_labels is for claim = "batch"'),
        (f'{BATCH}reference = "annotator"', 'set reference = "majority"'),
        (f'{BATCH}cluster_test = "betting"\nlargest_cluster = 3', "remove cluster_test"),
        (f"{BATCH}interim = [100, 200]", "remove interim"),
        (f'{BATCH}weight = "meta.w"\nweight_bound = 2\nweight_source = "known"', "remove weight"),
        (f'{BATCH}[task]\nskips = "outside"', 'claim = "batch" is about every item'),
        (f'{BATCH}[task]\nties = "half"', 'ties = "half" is tested by betting on rows'),
        (
            '[guarantee]\ncluster_test = "betting"',
            'largest_cluster goes with cluster_test = "row_weighted" or "betting"',
        ),
        ('[guarantee]\ncluster_test = "row_weighted"', "largest_cluster goes with"),
        ("[guarantee]\nlargest_cluster = 3", "largest_cluster goes with"),
        (f'{BATCH}cluster_test = "row_weighted"\nlargest_cluster = 3', "remove cluster_test"),
        (f'{BET}reference = "annotator"', 'cluster_test = "betting" counts errors'),
        (f"{BET}interim = [100, 200]", "interim analyses count rows"),
        (f'{BET}path = "tierwise"', 'path = "tierwise" counts rows'),
        (f'{BET}[task]\nties = "half"', 'ties = "half" is tested by betting on rows'),
        ('[guarantee]\npath = "tierwise"\nreference = "annotator"', 'path = "tierwise" counts errors'),
        ('[guarantee]\npath = "tierwise"\n[task]\nties = "half"', 'ties = "half" is tested by betting'),
        ("[guarantee]\ninterim = []", "guarantee.interim: must be 1 to 20 numbers of rows, rising"),
        ("[guarantee]\ninterim = [200, 100]", "guarantee.interim: must be 1 to 20 numbers of rows, rising"),
        ("[guarantee]\ninterim_shares = [0.5]", "holds one share of delta for each of interim"),
        ("[guarantee]\ninterim = [9, 20]\ninterim_shares = [1]", "one share of delta for each of interim"),
        ("[guarantee]\ninterim = [9, 20]\ninterim_shares = [0.6, 0.5]", "sum to at most 1"),
        ("[guarantee]\ninterim = [9, 20]\ninterim_shares = [1.1, -0.1]", "interim_shares must be above 0"),
        ('[guarantee]\nweight = "meta.w"', "weight, weight_bound and weight_source go together"),
        ('[guarantee]\nweight = "w"', "guarantee.weight: must match pattern"),
        ("[task]\ntolerance = 1", 'tolerance is for kind = "rating"'),
        ('[task]\nkind = "rating"\ntolerance = 4', "tolerance must be smaller than the scale is long"),
        ('[task]\nkind = "binary"\nties = "half"', 'ties = "half" is for kind = "pairwise"'),
        ('[ensemble]\nswap = "yes"', "ensemble.swap: must be a valid boolean"),
        ("[ensemble]\nannotators = true", "ensemble.annotators: must be a valid integer"),
        ("[ensemble]\nannotators = 1000000000000", "ensemble.annotators: must be less than or equal to 1000"),
        ("[ensemble]\nshots = 0\nannotators = 2", "shots = 0 makes all prompts the same"),
        ("[ensemble]\nannotators = 100\nsamples = 100", "are over 10,000 votes on an item"),
        ('[ensemble]\nestimator = "predictive"', 'set estimator = "ensemble", with annotators = 1'),
        ('[ensemble]\nestimator = "learned"', 'fit_on = "last_judge"'),
        ('[ensemble]\nestimator = "boosted"', 'fit_on = "last_judge"'),
        ('[ensemble]\nestimator = "interval"', 'set estimator = "ensemble"'),
        ('[ensemble]\nrecalibrate = "platt"', "ensemble.recalibrate is gone: remove it"),
        ('[ensemble]\nlearn_from = "last"', 'fit_on = "last_judge"'),
        ('[guarantee]\npath = "calibrated"', 'set path = "hedged"'),
        ('[task]\nkind = "pair"', "task.kind: must be 'pairwise', 'binary', 'rating' or 'choice'"),
        ('[task]\nkind = "choice"', "needs labels"),
        ('[task]\nlabels = ["A", "B"]', "remove labels"),
        ('[task]\nkind = "choice"\nlabels = ["x"]', "task.labels: must be 2 to 26 different labels"),
        ('[task]\nkind = "choice"\nlabels = ["x", "x"]', "task.labels: must be 2 to 26 different labels"),
        ('[task]\nkind = "choice"\nlabels = ["x", " "]', "must not be empty"),
        ('[task]\nkind = "choice"\nlabels = ["x", "skip"]', "which is how annotators pass"),
        ('[task]\nkind = "choice"\nlabels = [1, "x"]', "task.labels.1: must be a valid string"),
        ('[task]\nkind = "choice"\nlabels = "xy"', "task.labels: must be a"),
        ('[task]\nkind = "binary"\nlabels = ["x", "y", "z"]', 'set kind = "choice"'),
        ('[task]\nkind = "binary"\nties = "drop"', 'ties = "drop" is for kind = "pairwise"'),
        ("[task]\nscale = [1, 3]", 'scale is for kind = "rating"'),
        ('[task]\nkind = "rating"\nscale = [5, 1]', "task.scale: must be [lowest, highest]"),
        ('[task]\nkind = "rating"\nscale = [-1, 1]', "task.scale: must be [lowest, highest], from 0 on"),
        ('[task]\nkind = "rating"\nscale = [0, 1000000000]', "task.scale: must be"),
        ('[guarantee]\npath = "tierwise"\nprocedure = "fallback"', "remove both keys"),
        ('[guarantee]\npath = "tierwise"\nprefer = "cost"', "remove both keys"),
        ('[data]\ncluster = "meta."', 'data.cluster: must be "group", "prompt", "item" or "meta.<key>"'),
        ("[data]\nitems = 3", "data.items: must be a valid string"),
        ('[task]\nrubric = "x"\nrubric_file = "y"', "rubric and rubric_file say the same thing"),
        ('[task]\ncriteria = ["x", " "]', "task.criteria: a criterion must not be empty"),
        ('[prompts]\nfolders = "x"', "unknown key prompts.folders"),
        (f'{MODEL}mode = "reasons"', "judges.1.mode: must be 'direct', 'reason', 'structured' or 'stated'"),
        (f'{MODEL}mode = "stated"\nchannel = "samples"', 'mode = "stated" is a channel of its own'),
        (f"{MODEL}max_tokens = 0", "judges.1.max_tokens: must be greater than or equal to 1"),
        ('[[judges]]\nname = "l"\nbackend = "local"\nmodel = "m"\nmode = "reason"', "judges.1.mode: must be"),
        ("[budget]\nusd = inf", "budget.usd: must be a finite number"),
        ("[gate]\nmin_agreement = 85", "gate.min_agreement: must be less than or equal to 1"),
    ],
)
def test_a_mistake_is_said_in_words(tmp_path: Path, text: str, said: str) -> None:
    lines = refused(tmp_path, text)
    assert len(lines) == 1
    assert said in lines[0]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"version = 1\nversion = 1\n", "not valid TOML: Cannot overwrite a value (at line 2"),
        (b"version = ", "not valid TOML"),
        (b"x = " + b"9" * 5000, "not valid TOML"),
        (b"x = " + b"[" * 5000, "nested too deeply"),
        (b"# \xff", "not UTF-8 at byte 3"),
        (b"", "version is missing"),
        (b"version = 2" + JUDGE.encode(), "version: must be 1"),
        (b'version = "1"' + JUDGE.encode(), "version: must be 1"),
        (b"version = 1\njudges = []", "judges: there must be at least one [[judges]]"),
        (b'version = 1\n[judges]\nname = "a"', "must be written [[judges]], with two brackets"),
        (b"version = 1" + JUDGE.encode() * 2, "judges: names must differ: a, a"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, data: bytes, said: str) -> None:
    assert said in refused(tmp_path, data)[0]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file") as caught:
        load_config(tmp_path / "none.toml")
    assert "init" in caught.value.hint
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)


def test_unicode_windows_newlines_and_a_byte_order_mark_are_fine(tmp_path: Path) -> None:
    text = f'version = 1\n[task]\nquestion = "Welche Antwort ist schöner? 🤔"\n{JUDGE}'.replace("\n", "\r\n")
    config = load(tmp_path, text.encode("utf-8-sig"))
    assert config.task.question == "Welche Antwort ist schöner? 🤔"


@pytest.mark.parametrize(
    "line",
    [
        'api_key_env = "SECRETsecret123"',
        'api_key_env = "hf_SECRETsecret"',
        'api_key_env = "sk-SECRET"',
        'api_key_env = "SECRET KEY"',
        'base_url = "https://me:SECRET@host/v1"',
        'base_url = "https://host/v1?key=SECRET"',
        'base_url = "https://host/v1#SECRET"',
        'extra = { api_key = "SECRET" }',
        'extra = { headers = [{ Authorization = "SECRET" }] }',
        'api_key = "SECRET"',
    ],
)
def test_a_secret_is_refused_and_not_repeated(tmp_path: Path, line: str) -> None:
    (said,) = refused(tmp_path, "", JUDGE + line)
    assert "judges.1." in said
    assert "SECRET" not in said


def test_what_is_no_secret_is_accepted(tmp_path: Path) -> None:
    judge = (
        JUDGE + 'api_key_env = "MY_KEY_2"\nbase_url = "http://localhost:8000/v1"\nextra = { max_tokens = 3 }'
    )
    assert load(tmp_path, "", judge).judges[0].model_dump()["extra"] == {"max_tokens": 3}
    for wrong in ('"localhost:8000/v1"', '["http://a/v1", "localhost:8000/v1"]', '"http://[/v1"'):
        assert refused(tmp_path, "", JUDGE + f"base_url = {wrong}") == [
            "judges.1.base_url: must start with http:// or https:// and a host"
        ]
    assert refused(tmp_path, "", JUDGE + "base_url = []") == ["judges.1.base_url: the list holds no address"]
    assert refused(tmp_path, "", JUDGE + "base_url = [1]") == [
        "judges.1.base_url: must be an address, or a list of addresses"
    ]
    twice = 'base_url = ["http://a/v1", "http://b/v1", "http://a/v1/"]'
    assert refused(tmp_path, "", JUDGE + twice) == ["judges.1.base_url: http://a/v1 is named twice"]


def test_a_plugin_keeps_its_options_and_no_secret(tmp_path: Path) -> None:
    judge = '\n[[judges]]\nname = "p"\nbackend = "local-vllm"\noptions = { a = 1 }\n'
    assert load(tmp_path, "", judge).judges[0].backend == "local-vllm"
    judge = '\n[[judges]]\nname = "p"\nbackend = "mine"\noptions = { hf_token = "x" }\n'
    assert "hf_token seems to be a secret" in refused(tmp_path, "", judge)[0]


@pytest.mark.parametrize(
    ("table", "task"),
    [
        ("", Task(TaskKind.PAIRWISE, "?", ("A", "B", "tie"))),
        ('ties = "drop"', Task(TaskKind.PAIRWISE, "?", ("A", "B"), "drop")),
        ('kind = "binary"', Task(TaskKind.BINARY, "?", ("pass", "fail"))),
        ('kind = "binary"\nlabels = ["ja", "nein"]', Task(TaskKind.BINARY, "?", ("ja", "nein"))),
        ('kind = "rating"\nscale = [0, 2]', Task(TaskKind.RATING, "?", ("0", "1", "2"))),
        ('kind = "choice"\nlabels = ["x", "y"]', Task(TaskKind.CHOICE, "?", ("x", "y"))),
    ],
)
def test_the_labels_of_each_kind_of_task(tmp_path: Path, table: str, task: Task) -> None:
    assert load(tmp_path, f'[task]\nquestion = "?"\n{table}').task.task() == task


def test_how_many_prompts_are_asked(tmp_path: Path) -> None:
    assert load(tmp_path, "").ensemble.members == 5
    assert load(tmp_path, "[ensemble]\nshots = 0").ensemble.members == 1


def test_the_schema_in_the_package_is_up_to_date() -> None:
    """`json.dumps(json_schema(), indent=2, sort_keys=True, ensure_ascii=False)` and a newline renew it."""
    wanted = json.dumps(json_schema(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert SCHEMA.read_text(encoding="utf-8") == wanted
    assert set(json_schema()["properties"]) == set(Config.model_fields) - {"folder", "columns"} | {"import"}
    assert set(json_schema()["required"]) == {"version", "judges"}


def test_looks_share_delta_in_proportion_to_their_number(tmp_path: Path) -> None:
    four = load(tmp_path, "[guarantee]\ninterim = [150, 250, 400, 600]").guarantee
    assert four.shares == pytest.approx((0.1, 0.2, 0.3, 0.4))
    two = load(tmp_path, "[guarantee]\ninterim = [9, 20]\ninterim_shares = [0.25, 0.5]").guarantee
    assert two.shares == (0.25, 0.5)
    assert load(tmp_path, "").guarantee.shares == ()


# ── overrides ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("guarantee.alpha=0.2", ("guarantee", "alpha"), 0.2),
        (" roles.seed = 7 ", ("roles", "seed"), 7),
        ("task.question=Which is shorter?", ("task", "question"), "Which is shorter?"),
        ('task.question="1"', ("task", "question"), "1"),
        ("ensemble.swap=false", ("ensemble", "swap"), False),
        ("judges.a.model=gpt-4.1", ("judges", 0, "model"), "gpt-4.1"),
        ("judges.1.price.input=0.1", ("judges", 0, "price", "input"), 0.1),
        ("judges.b.price={input = 2.0, output = 3.0}", ("judges", 1, "price", "output"), 3.0),
        ('judges."b".extra.top_p=0.9', ("judges", 1, "extra", "top_p"), 0.9),
    ],
)
def test_an_override_takes_the_place_of_what_the_file_says(
    tmp_path: Path, override: str, key: tuple[str | int, ...], value: object
) -> None:
    load(tmp_path, "[guarantee]\nalpha = 0.1\n", JUDGE + JUDGE.replace('"a"', '"b"'))
    config: Any = load_config(tmp_path / "trustescalate.toml", [override]).model_dump()
    for part in key:
        config = config[part]
    assert config == value


def test_the_last_override_of_a_key_counts(tmp_path: Path) -> None:
    load(tmp_path, "")
    config = load_config(tmp_path / "trustescalate.toml", ["guarantee.alpha=0.3", "guarantee.alpha=0.2"])
    assert config.guarantee.alpha == 0.2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("guarantee.alpha", "--set guarantee.alpha: expected key.path=value"),
        ("=0.2", "--set : expected key.path=value"),
        ("a b=1", "--set a b: expected key.path=value"),
        ("guarantee.alpha.x=1", "--set guarantee.alpha.x: guarantee.alpha is not a table"),
        ("guarantee.alpha.x.y=1", "--set guarantee.alpha.x.y: guarantee.alpha is not a table"),
        ("judges=1", "with --set judges:\n  judges: "),
        ("judges.a=1", "--set judges.a: judges is not a table"),
        ("judges.model=x", "--set judges.model: judges is not a table"),
        ("judges.0.model=x", "--set judges.0.model: there is no judges.0"),
        ("judges.c.model=x", "--set judges.c.model: there is no judges.c"),
        ("roles.file=[1", "--set roles.file: not a TOML value"),
        ("guarantee.alpha=high", "with --set guarantee.alpha:\n  guarantee.alpha: "),
        ("judges.a.api_key=sk-123", "with --set judges.a.api_key:\n  unknown key judges.1.api_key"),
    ],
)
def test_an_override_that_cannot_be_is_named(tmp_path: Path, override: str, message: str) -> None:
    load(tmp_path, "[guarantee]\nalpha = 0.1\n")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "trustescalate.toml", [override])
    assert message in caught.value.message
    assert "sk-123" not in f"{caught.value.message} {caught.value.hint}"


# ── what changes no verdict ──────────────────────────────────────────────────────────────────────

HOW_IT_IS_REACHED = {
    *("api_key_env", "concurrency", "timeout", "attempts", "give_up_after"),
    *("requests_per_minute", "tokens_per_minute", "price", "batch_discount", "batches_in_flight"),
    *("attn_implementation", "batch_size", "device", "prefix_mib"),
    *("tensor_parallel_size", "gpu_memory_utilization"),
}


def test_the_fields_that_change_no_verdict_are_these() -> None:
    assert verdict_free_keys(Config) == {"budget", "gate", "leaderboard"}
    assert verdict_free_keys(DataTable) == {"strata"}
    marked = {name: verdict_free_keys(table) for name, table in JUDGE_TABLES.items()}
    assert all(
        keys == HOW_IT_IS_REACHED & JUDGE_TABLES[name].model_fields.keys() for name, keys in marked.items()
    )
    assert set.union(*marked.values()) == HOW_IT_IS_REACHED


def test_a_recorded_configuration_keeps_what_verdicts_rest_on() -> None:
    judge = {"backend": "openai", "name": "j", "model": "m", "timeout": 5.0, "price": {"input": 1.0}}
    plugin = {"backend": "theirs", "name": "p", "price": {}, "options": {"timeout": 3}}
    recorded = {
        "version": 1,
        "data": {"items": "i.jsonl", "strata": "meta.s"},
        "judges": [judge, plugin],
        "gate": {"min_coverage": 0.5},
        "an older key": 7,
    }
    assert verdict_keys(recorded) == {
        "version": 1,
        "data": {"items": "i.jsonl"},
        "judges": [
            {"backend": "openai", "name": "j", "model": "m"},
            {"backend": "theirs", "name": "p", "options": {"timeout": 3}},
        ],
        "an older key": 7,
    }


# ── names of earlier versions ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("key", [*RENAMED, *REMOVED])
def test_a_key_of_an_earlier_version_names_what_replaces_it(tmp_path: Path, key: str) -> None:
    table, name = key.split(".")
    judge = '[[judges]]\nname = "a"\nbackend = "reward"\nmodel = "m"\n'
    old = f"{judge}{name} = 1\n" if table == "judges" else f"[{table}]\n{name} = 1\n"
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "" if table == "judges" else old, old if table == "judges" else JUDGE)
    assert (RENAMED.get(key) or REMOVED[key]) in caught.value.message


@pytest.mark.parametrize(("key", "value"), [*RENAMED_VALUES, *REMOVED_VALUES])
def test_a_value_of_an_earlier_version_names_what_replaces_it(tmp_path: Path, key: str, value: str) -> None:
    table, name = key.split(".")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f'[{table}]\n{name} = "{value}"\n')
    assert (RENAMED_VALUES.get((key, value)) or REMOVED_VALUES[key, value]) in caught.value.message


# ── [gate] ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[gate]\nmin_rate = 1.1", "[gate]: min_rate must lie between 0 and 1, like the labels"),
        (
            '[task]\nkind = "rating"\n[gate]\nmin_rate = 0.5',
            "[gate]: min_rate must lie between 1 and 5, like the labels",
        ),
        ("[gate]\nmax_drop = 1.5", "[gate]: max_drop must be at most 1, the length of the scale"),
        (
            '[task]\nkind = "choice"\nlabels = ["a", "b"]\n[gate]\nmin_gain = 0.1',
            '[gate]: labels of kind = "choice" have no mean for min_gain',
        ),
        ('[gate]\nbaseline = "x"', "[gate]: a baseline needs max_drop or min_gain: what it is compared for"),
        ('[gate]\nby = "meta.lang"', "gate: by is for min_rate, max_drop and min_gain"),
        ('[gate]\nmin_rate = 0.5\nby = "lang"', 'gate.by: must be "meta.<key>"'),
        ("[gate]\nmax_failures = 0.1", "gate.max_failures is now max_failure_share"),
    ],
)
def test_a_gate_that_cannot_be_held_is_refused(tmp_path: Path, text: str, message: str) -> None:
    assert any(message in line for line in refused(tmp_path, text + "\n")), refused(tmp_path, text + "\n")


def test_a_gate_for_ratings(tmp_path: Path) -> None:
    gate = load(tmp_path, '[task]\nkind = "rating"\n[gate]\nmin_rate = 3.5\nmax_drop = 2.0\n').gate
    assert (gate.min_rate, gate.max_drop, gate.target, gate.allow_shift) == (3.5, 2.0, "items", None)
