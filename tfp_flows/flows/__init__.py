"""Flows: builders, and the distributions that they return."""

from tfp_flows.flows.density import Density
from tfp_flows.flows.ffjord import ffjord
from tfp_flows.flows.flow import Flow
from tfp_flows.flows.flow import given
from tfp_flows.flows.glow import glow
from tfp_flows.flows.iaf import iaf
from tfp_flows.flows.maf import maf
from tfp_flows.flows.nice import nice
from tfp_flows.flows.planar import planar
from tfp_flows.flows.radial import radial
from tfp_flows.flows.real_nvp import real_nvp
from tfp_flows.flows.registry import MODELS
from tfp_flows.flows.residual_flow import residual_flow
from tfp_flows.flows.sylvester import sylvester

__all__ = [
  'MODELS',
  'Density',
  'Flow',
  'ffjord',
  'given',
  'glow',
  'iaf',
  'maf',
  'nice',
  'planar',
  'radial',
  'real_nvp',
  'residual_flow',
  'sylvester',
]
