"""Studies before calibration and after a run: label budgets, tuning, benchmarks, comparison, monitoring."""
