"""Simulate items with known truth, annotators, and judges: for the demo, dry runs and tests.

All output is marked "simulated". The package makes no model calls and uses no network.
"""

from trustescalate.judges.simulated.backend import PRICES, SimulatedBackend
from trustescalate.judges.simulated.demo import DEMO_CONFIG, DEMO_SEED, write_demo
from trustescalate.judges.simulated.world import World, generate

__all__ = ["DEMO_CONFIG", "DEMO_SEED", "PRICES", "SimulatedBackend", "World", "generate", "write_demo"]
