"""The list of models, by name."""

from tfp_flows.flows.ffjord import ffjord
from tfp_flows.flows.glow import glow
from tfp_flows.flows.iaf import iaf
from tfp_flows.flows.maf import maf
from tfp_flows.flows.nice import nice
from tfp_flows.flows.planar import planar
from tfp_flows.flows.radial import radial
from tfp_flows.flows.real_nvp import real_nvp
from tfp_flows.flows.residual_flow import residual_flow
from tfp_flows.flows.sylvester import sylvester

__all__ = ['MODELS']

MODELS = {
  'ffjord': ffjord,
  'glow': glow,
  'iaf': iaf,
  'maf': maf,
  'nice': nice,
  'planar': planar,
  'radial': radial,
  'real_nvp': real_nvp,
  'residual_flow': residual_flow,
  'sylvester': sylvester,
}
