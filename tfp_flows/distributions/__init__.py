"""Distributions beside those of TFP."""

from tfp_flows.distributions.dequantization import UniformDequantization

__all__ = ['UniformDequantization']
