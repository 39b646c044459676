"""Training: the Keras model over a distribution, its metric and callbacks."""

from tfp_flows.training.callbacks import StopOnNonFinite
from tfp_flows.training.diagnosis import NonFiniteError
from tfp_flows.training.flow_model import FlowModel
from tfp_flows.training.health import Health
from tfp_flows.training.lipschitz import LipschitzReport
from tfp_flows.training.lipschitz import lipschitz_report
from tfp_flows.training.metrics import BitsPerDim
from tfp_flows.training.schedules import ScaledSchedule

__all__ = [
  'BitsPerDim',
  'FlowModel',
  'Health',
  'LipschitzReport',
  'NonFiniteError',
  'ScaledSchedule',
  'StopOnNonFinite',
  'lipschitz_report',
]
