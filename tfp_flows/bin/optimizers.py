"""The optimizer of the flags."""

import keras
from absl import flags

from tfp_flows.bin import cli

__all__ = ['compile_model', 'make_optimizer']

FLAGS = flags.FLAGS


def compile_model(model: keras.Model, steps_per_epoch: int) -> None:
  """Compiles a model with the optimizer of the flags."""
  optimizer = make_optimizer(steps_per_epoch * FLAGS.epochs)
  model.compile(optimizer, jit_compile=FLAGS.jit)


def make_optimizer(total_steps: int) -> keras.optimizers.Optimizer:
  """An optimizer that is told how many steps the whole run has.

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
  rate = _learning_rate(total_steps)
  return getattr(keras.optimizers, names[FLAGS.optimizer])(rate, **options)


def _learning_rate(total_steps):
  rate = FLAGS.learning_rate
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
