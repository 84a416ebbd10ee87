"""LLM judges with a proof of how far they can be trusted."""

__version__ = "0.1.0"
