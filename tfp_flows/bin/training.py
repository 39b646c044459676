"""The training run of the flags."""

import os
import time

import keras
import tensorflow as tf
from absl import flags

from tfp_flows import bijectors
from tfp_flows import data as data_lib
from tfp_flows.bin import cli
from tfp_flows.bin import drawing
from tfp_flows.bin import evaluation
from tfp_flows.bin import runs
from tfp_flows.training import callbacks
from tfp_flows.training import flow_model
from tfp_flows.training import inputs
from tfp_flows.training import lipschitz
from tfp_flows.training import pictures
from tfp_flows.training import strategies

__all__ = ['train']

FLAGS = flags.FLAGS


def train(overwrite: bool = False) -> None:
  """Trains, keeps the best weights, and prints the likelihood of the test set."""
  start = time.time()
  workdir = runs.Workdir(FLAGS.workdir)
  # Before all else of TensorFlow, which it configures.
  strategy = strategies.make_strategy(FLAGS.strategy)
  is_chief = strategies.is_chief(strategy)
  data = runs.load_data()
  batches = _training_batches(data)
  steps = int(batches.cardinality())
  with strategy.scope():
    model = runs.make_model(data)
    model.compile(_optimizer(steps * FLAGS.epochs), jit_compile=FLAGS.jit)
  if is_chief:
    workdir.begin(overwrite)
  print(
    f'{FLAGS.model} on {FLAGS.dataset}: {model.count_params():,} parameters, '
    f'{steps} steps per epoch, {strategies.describe(strategy)}into {workdir.path}',
    flush=True,
  )
  model.adapt(batches, num_examples=FLAGS.adapt_examples)
  guard = callbacks.StopOnDivergence()
  interrupted = False
  try:
    model.fit(
      batches,
      validation_data=runs.eval_batches(data.validation, data),
      epochs=FLAGS.epochs,
      callbacks=_callbacks(workdir, model, data, guard, is_chief),
      verbose='auto' if is_chief else 0,
    )
  except KeyboardInterrupt:
    interrupted = True
    if not is_chief or not os.path.exists(workdir.weights):
      raise
  except flow_model.SolverError as error:
    if not os.path.exists(workdir.weights):
      raise
    guard.diverged = True
    print(f'\n{error}')
  if not is_chief:
    return
  if guard.diverged and not os.path.exists(workdir.weights):
    raise cli.UsageError(
      'Expected a finite loss; it became NaN or infinite in the first epoch. '
      'Lower --learning_rate or --clip_norm.'
    )
  workdir.load_weights(model)
  _draw(workdir, model, data)
  if interrupted:
    print('\nInterrupted; the best weights so far are kept.')
  if guard.diverged:
    print('The loss became NaN or infinite; the best weights so far are kept.')
  evaluation.report(model, data, 'test', workdir.file('result.json'))
  print(f'{(time.time() - start) / 60:.1f} minutes; see {workdir.path}')


def _training_batches(data: data_lib.Data) -> tf.data.Dataset:
  examples = runs.examples(data.train, data)
  if not int(examples.cardinality()):
    raise cli.UsageError('Expected training examples; the data set is empty.')
  if (
    tf.TensorShape(data.event_shape).num_elements() * int(examples.cardinality())
    < 2**30
  ):
    examples = examples.cache()
  batch_size = min(FLAGS.batch_size, int(examples.cardinality()))
  batches = inputs.batches(examples, batch_size, shuffle_seed=FLAGS.seed)
  if FLAGS.augment_shift and data.num_bins is not None:
    seeds = tf.data.Dataset.random(seed=FLAGS.seed, rerandomize_each_iteration=True)
    batches = tf.data.Dataset.zip(batches, seeds.batch(2)).map(
      lambda batch, seed: _shifted(seed, *batch), num_parallel_calls=tf.data.AUTOTUNE
    )
  return batches


def _shifted(seed, x, condition, weight):
  """Each image of the batch moved by its own random offset."""
  most = FLAGS.augment_shift
  pad = [[0, 0], [most, most], [most, most], [0, 0]]
  count, height, width = x.shape[:3]
  offsets = tf.random.stateless_uniform(
    [2, count], seed, minval=0, maxval=2 * most + 1, dtype=tf.int32
  )
  rows = offsets[0][:, tf.newaxis] + tf.range(height)
  columns = offsets[1][:, tf.newaxis] + tf.range(width)
  x = tf.gather(tf.pad(x, pad), rows, axis=1, batch_dims=1)
  return tf.gather(x, columns, axis=2, batch_dims=1), condition, weight


def _optimizer(total_steps: int) -> keras.optimizers.Optimizer:
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
  return getattr(keras.optimizers, names[FLAGS.optimizer])(rate, **options)


def _callbacks(
  workdir: runs.Workdir,
  model: flow_model.FlowModel,
  data: data_lib.Data,
  guard: callbacks.StopOnDivergence,
  is_chief: bool,
) -> list[keras.callbacks.Callback]:
  # The order matters: the average is in the model when it is saved or drawn.
  monitor = dict(monitor='val_loss', mode='min')

  def draw():
    if not guard.diverged:
      _draw(workdir, model, data)

  found = [guard]
  if is_chief:
    found = [
      keras.callbacks.ModelCheckpoint(
        workdir.weights,
        save_best_only=True,
        save_weights_only=True,
        # Otherwise the first epoch is the best, be it NaN.
        initial_value_threshold=float('inf'),
        **monitor,
      ),
      callbacks.JsonLines(workdir.file('metrics.jsonl')),
      keras.callbacks.TensorBoard(workdir.file('tensorboard'), write_graph=False),
      guard,
      callbacks.Pictures(draw, FLAGS.picture_every),
    ]
  if is_chief and bijectors.networks_with_norms(model.distribution):
    # Before what writes the logs: it adds to them.
    found.insert(0, _lipschitz_report(workdir, data))
  if FLAGS.ema:
    found.insert(0, keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
  if FLAGS.patience:
    found.append(keras.callbacks.EarlyStopping(patience=FLAGS.patience, **monitor))
  return found


def _lipschitz_report(workdir, data):
  (batch,) = runs.eval_batches(data.validation, data).take(1)
  x, condition, _ = batch
  return lipschitz.LipschitzReport(x, condition, workdir.file('lipschitz.jsonl'))


def _draw(workdir, model, data):
  """Pictures; an inverse that does not converge is no reason to end a run."""
  _draw_curves(workdir)
  try:
    drawing.draw_samples(model, data, workdir.file('samples.png'))
  except flow_model.SamplingError as error:
    print(f'\nNo samples drawn: {error}', flush=True)


def _draw_curves(workdir):
  pictures.save_curves(
    workdir.file('curves.png'),
    workdir.file('metrics.jsonl'),
    ['bits_per_dim', 'loss'],
  )
