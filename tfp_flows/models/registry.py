"""The list of models, by name."""

from tfp_flows.models.ffjord import ffjord
from tfp_flows.models.glow import glow
from tfp_flows.models.maf import maf
from tfp_flows.models.nice import nice
from tfp_flows.models.real_nvp import real_nvp
from tfp_flows.models.residual_flow import residual_flow

__all__ = ['MODELS']

MODELS = {
  'ffjord': ffjord,
  'glow': glow,
  'maf': maf,
  'nice': nice,
  'real_nvp': real_nvp,
  'residual_flow': residual_flow,
}
