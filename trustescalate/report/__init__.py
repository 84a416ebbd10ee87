"""Reports: a run turned into facts, and the facts into HTML, Markdown, JSON and JUnit."""
