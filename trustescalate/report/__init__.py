"""Build reports from runs and certificates, and render them as HTML, Markdown, JSON and JUnit."""
