"""Training: the Keras model over a distribution, its metric and callbacks."""

from tfp_flows.training.checkpoints import CheckpointError
from tfp_flows.training.checkpoints import Checkpoints
from tfp_flows.training.flow_model import FlowModel
from tfp_flows.training.lipschitz import LipschitzReport
from tfp_flows.training.lipschitz import lipschitz_report
from tfp_flows.training.metrics import BitsPerDim

__all__ = [
  'BitsPerDim',
  'CheckpointError',
  'Checkpoints',
  'FlowModel',
  'LipschitzReport',
  'lipschitz_report',
]
