"""The model of a run."""

import inspect
from typing import Any

import keras
import tensorflow as tf

from tfp_flows import bijectors
from tfp_flows import data as data_lib
from tfp_flows import flows
from tfp_flows.model import flow_model
from tfp_flows.runs import workdir as workdir_lib
from tfp_flows.runs.arguments import parse
from tfp_flows.runs.options import Options
from tfp_flows.runs.options import UsageError

__all__ = ['make_model', 'trained_model']

_COUPLINGS = ('glow', 'nice', 'real_nvp')

# Arguments of the builders that come from the data and from other flags.
_GIVEN = (
  'event_shape',
  'num_bins',
  'condition_size',
  'precision',
  'seed',
  'dtype',
  'name',
)


def make_model(data: data_lib.Description, options: Options) -> flow_model.FlowModel:
  """The untrained model of a run."""
  if data.event_shape == (1,) and options.model in _COUPLINGS:
    raise UsageError(
      f'Expected model=maf, or ffjord or residual_flow, for data of one column; '
      f'received {options.model}, whose couplings keep a column to change another and '
      f'need at least 2 dimensions.'
    )
  builder = flows.MODELS[options.model]
  keras.utils.set_random_seed(options.seed)  # Of what has no seed of its own.
  older = workdir_lib.recorded_arguments(options.workdir)
  given = parse(builder, options.arg, _GIVEN, older)
  arguments: dict[str, Any] = dict(
    seed=options.seed,
    dtype=options.dtype,
    num_bins=data.num_bins or 0,
    condition_size=data.num_classes if options.conditional else None,
  )
  if options.precision != 'float32':
    arguments['precision'] = _precision(builder, options)
  try:
    distribution = builder(data.event_shape, **arguments | given)
  except (TypeError, OverflowError) as error:
    raise UsageError(
      f'Expected arguments that fit {options.model}; received {options.arg}: {error}'
    ) from error
  if bijectors.networks_with_norms(distribution):
    # Norms and iterated inverses need more digits than TensorFloat has.
    tf.config.experimental.enable_tensor_float_32_execution(False)
  return flow_model.FlowModel(distribution, seed=options.seed)


def _precision(builder, options):
  if 'precision' not in inspect.signature(builder).parameters:
    raise UsageError(
      f'Expected precision=float32 with model={options.model}, whose inverse or '
      f'solver needs its digits; received {options.precision}.'
    )
  return options.precision


def trained_model(
  data: data_lib.Description, workdir: workdir_lib.Workdir
) -> flow_model.FlowModel:
  """The model of a run with its best weights."""
  workdir.check_same_model()
  model = make_model(data, workdir.options)
  workdir.load_weights(model)
  # After them: an optimizer would be loaded, too.
  model.compile(jit_compile=workdir.options.jit)
  return model
