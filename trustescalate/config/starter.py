"""Write a configuration to start from."""

from pathlib import Path

from trustescalate.errors import UsageError

STARTER = """\
version = 1

[task]
kind = "pairwise"              # pairwise | binary | rating | choice
question = "Which response would a human reader prefer?"
ties = "class"                 # class: "tie" is a verdict · drop: ties are outside the claim

[data]                         # paths are relative to this file
items = "items.jsonl"          # {"id": "q1", "prompt": "…", "responses": ["…", "…"]}
annotations = "annotations.jsonl"   # {"item_id": "q1", "annotator": "ann", "label": "A"}
# group = "meta.prompt_id"     # what makes a cluster: "group", "prompt", "meta.<key>", or "item": nothing
# strata = "meta.category"     # strata of items, for means over all items

[guarantee]
alpha = 0.15                   # selective risk: released verdicts that may be wrong, at most
delta = 0.10                   # probability that the certificate is wrong, at most

# [groups]
# by = "meta.language"         # a guarantee for each of its values, instead of one for all items

[ensemble]
annotators = 5                 # N few-shot prompts …
shots = 5                      # … of K examples each, from labelled rows set aside for it
swap = true                    # ask in both response orders

[[judges]]                     # cheapest first
name = "small"
backend = "openai"             # any OpenAI-compatible endpoint
model = "mistral-7b-instruct"
base_url = "http://localhost:8000/v1"
price = { input = 0.1, output = 0.1 }    # USD per million tokens

[[judges]]
name = "large"
backend = "openai"
model = "gpt-4.1"
api_key_env = "OPENAI_API_KEY" # the NAME of a variable, never a key
price = { input = 2.0, output = 8.0 }

[gate]
min_agreement = 0.85
min_coverage = 0.6

# [leaderboard]                # where items hold the answers of several models
# models = ["meta.model_a", "meta.model_b"]
"""


def write_starter(folder: Path) -> Path:
    """Write the starter configuration. Raises UsageError where there is one already."""
    path = folder / "trustescalate.toml"
    if path.exists():
        raise UsageError(f"{path} exists already", "edit it, or name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(STARTER, encoding="utf-8")
    return path


def must_be_free(folder: Path) -> None:
    """Raise UsageError unless a folder is new or empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty", "name a new folder: trustescalate demo FOLDER")
