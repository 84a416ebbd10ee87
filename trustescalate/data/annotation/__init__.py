"""Collect human labels: queues of items, a local annotation page, and the answers.

Nothing here certifies, and no verdict of a judge is shown to an annotator.
"""
