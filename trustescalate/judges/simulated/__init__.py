"""A small world with known truth, and judges in it: the demo, the dry run, the test bed.

Everything that comes from here says "simulated". No model is asked and no network is used.
"""

from trustescalate.judges.simulated.backend import PRICES, SimulatedBackend
from trustescalate.judges.simulated.demo import DEMO_CONFIG, DEMO_SEED, write_demo
from trustescalate.judges.simulated.world import World, generate

__all__ = ["DEMO_CONFIG", "DEMO_SEED", "PRICES", "SimulatedBackend", "World", "generate", "write_demo"]
