"""Hugging Face models on this machine: a judge read at its next token, and reward models.

Needs the extra `trustescalate[local]` (torch, transformers). Model code from the hub is never run. What a
request says and how a reply is read is decided elsewhere (`judges.prompts`, `judges.reading`).
"""
