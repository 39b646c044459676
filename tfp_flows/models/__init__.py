"""Builders: hyperparameters -> `tfd.TransformedDistribution`."""

from tfp_flows.models.ffjord import ffjord
from tfp_flows.models.glow import glow
from tfp_flows.models.nice import nice
from tfp_flows.models.real_nvp import real_nvp
from tfp_flows.models.registry import MODELS
from tfp_flows.models.residual_flow import residual_flow

__all__ = ['MODELS', 'ffjord', 'glow', 'nice', 'real_nvp', 'residual_flow']
