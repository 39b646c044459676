"""Training: the Keras model over a distribution, its metric and callbacks."""

from tfp_flows.training.callbacks import StopOnNonFinite
from tfp_flows.training.checkpoints import CheckpointError
from tfp_flows.training.checkpoints import Checkpoints
from tfp_flows.training.diagnosis import NonFiniteError
from tfp_flows.training.flow_model import FlowModel
from tfp_flows.training.health import Health
from tfp_flows.training.lipschitz import LipschitzReport
from tfp_flows.training.lipschitz import lipschitz_report
from tfp_flows.training.metrics import BitsPerDim
from tfp_flows.training.saved_model import export_saved_model
from tfp_flows.training.schedules import ScaledSchedule
from tfp_flows.training.stablehlo import export_stablehlo
from tfp_flows.training.stablehlo import import_stablehlo
from tfp_flows.training.units import Units

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
  'Units',
  'export_saved_model',
  'export_stablehlo',
  'import_stablehlo',
  'lipschitz_report',
]
