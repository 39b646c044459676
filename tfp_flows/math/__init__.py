"""Pure functions without weights."""

from tfp_flows.math.bits import bits_per_dim
from tfp_flows.math.divergence import exact_divergence
from tfp_flows.math.divergence import hutchinson_divergence
from tfp_flows.math.fixed_point import solve_fixed_point
from tfp_flows.math.interpolation import lerp
from tfp_flows.math.interpolation import slerp
from tfp_flows.math.lipschitz import jacobian_norm
from tfp_flows.math.log_det import LogDetEstimate
from tfp_flows.math.log_det import exact_log_det
from tfp_flows.math.log_det import geometric
from tfp_flows.math.log_det import poisson
from tfp_flows.math.log_det import series_log_det
from tfp_flows.math.log_det import truncation_error_bound
from tfp_flows.math.log_det import value_and_jacobian
from tfp_flows.math.ode import OdeSolution
from tfp_flows.math.ode import integrate
from tfp_flows.math.ode_solvers import DormandPrince
from tfp_flows.math.ode_solvers import RungeKutta4
from tfp_flows.math.operator_norms import operator_norm
from tfp_flows.math.operator_norms import power_iteration
from tfp_flows.math.roots import find_root
from tfp_flows.math.roots import implicit
from tfp_flows.math.roots import with_slope

__all__ = [
  'DormandPrince',
  'LogDetEstimate',
  'OdeSolution',
  'RungeKutta4',
  'bits_per_dim',
  'exact_divergence',
  'exact_log_det',
  'find_root',
  'geometric',
  'hutchinson_divergence',
  'implicit',
  'integrate',
  'jacobian_norm',
  'lerp',
  'operator_norm',
  'poisson',
  'power_iteration',
  'series_log_det',
  'slerp',
  'solve_fixed_point',
  'truncation_error_bound',
  'value_and_jacobian',
  'with_slope',
]
