"""List what a project folder names beyond itself, and remember which of it the user trusts.

A folder from elsewhere can name an environment variable, a host, a file and code. The usual ones are free: a
key of a known provider, sent to it; this machine; files of the folder. Anything else is listed here. The
command line asks once (`cli.options`); a program that opens a project is trusted to know it.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from trustescalate.config.file import Config
from trustescalate.config.judges import (
    CallableJudge,
    LiteLLMJudge,
    LocalJudge,
    PluginJudge,
    ReplayJudge,
    RewardJudge,
    VLLMJudge,
)
from trustescalate.config.providers import PROVIDERS
from trustescalate.errors import UsageError
from trustescalate.records.jsonl import digest

KNOWN_HOSTS: Mapping[str, tuple[str, ...]] = {
    "api.openai.com": ("OPENAI_API_KEY",),
    "api.anthropic.com": ("ANTHROPIC_API_KEY",),
    "generativelanguage.googleapis.com": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "api.mistral.ai": ("MISTRAL_API_KEY",),
    "api.deepseek.com": ("DEEPSEEK_API_KEY",),
    "api.groq.com": ("GROQ_API_KEY",),
    "api.together.xyz": ("TOGETHER_API_KEY",),
    "api.fireworks.ai": ("FIREWORKS_API_KEY",),
    "api.cohere.com": ("COHERE_API_KEY", "CO_API_KEY"),
    "api.cohere.ai": ("COHERE_API_KEY", "CO_API_KEY"),
    "api.jina.ai": ("JINA_API_KEY",),
    "api.x.ai": ("XAI_API_KEY",),
    "api.cerebras.ai": ("CEREBRAS_API_KEY",),
    "openrouter.ai": ("OPENROUTER_API_KEY",),
    "router.huggingface.co": ("HF_TOKEN",),
    "api.typesafe.ai": ("TYPESAFE_API_KEY",),
    "bedrock-runtime.amazonaws.com": ("AWS_BEARER_TOKEN_BEDROCK",),
    "aiplatform.googleapis.com": (),
    "runtime.sagemaker.amazonaws.com": (),
}
"""Default hosts of providers, over https, with the variables that usually hold their keys."""

KEY_NAME = re.compile(r"API_?KEY|^[A-Z0-9]+_KEY$")
OTHER_SECRETS = re.compile(
    r"SECRET|PRIVATE|PASS|ACCESS|SIGN|CRYPT|MASTER|DEPLOY|SESSION|COOKIE|ADMIN|ROOT|ACCOUNT|STORAGE|DATABASE|"
    r"LICENSE|CLIENT|CONSUMER|WEBHOOK|STRIPE|DJANGO|FLASK|GITHUB|GITLAB|TWILIO|SENDGRID|SENTRY|DATADOG|SLACK|"
    r"CLOUDFLARE|HEROKU|PAYPAL|SHOPIFY|(^|_)(AWS|SSH|SSL|TLS|GPG|PGP|RSA|AES|HMAC|JWT|DB|GH|NPM|PYPI|APP|DD)_"
)
"""Parts of names of keys that are no model provider's."""
OWN_FILES = (
    *("certificate.json", "certificate.votes.jsonl", "ledger.jsonl", "batch.json", "region.json"),
    *("probe.json", "monitor.json", "monitor.anchors.jsonl", "to_label.jsonl"),
)
"""Files of a project folder that this program writes and reads again."""
OWN_FOLDERS = ("runs", "labelling", ".trustescalate", ".trustescalate/batches")


class Named(NamedTuple):
    """One thing that needs trust. `used_by` "any": commands that read the data; "asking": those that ask."""

    used_by: Literal["any", "asking"]
    what: str


def needs_trust(config: Config) -> tuple[Named, ...]:
    """What the configuration names that a user should know of: variables, hosts, files and code.

    An `api_key_env` whose name is not that of the host's provider or of an own API key, a host that is
    neither this machine nor a provider's default, a path that leads out of the folder, and every function.

    >>> from trustescalate.config.file import parse_config
    >>> judge = {"name": "a", "backend": "openai", "model": "m", "api_key_env": "HOME"}
    >>> [thing.what for thing in needs_trust(parse_config({"version": 1, "judges": [judge]}, Path("x.toml")))]
    ["judge 'a': sends the environment variable HOME, which is not named like a key, to api.openai.com"]
    """
    things = [Named("any", what) for what in _files(config)]
    for table in config.judges:
        name = f"judge {table.name!r}"
        if isinstance(table, CallableJudge):
            things.append(Named("asking", f"{name}: runs the Python function {table.function}"))
        addresses, keys = _connection(table)
        hosts = [_host(url) for url in addresses]
        things += [Named("asking", f"{name}: sends texts to {host}") for host in hosts if not _is_usual(host)]
        for key in keys:
            to = ", ".join(host.removeprefix("https://") for host in hosts) or "a plugin"
            if doubt := _doubt(key, hosts):
                what = f"{name}: sends the environment variable {key}, which {doubt}, to {to}"
                things.append(Named("asking", what))
        things += [Named("asking", what) for what in _models(config, table)]
    return tuple(dict.fromkeys(things))


def is_trusted(folder: Path, things: Sequence[Named]) -> bool:
    """Whether the user has accepted exactly these things for this folder."""
    memory = _memory(folder)
    if memory is None:
        return False
    with suppress(OSError, UnicodeDecodeError):
        return _seal(folder, things) in memory.read_text(encoding="ascii").split()
    return False


def remember(folder: Path, things: Sequence[Named]) -> None:
    """Remember that the user accepts these things, in a file of their own that no project can hold."""
    memory = _memory(folder)
    if memory is None or is_trusted(folder, things):
        return
    with suppress(OSError):
        memory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(memory, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(file, f"{_seal(folder, things)}\n".encode())
        finally:
            os.close(file)


def must_stay_inside(folder: Path) -> None:
    """Raise UsageError where a file or folder that this program keeps in a project is a link out of it.

    The folders of single runs and queues are looked at when they are opened (`must_hold_no_link_out`).
    """
    own = (folder / name for name in (*OWN_FILES, *OWN_FOLDERS))
    must_not_lead_out(folder, filter(Path.is_symlink, own))
    for name in OWN_FOLDERS:
        must_hold_no_link_out(folder, folder / name)


def must_hold_no_link_out(folder: Path, inner: Path) -> None:
    """Raise UsageError where `inner`, or an entry of it, is a link out of `folder`."""
    must_not_lead_out(folder, [inner])
    if inner.is_dir():
        with os.scandir(inner) as entries:
            must_not_lead_out(folder, [inner / entry.name for entry in entries if entry.is_symlink()])


def must_not_lead_out(folder: Path, paths: Iterable[Path]) -> None:
    """Raise UsageError for a path that leads out of `folder`, by a link or by `..`."""
    for path in paths:
        if not _is_inside(folder, path):
            raise UsageError(
                f"{path}: leads out of the project folder, to {os.path.realpath(path)}",
                "replace the link by the file or folder itself",
            )


def _is_inside(folder: Path, path: Path) -> bool:
    try:
        return path.expanduser().resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, no home, a NUL
        return False


# ── files ──────────────────────────────────────────────────────────────────────────────────────────


def _files(config: Config) -> Iterator[str]:
    """A sentence for each named file that lies outside the folder."""
    named: dict[str, str | None] = {
        "[data] items": config.data.items,
        "[data] annotations": config.data.annotations,
        "[task] rubric_file": config.task.rubric_file,
        "[roles] file": config.roles.file,
        "[prompts] folder": config.prompts.folder,
    }
    modes = {getattr(table, "mode", None) for table in config.judges} - {None}
    for mode in sorted(map(str, modes)) if config.prompts.folder is not None else ():
        named[f"[prompts] folder, {mode}"] = f"{config.prompts.folder}/{mode}.txt"
    for table in config.judges:
        named[f"judge {table.name!r}: prompt"] = getattr(table, "prompt", None)
        named[f"judge {table.name!r}: votes"] = table.votes if isinstance(table, ReplayJudge) else None
        if isinstance(table, CallableJudge):
            module = table.function.partition(":")[0].replace(".", "/")
            named[f"judge {table.name!r}: function"] = f"{module}.py"
    for key, path in named.items():
        if path is not None and not _is_inside(config.folder, config.path(path)):
            yield f"{key} = {path!r} leads out of the folder"


def _models(config: Config, table: Any) -> Iterator[str]:
    """A sentence for each model folder outside; a name on the hub is none."""
    if not isinstance(table, LocalJudge | VLLMJudge | RewardJudge):
        return
    for key, path in (("model", table.model), ("adapter", getattr(table, "adapter", None))):
        if path is None:
            continue
        is_path = path.startswith((".", "/", "~")) or ".." in Path(path).parts or Path(path).exists()
        if is_path and not _is_inside(config.folder, Path(path)):
            yield f"judge {table.name!r}: {key} = {path!r} leads out of the folder"


# ── hosts and keys ─────────────────────────────────────────────────────────────────────────────────


def _connection(table: Any) -> tuple[list[str], list[str]]:
    """The addresses and the environment variables that a judge names."""
    if isinstance(table, PluginJudge):
        texts = list(_texts(table.options))
        addresses = [value for _, value in texts if re.match(r"\w+://", value)]
        return addresses, [value for key, value in texts if key.endswith("_env")]
    if not hasattr(table, "api_key_env"):
        return [], []
    keys = [] if table.api_key_env is None else [table.api_key_env]
    if isinstance(table, LiteLLMJudge) and table.base_url is None:
        known = PROVIDERS.get(table.provider)
        return [f"https://{known.host}" if known else f"the provider {table.provider!r} of LiteLLM"], keys
    return list(table.addresses) or ["https://api.openai.com/v1"], keys


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner, str(name))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner, key)


def _host(url: str) -> str:
    """An address without its path, and without `https://api.x:443` beside `https://api.x`."""
    parts = urlsplit(url)
    if not parts.netloc:
        return url
    place = parts.netloc.rpartition("@")[2].lower()
    return f"{parts.scheme}://{place.removesuffix(':443') if parts.scheme == 'https' else place}"


def _is_usual(host: str) -> bool:
    return _is_loopback(host) or host.removeprefix("https://") in KNOWN_HOSTS


def _is_loopback(host: str) -> bool:
    name = urlsplit(host).hostname or ""
    try:
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def _doubt(key: str, hosts: Sequence[str]) -> str:
    """State why a variable may hold another secret than the key for these hosts; empty where none may.

    This machine is no provider: a key for one of them is another's there too.

    >>> _doubt("GROQ_API_KEY", ["https://api.groq.com"]), _doubt("GROQ_API_KEY", ["http://localhost:1"])
    ('', 'is named like the key of another provider')
    >>> _doubt("LOCAL_API_KEY", ["http://localhost:1"]), _doubt("GITHUB_TOKEN", ["http://localhost:1"])
    ('', 'is named like another secret')
    """
    places = [host.removeprefix("https://") for host in hosts]
    if places and all(key in KNOWN_HOSTS.get(place, ()) for place in places):
        return ""
    words = {word for word in key.split("_") if len(word) > 1} - {"API", "KEY", "TOKEN"}
    owners = {
        host for host, keys in KNOWN_HOSTS.items() if any(words & set(name.split("_")) for name in keys)
    }
    if owners and not owners.issuperset(places):
        return "is named like the key of another provider"
    is_key = KEY_NAME.search(key) or (owners and key.endswith("_KEY"))
    if is_key and not OTHER_SECRETS.search(key):
        return ""
    return (
        "is named like another secret" if re.search("(^|_)(KEY|TOKEN)$", key) else "is not named like a key"
    )


# ── memory ─────────────────────────────────────────────────────────────────────────────────────────


def _seal(folder: Path, things: Sequence[Named]) -> str:
    return digest(str(folder.resolve()), sorted(thing.what for thing in things))


def _memory(folder: Path) -> Path | None:
    """The file of accepted projects in the user's state directory; None where the project could write it."""
    given = os.environ.get("XDG_STATE_HOME", "")
    with suppress(RuntimeError):  # no home
        state = Path(given) if os.path.isabs(given) else Path.home() / ".local" / "state"
        memory = state / "trustescalate" / "trusted"
        return None if _is_inside(folder, memory) else memory
    return None
