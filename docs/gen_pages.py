"""Generate the command-line, configuration and API references when the site is built (an MkDocs hook)."""

from collections.abc import Iterator
from typing import Any, get_args

from mkdocs.structure.files import File, Files


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages to the site."""
    pages = {"cli.md": command_line(), "configuration.md": configuration(), "api.md": api()}
    for name, lines in pages.items():
        files.append(File.generated(config, name, content="\n".join(lines) + "\n"))
    return files


def command_line() -> Iterator[str]:
    """Markdown for every command of the typer application, grouped by help panel."""
    from typer.main import get_command

    from trustescalate.cli import app

    root: Any = get_command(app)
    yield "# Command line\n\n" + _paragraphs(root.help)
    yield (
        "\nEvery option has an environment variable of its own name: `run --budget-usd` is "
        "`TRUSTESCALATE_RUN_BUDGET_USD`. Results go to stdout, messages to stderr.\n\n"
        + _paragraphs(root.epilog)
    )
    panels: dict[str, list[tuple[str, Any]]] = {}
    for name, command in root.commands.items():
        if not getattr(command, "hidden", False):
            panel = getattr(command, "rich_help_panel", None)
            panels.setdefault(panel if isinstance(panel, str) else "Commands", []).append((name, command))
    for panel, commands in panels.items():
        yield f"\n## {panel}"
        for name, command in commands:
            yield from _command(name, command)


def _command(name: str, command: Any) -> Iterator[str]:
    yield f"\n### `{name}`\n\n{_paragraphs(command.help)}"
    for inner, sub in sorted(getattr(command, "commands", {}).items()):
        if not getattr(sub, "hidden", False):
            yield from _command(f"{name} {inner}", sub)
    if epilog := getattr(command, "epilog", None):
        yield f"\n{_paragraphs(epilog)}"
    rows = [row for parameter in command.params if (row := _parameter(parameter))]
    if rows:
        yield "\n| option | default | |\n|---|---|---|\n" + "\n".join(rows)


def _parameter(parameter: Any) -> str:
    if getattr(parameter, "hidden", False) or parameter.name == "help":
        return ""
    value = (
        ""
        if getattr(parameter, "is_flag", False)
        else f" {parameter.metavar or parameter.name.upper().rstrip('_')}"
    )
    names = parameter.opts if parameter.opts[0].startswith("-") else [""]
    default = parameter.default
    shown = "" if default is None or default is False or callable(default) else f"`{default}`"
    choices = get_args(getattr(getattr(parameter, "type_descriptor", None), "annotation", None))
    text = parameter.help or ""
    if choices and all(isinstance(choice, str) for choice in choices):
        text = f"{text} One of {', '.join(choices)}."
    return f"| `{(', '.join(names) + value).strip()}` | {shown} | {_cell(text)} |"


def configuration() -> Iterator[str]:
    """Markdown for every key of trustescalate.toml, from the JSON schema of the configuration."""
    from trustescalate.config import json_schema

    schema = json_schema()
    kinds = schema["$defs"]
    yield (
        "# Configuration\n\nEvery key of `trustescalate.toml`. An unknown key is an error; paths are relative"
        " to the file. `--set table.key=value` overrides a key for one command."
    )
    for name, found in schema["properties"].items():
        if name == "judges":
            yield from _judges(found, kinds)
        elif "$ref" in found or "allOf" in found:
            yield from _table(f"[{name}]", _resolve(found, kinds), kinds)


def _judges(found: dict[str, Any], kinds: dict[str, Any]) -> Iterator[str]:
    yield "\n## `[[judges]]`\n\nOne table for each judge, cheapest first. `backend` selects the keys."
    for choice in found["items"]["oneOf" if "oneOf" in found["items"] else "anyOf"]:
        judge = _resolve(choice, kinds)
        backend = judge["properties"]["backend"].get("const")
        yield from _table(f'backend = "{backend}"' if backend else "any other backend", judge, kinds, level=3)


def _table(title: str, table: dict[str, Any], kinds: dict[str, Any], level: int = 2) -> Iterator[str]:
    yield f"\n{'#' * level} `{title}`\n\n{_paragraphs(table.get('description', ''))}"
    yield "\n| key | type | default | |\n|---|---|---|---|"
    for key, field in table["properties"].items():
        default = field.get("default")
        shown = "" if default is None or isinstance(default, dict | list) else f"`{_toml(default)}`"
        required = "required" if key in table.get("required", ()) else shown
        yield f"| `{key}` | {_kind(field, kinds)} | {required} | {_cell(field.get('description', ''))} |"


def _kind(field: dict[str, Any], kinds: dict[str, Any]) -> str:
    if "enum" in field or "const" in field:
        values = field.get("enum", [field.get("const")])
        return " · ".join(f"`{_toml(value)}`" for value in values)
    if "$ref" in field:
        target = _resolve(field, kinds)
        return _kind(target, kinds) if "enum" in target else "table"
    if "anyOf" in field:
        inner = [_kind(part, kinds) for part in field["anyOf"] if part.get("type") != "null"]
        return " or ".join(dict.fromkeys(inner))
    words = {"array": "list", "object": "table", "number": "number", "integer": "integer"}
    return words.get(field.get("type", ""), field.get("type", "any"))


def _resolve(field: dict[str, Any], kinds: dict[str, Any]) -> dict[str, Any]:
    reference = field.get("$ref") or field.get("allOf", [{}])[0].get("$ref")
    found: dict[str, Any] = kinds[reference.rsplit("/", 1)[-1]] if reference else field
    return found


def api() -> Iterator[str]:
    """Markdown that makes mkdocstrings render every public name of the package."""
    import trustescalate

    yield "# Python API\n\nThe public names of the package; [Public API](public-api.md) says what is stable."
    for name in sorted(trustescalate.__all__):
        found = getattr(trustescalate, name)
        home = getattr(found, "__module__", None)
        if home is not None:
            yield f"\n::: {home}.{found.__qualname__}"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _paragraphs(text: str | None) -> str:
    return "\n\n".join(_cell(part) for part in (text or "").split("\n\n"))
