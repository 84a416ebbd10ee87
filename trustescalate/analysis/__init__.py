"""Answer what is asked before calibration and after a run."""
