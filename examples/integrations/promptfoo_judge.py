"""The functions that promptfoo calls: an assertion and a provider."""

from trustescalate.integrations.promptfoo import call_api, get_assert

__all__ = ["call_api", "get_assert"]
