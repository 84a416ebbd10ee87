"""Read trustescalate.toml into a frozen `Config`. Values are data, never templates or code."""

from trustescalate.config.base import verdict_free_keys
from trustescalate.config.changes import changes
from trustescalate.config.file import Config, json_schema, load_config, parse_config, verdict_keys
from trustescalate.config.guarantee import FITTED_PATHS, GuaranteeTable
from trustescalate.config.judges import (
    ENDPOINTS,
    AskedTable,
    CallableJudge,
    ChatTable,
    ClassicalJudge,
    DecisionsJudge,
    EndpointTable,
    JudgeTable,
    LiteLLMJudge,
    MockJudge,
    ModelTable,
    OpenAIJudge,
    PluginJudge,
    Price,
    ReplayJudge,
    RewardJudge,
    ScoreJudge,
    SimulatedJudge,
)
from trustescalate.config.tables import BudgetTable, GateTable, LeaderboardTable, RolesTable
from trustescalate.config.trust import must_hold_no_link_out, must_stay_inside, needs_trust

__all__ = [
    "ENDPOINTS",
    "FITTED_PATHS",
    "AskedTable",
    "BudgetTable",
    "CallableJudge",
    "ChatTable",
    "ClassicalJudge",
    "Config",
    "DecisionsJudge",
    "EndpointTable",
    "GateTable",
    "GuaranteeTable",
    "JudgeTable",
    "LeaderboardTable",
    "LiteLLMJudge",
    "MockJudge",
    "ModelTable",
    "OpenAIJudge",
    "PluginJudge",
    "Price",
    "ReplayJudge",
    "RewardJudge",
    "RolesTable",
    "ScoreJudge",
    "SimulatedJudge",
    "changes",
    "json_schema",
    "load_config",
    "must_hold_no_link_out",
    "must_stay_inside",
    "needs_trust",
    "parse_config",
    "verdict_free_keys",
    "verdict_keys",
]
