"""Normalizing flows as TensorFlow Probability bijectors that Keras 3 trains.

By convention `import tfp_flows as tff`. Public names are imported when they are
first used: the commands check their flags before TensorFlow is loaded.
"""

import importlib
from typing import Any

from tfp_flows.version import __version__

_MODULES = {
  'bijectors': [
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
    'update_norms',
  ],
  'export': ['Units', 'export_saved_model', 'export_stablehlo', 'import_stablehlo'],
  'flows': [
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
  ],
  'internal.estimation': ['estimation'],
  'internal.example_keys': ['example_keys'],
  'internal.reports': ['flow_report'],
  'math': [
    'DormandPrince',
    'RungeKutta4',
    'bits_per_dim',
    'exact_log_det',
    'geometric',
    'integrate',
    'lerp',
    'poisson',
    'series_log_det',
    'slerp',
    'truncation_error_bound',
  ],
  'model': [
    'BitsPerDim',
    'CheckpointError',
    'Checkpoints',
    'FlowModel',
    'Health',
    'LipschitzReport',
    'NonFiniteError',
    'ScaledSchedule',
    'StopOnNonFinite',
    'UniformDequantization',
    'lipschitz_report',
    'load_model',
  ],
  'networks': [
    'ConvNet',
    'FieldConvNet',
    'FieldMLP',
    'IRevNet',
    'LipschitzConvNet',
    'LipschitzMLP',
    'MADE',
    'MLP',
    'NeuralODE',
    'ResNet',
    'RevNet',
  ],
}

_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ['__version__', *_HOME]


def __getattr__(name: str) -> Any:
  if name not in _HOME:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  module = importlib.import_module(f'{__name__}.{_HOME[name]}')
  return getattr(module, name)


def __dir__() -> list[str]:
  return sorted(__all__)
