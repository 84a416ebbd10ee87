"""Adapters to other tools; each imports its host only when it is used."""
