"""trustescalate.toml as one frozen `Config`. Values are data: nothing in them is a template or code."""

from trustescalate.config.file import Config, json_schema, load_config, parse_config
from trustescalate.config.judges import (
    AskedTable,
    ModelTable,
    OpenAIJudge,
    PluginJudge,
    Price,
    ReplayJudge,
    RewardJudge,
)
from trustescalate.config.tables import FITTED_PATHS, BudgetTable, GateTable, LeaderboardTable, RolesTable

__all__ = [
    "FITTED_PATHS",
    "AskedTable",
    "BudgetTable",
    "Config",
    "GateTable",
    "LeaderboardTable",
    "ModelTable",
    "OpenAIJudge",
    "PluginJudge",
    "Price",
    "ReplayJudge",
    "RewardJudge",
    "RolesTable",
    "json_schema",
    "load_config",
    "parse_config",
]
