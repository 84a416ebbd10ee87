"""Statistics as functions of arrays. Pure: no judge, no item, no file, no clock, no global generator."""
