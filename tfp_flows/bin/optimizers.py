"""The optimizer of the flags."""

import keras
from absl import flags

from tfp_flows.bin import cli
from tfp_flows.training import schedules

__all__ = ['compile_model', 'rate_factor', 'restart_averages']

FLAGS = flags.FLAGS


def compile_model(model: keras.Model, steps_per_epoch: int) -> schedules.ScaledSchedule:
  """Compiles a model with the optimizer of the flags; returns its learning rate.

  Raises:
    UsageError: for a weight decay that the optimizer does not have.
  """
  if FLAGS.weight_decay and FLAGS.optimizer != 'adamw':
    raise cli.UsageError(
      f'Expected --optimizer=adamw with --weight_decay; received '
      f'--optimizer={FLAGS.optimizer}.'
    )
  options = dict(
    global_clipnorm=FLAGS.clip_norm or None,
    use_ema=bool(FLAGS.ema),
    ema_momentum=FLAGS.ema or 0.99,
  )
  if FLAGS.optimizer == 'adamw':
    options['weight_decay'] = FLAGS.weight_decay
  names = {'adam': 'Adam', 'adamax': 'Adamax', 'adamw': 'AdamW'}
  rate = schedules.ScaledSchedule(_learning_rate(steps_per_epoch * FLAGS.epochs))
  optimizer = getattr(keras.optimizers, names[FLAGS.optimizer])(rate, **options)
  model.compile(optimizer, jit_compile=FLAGS.jit)
  return rate


def rate_factor(rollbacks: int) -> float:
  """What the learning rate is scaled by after so many rollbacks."""
  return 0.5**rollbacks


def restart_averages(model: keras.Model) -> None:
  """Lets the averages of `--ema`, if there are any, begin at the weights.

  Best weights are averages, and the ones averaged stand in their place.
  """
  optimizer = model.optimizer
  if optimizer.use_ema:
    pairs = zip(optimizer._model_variables_moving_average, model.trainable_variables)
    for average, weight in pairs:
      average.assign(weight)


def _learning_rate(total_steps):
  rate, total_steps = FLAGS.learning_rate, max(1, total_steps)
  if FLAGS.schedule == 'cosine':
    warmup = min(FLAGS.warmup_steps, total_steps - 1)
    rate = keras.optimizers.schedules.CosineDecay(
      0.0 if warmup else rate,
      total_steps - warmup,
      warmup_target=rate if warmup else None,
      warmup_steps=warmup,
    )
  elif FLAGS.warmup_steps:
    rate = keras.optimizers.schedules.PolynomialDecay(
      rate / FLAGS.warmup_steps, FLAGS.warmup_steps, rate
    )
  return rate
