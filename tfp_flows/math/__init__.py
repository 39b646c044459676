"""Pure functions without weights."""

from tfp_flows.math.bits import bits_per_dim
from tfp_flows.math.interpolation import lerp
from tfp_flows.math.interpolation import slerp

__all__ = ['bits_per_dim', 'lerp', 'slerp']
