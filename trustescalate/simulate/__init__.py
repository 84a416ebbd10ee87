"""A small world with known truth, and judges in it: the demo, the dry run, the test bed.

Everything that comes from here says "simulated". No model is asked and no network is used.
"""

from trustescalate.simulate.demo import DEMO_CONFIG, DEMO_SEED, write_demo
from trustescalate.simulate.judges import PRICES, SimulatedBackend
from trustescalate.simulate.world import World, generate

__all__ = ["DEMO_CONFIG", "DEMO_SEED", "PRICES", "SimulatedBackend", "World", "generate", "write_demo"]
