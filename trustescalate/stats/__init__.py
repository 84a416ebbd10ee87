"""Compute statistics as functions of arrays: no judge, no item, no file, no clock, no global generator."""
