"""Runs written as other tools read them. Nothing is judged, decided or read back here."""
