"""The optimizer of a run."""

import keras

from tfp_flows.internal import keras_private
from tfp_flows.model import schedules
from tfp_flows.runs.options import Options
from tfp_flows.runs.options import UsageError

__all__ = ['compile_model', 'rate_factor', 'restart_averages']


def compile_model(
  model: keras.Model, options: Options, steps_per_epoch: int
) -> schedules.ScaledSchedule:
  """Compiles a model with its optimizer; returns the learning rate.

  Raises:
    UsageError: for a weight decay that the optimizer does not have.
  """
  if options.weight_decay and options.optimizer != 'adamw':
    raise UsageError(
      f'Expected optimizer=adamw with weight_decay={options.weight_decay:g}; received '
      f'optimizer={options.optimizer}.'
    )
  arguments = dict(
    global_clipnorm=options.clip_norm or None,
    use_ema=bool(options.ema),
    ema_momentum=options.ema or 0.99,
  )
  if options.optimizer == 'adamw':
    arguments['weight_decay'] = options.weight_decay
  names = {'adam': 'Adam', 'adamax': 'Adamax', 'adamw': 'AdamW'}
  rate = schedules.ScaledSchedule(
    _learning_rate(options, steps_per_epoch * options.epochs)
  )
  optimizer = getattr(keras.optimizers, names[options.optimizer])(rate, **arguments)
  model.compile(optimizer, jit_compile=options.jit)
  return rate


def rate_factor(rollbacks: int) -> float:
  """What the learning rate is scaled by after so many rollbacks."""
  return 0.5**rollbacks


def restart_averages(model: keras.Model) -> None:
  """Lets the averages of `ema`, if there are any, begin at the weights.

  Best weights are averages, and the ones averaged stand in their place.
  """
  optimizer = model.optimizer
  if optimizer.use_ema:
    pairs = zip(keras_private.averages(optimizer), model.trainable_variables)
    for average, weight in pairs:
      average.assign(weight)


def _learning_rate(options, total_steps):
  rate, total_steps = options.learning_rate, max(1, total_steps)
  if options.schedule == 'cosine':
    warmup = min(options.warmup_steps, total_steps - 1)
    rate = keras.optimizers.schedules.CosineDecay(
      0.0 if warmup else rate,
      total_steps - warmup,
      warmup_target=rate if warmup else None,
      warmup_steps=warmup,
    )
  elif options.warmup_steps:
    rate = keras.optimizers.schedules.PolynomialDecay(
      rate / options.warmup_steps, options.warmup_steps, rate
    )
  return rate
