"""Gate a pull request on GitHub: what the steps of `action.yml` call. `python -m` runs a step."""
