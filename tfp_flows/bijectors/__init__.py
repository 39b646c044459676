"""Bijectors, in reading order."""

from tfp_flows.bijectors.act_norm import ActNorm
from tfp_flows.bijectors.autoregressive import Autoregressive
from tfp_flows.bijectors.coupling import AdditiveCoupling
from tfp_flows.bijectors.coupling import AffineCoupling
from tfp_flows.bijectors.coupling import Conditioner
from tfp_flows.bijectors.coupling import Coupling
from tfp_flows.bijectors.ffjord import FFJORD
from tfp_flows.bijectors.ffjord import Field
from tfp_flows.bijectors.ffjord import Penalties
from tfp_flows.bijectors.flow_bijector import FlowBijector
from tfp_flows.bijectors.i_rev_net_block import IRevNetBlock
from tfp_flows.bijectors.invertible_conv import Invertible1x1ConvLU
from tfp_flows.bijectors.log_det_estimators import ExactLogDet
from tfp_flows.bijectors.log_det_estimators import LogDet
from tfp_flows.bijectors.log_det_estimators import LogDetEstimator
from tfp_flows.bijectors.log_det_estimators import RouletteLogDet
from tfp_flows.bijectors.log_det_estimators import TruncatedLogDet
from tfp_flows.bijectors.log_det_estimators import log_det_estimator
from tfp_flows.bijectors.masks import ChannelMask
from tfp_flows.bijectors.masks import CheckerboardMask
from tfp_flows.bijectors.masks import IndexMask
from tfp_flows.bijectors.masks import Mask
from tfp_flows.bijectors.mixture_cdf import MixtureCDF
from tfp_flows.bijectors.moving_batch_norm import MovingBatchNorm
from tfp_flows.bijectors.multiscale import Multiscale
from tfp_flows.bijectors.norms import at_networks_with_norms
from tfp_flows.bijectors.norms import networks_with_norms
from tfp_flows.bijectors.norms import update_norms
from tfp_flows.bijectors.planar import Planar
from tfp_flows.bijectors.preprocess import Preprocess
from tfp_flows.bijectors.radial import Radial
from tfp_flows.bijectors.repeated import Repeated
from tfp_flows.bijectors.residual_flow import Branch
from tfp_flows.bijectors.residual_flow import ResidualFlow
from tfp_flows.bijectors.rev_net_block import RevNetBlock
from tfp_flows.bijectors.sequential import Sequential
from tfp_flows.bijectors.squeeze import Squeeze
from tfp_flows.bijectors.sylvester import Sylvester
from tfp_flows.bijectors.trace_estimators import Estimator
from tfp_flows.bijectors.trace_estimators import ExactTrace
from tfp_flows.bijectors.trace_estimators import HutchinsonTrace
from tfp_flows.bijectors.trace_estimators import Trace
from tfp_flows.bijectors.trace_estimators import TraceEstimator
from tfp_flows.bijectors.trace_estimators import trace_estimator
from tfp_flows.bijectors.transformers import Additive
from tfp_flows.bijectors.transformers import Affine
from tfp_flows.bijectors.transformers import RationalQuadratic
from tfp_flows.bijectors.transformers import Transformer

__all__ = [
  'ActNorm',
  'Additive',
  'AdditiveCoupling',
  'Affine',
  'AffineCoupling',
  'Autoregressive',
  'Branch',
  'ChannelMask',
  'CheckerboardMask',
  'Conditioner',
  'Coupling',
  'Estimator',
  'ExactLogDet',
  'ExactTrace',
  'FFJORD',
  'Field',
  'FlowBijector',
  'HutchinsonTrace',
  'IRevNetBlock',
  'IndexMask',
  'Invertible1x1ConvLU',
  'LogDet',
  'LogDetEstimator',
  'Mask',
  'MixtureCDF',
  'MovingBatchNorm',
  'Multiscale',
  'Penalties',
  'Planar',
  'Preprocess',
  'Radial',
  'RationalQuadratic',
  'Repeated',
  'ResidualFlow',
  'RevNetBlock',
  'RouletteLogDet',
  'Sequential',
  'Squeeze',
  'Sylvester',
  'Trace',
  'TraceEstimator',
  'Transformer',
  'TruncatedLogDet',
  'at_networks_with_norms',
  'log_det_estimator',
  'networks_with_norms',
  'trace_estimator',
  'update_norms',
]
