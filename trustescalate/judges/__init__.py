"""Judges: the only package that talks to models."""
