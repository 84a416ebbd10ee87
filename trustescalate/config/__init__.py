"""trustescalate.toml as one frozen `Config`. Values are data: nothing in them is a template or code."""

from trustescalate.config.file import Config, json_schema, load_config, parse_config
from trustescalate.config.judges import (
    CallableJudge,
    ClassicalJudge,
    ModelTable,
    OpenAIJudge,
    PluginJudge,
    Price,
    ReplayJudge,
    ScoreJudge,
)
from trustescalate.config.tables import FITTED_PATHS, BudgetTable, GateTable, LeaderboardTable, RolesTable

__all__ = [
    "FITTED_PATHS",
    "BudgetTable",
    "CallableJudge",
    "ClassicalJudge",
    "Config",
    "GateTable",
    "LeaderboardTable",
    "ModelTable",
    "OpenAIJudge",
    "PluginJudge",
    "Price",
    "ReplayJudge",
    "RolesTable",
    "ScoreJudge",
    "json_schema",
    "load_config",
    "parse_config",
]
