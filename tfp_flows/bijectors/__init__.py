"""Bijectors, in reading order."""

from tfp_flows.bijectors.act_norm import ActNorm
from tfp_flows.bijectors.coupling import AdditiveCoupling
from tfp_flows.bijectors.coupling import AffineCoupling
from tfp_flows.bijectors.coupling import Coupling
from tfp_flows.bijectors.flow_bijector import FlowBijector
from tfp_flows.bijectors.invertible_conv import Invertible1x1ConvLU
from tfp_flows.bijectors.masks import ChannelMask
from tfp_flows.bijectors.masks import CheckerboardMask
from tfp_flows.bijectors.masks import IndexMask
from tfp_flows.bijectors.multiscale import Multiscale
from tfp_flows.bijectors.preprocess import Preprocess
from tfp_flows.bijectors.sequential import Sequential
from tfp_flows.bijectors.squeeze import Squeeze
from tfp_flows.bijectors.transformers import Additive
from tfp_flows.bijectors.transformers import Affine
from tfp_flows.bijectors.transformers import RationalQuadratic

__all__ = [
  'ActNorm',
  'Additive',
  'AdditiveCoupling',
  'Affine',
  'AffineCoupling',
  'ChannelMask',
  'CheckerboardMask',
  'Coupling',
  'FlowBijector',
  'IndexMask',
  'Invertible1x1ConvLU',
  'Multiscale',
  'Preprocess',
  'RationalQuadratic',
  'Sequential',
  'Squeeze',
]
