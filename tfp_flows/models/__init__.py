"""Builders: hyperparameters -> `tfd.TransformedDistribution`; and a Keras layer."""

from tfp_flows.models.ffjord import ffjord
from tfp_flows.models.glow import glow
from tfp_flows.models.maf import maf
from tfp_flows.models.nice import nice
from tfp_flows.models.real_nvp import real_nvp
from tfp_flows.models.registry import MODELS
from tfp_flows.models.residual_flow import residual_flow
from tfp_flows.models.rev_net import RevNet

__all__ = [
  'MODELS',
  'RevNet',
  'ffjord',
  'glow',
  'maf',
  'nice',
  'real_nvp',
  'residual_flow',
]
