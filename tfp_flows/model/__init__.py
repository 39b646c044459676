"""The Keras model over a distribution, its metrics and callbacks."""

from tfp_flows.model.callbacks import StopOnNonFinite
from tfp_flows.model.checkpoints import CheckpointError
from tfp_flows.model.checkpoints import Checkpoints
from tfp_flows.model.dequantization import UniformDequantization
from tfp_flows.model.diagnosis import NonFiniteError
from tfp_flows.model.flow_model import FlowModel
from tfp_flows.model.health import Health
from tfp_flows.model.lipschitz_reports import LipschitzReport
from tfp_flows.model.lipschitz_reports import lipschitz_report
from tfp_flows.model.metrics import BitsPerDim
from tfp_flows.model.saving import load_model
from tfp_flows.model.schedules import ScaledSchedule

__all__ = [
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
]
