"""Run Hugging Face models on this machine: judges read at their next token, and reward models.

Needs the extra `trustescalate[local]` (torch, transformers). Model code from the hub is never run. What a
request says and how a reply is parsed is decided in `judges.prompts` and `judges.reply_parsing`.
"""
