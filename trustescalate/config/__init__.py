"""trustescalate.toml as one frozen `Config`. Values are data: nothing in them is a template or code."""

from trustescalate.config.file import Config, json_schema, load_config, parse_config
from trustescalate.config.judges import ModelTable, OpenAIJudge, PluginJudge, Price, ReplayJudge
from trustescalate.config.tables import FITTED_PATHS, BudgetTable, GateTable, RolesTable

__all__ = [
    "FITTED_PATHS",
    "BudgetTable",
    "Config",
    "GateTable",
    "ModelTable",
    "OpenAIJudge",
    "PluginJudge",
    "Price",
    "ReplayJudge",
    "RolesTable",
    "json_schema",
    "load_config",
    "parse_config",
]
