"""Distributions beside those of TFP."""

from tfp_flows.distributions.density import Density
from tfp_flows.distributions.dequantization import UniformDequantization
from tfp_flows.distributions.flow import Flow
from tfp_flows.distributions.flow import given

__all__ = ['Density', 'Flow', 'UniformDequantization', 'given']
