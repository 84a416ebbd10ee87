"""Where the judges of a command reach their models: in this process, or on the machines of a Ray cluster.

An engine decides that and nothing else. Items, votes, decisions, limits, retries, cache and budget stay in
this process, so that no engine changes a decision.
"""
