"""Random models, data and calls: what must be equal is, what cannot be says so.

  python -m tests.fuzz.surface --cases=300 --seed=0

A case is a model, of random builder, options, dtype, condition and outer bijector,
compiled by XLA or not, and a sequence of calls with data of random size and kind. Each
call is compared with the distribution itself, called in eager mode, or with the same
call on other containers of the same data. What is not meant to work must raise a
`ValueError` or `TypeError` of one sentence.
"""

import argparse
import collections
import functools
import multiprocessing
import os
import pathlib
import pickle
import random
import re
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util

tfb, tfd = tfp.bijectors, tfp.distributions

OK, REFUSED, FAILED = 'ok', 'refused', 'failed'
CONDITION_SIZE = 3
ROWS = (1, 2, 3, 5, 8, 13)
BATCHES = (1, 2, 3, 5, 8, 64)
BINS = 8

# Builder, event shapes, and values to choose from for each argument.
_COUPLING = dict(
  num_steps=[1, 2, 3], width=[4], transformer=['affine', 'additive', 'spline']
)
MODELS: dict[str, tuple[list[list[int]], dict[str, list[Any]]]] = {
  'glow': (
    [[2], [3], [4, 4, 1], [4, 4, 2]],
    _COUPLING
    | dict(
      scale=['sigmoid', 'tanh', 'clamp'],
      memory=['stored', 'reversible'],
      loop=[True, True, False],
      learn_prior=[True, False],
      num_levels=[1],
    ),
  ),
  'real_nvp': (
    [[2], [3], [4, 4, 1]],
    _COUPLING
    | dict(memory=['stored', 'reversible'], num_levels=[1], num_blocks=[0, 1]),
  ),
  'nice': ([[2], [4, 4, 1]], dict(num_steps=[1, 2, 4], width=[4])),
  'maf': ([[1], [2], [3]], dict(num_layers=[1, 2], hidden=[[4], [8, 8]])),
  'iaf': (
    [[1], [3]],
    dict(num_layers=[1, 2], hidden=[[4]], linear=[None, 'lu']),
  ),
  'planar': (
    [[1], [2]],
    dict(num_layers=[1, 3], direction=['density', 'sampling'], act_norm=[True, False]),
  ),
  'radial': ([[1], [3]], dict(num_layers=[1, 3], direction=['density', 'sampling'])),
  'sylvester': (
    [[1], [3]],
    dict(
      num_layers=[1, 3],
      direction=['density', 'sampling'],
      basis=['orthogonal', 'householder', 'triangular'],
    ),
  ),
  'residual_flow': (
    [[1], [2]],
    dict(num_blocks=[1, 2], width=[4], num_hidden=[1], log_det=['exact', 'roulette']),
  ),
  'ffjord': (
    [[1], [2]],
    dict(num_blocks=[1], hidden=[[4]], tolerance=[1e-5], trace=['exact']),
  ),
}
# Of values of the model, beside those of eager mode.
ATOL = {'float32': 2e-3, 'float64': 1e-6}
LOOSE = dict(ffjord=5e-3, residual_flow=5e-3)


class Outcome(NamedTuple):
  """What became of a call.

  Attributes:
    kind: `OK`, `REFUSED` or `FAILED`.
    text: the message, or what was unequal.
  """

  kind: str
  text: str = ''


class Case:
  """A model and what is done with it, all of it fixed by a seed."""

  def __init__(
    self,
    seed: str,
    folder: pathlib.Path,
    jit: bool | None = None,
    builders: Sequence[str] = tuple(MODELS),
  ):
    """Makes the model; `jit` is drawn if it is None."""
    self._rng, self._folder = random.Random(seed), folder
    rng = self._rng
    self.builder = rng.choice(list(builders))
    shapes, options = MODELS[self.builder]
    self._shape = rng.choice(shapes)
    self._options = {k: rng.choice(v) for k, v in options.items() if rng.random() < 0.8}
    self._options |= {k: v[0] for k, v in options.items() if len(v) == 1}
    self._dtype = rng.choice(['float32', 'float32', 'float64'])
    self._is_pixels = len(self._shape) == 3
    self._has_condition = rng.random() < 0.4
    self._outer = rng.choice(['none', 'none', 'none', 'sigmoid', 'reshape'])
    if self._is_pixels:
      self._outer = 'none'
    # Solvers take a third of a minute to compile.
    drawn = rng.random() < (0.05 if self.builder == 'ffjord' else 0.3)
    self._jit = drawn if jit is None else jit
    self._seed = rng.randrange(2**20)
    self.model = self._make()

  def __str__(self) -> str:
    options = ', '.join(f'{k}={v!r}' for k, v in self._options.items())
    return (
      f'{self.builder}({self._shape}, {options}) {self._dtype} '
      f'outer={self._outer} condition={self._has_condition} jit={self._jit}'
    )

  def _make(self):
    options = self._options | dict(seed=self._seed, dtype=self._dtype)
    if self._has_condition:
      options['condition_size'] = CONDITION_SIZE
    if self._is_pixels:
      options['num_bins'] = BINS
    flow = getattr(tff, self.builder)(self._shape, **options)
    test_util.perturb(flow, 0.05, self._seed)
    tff.update_norms(flow)
    if self._outer == 'sigmoid':
      flow = tfd.TransformedDistribution(flow, tfb.Sigmoid())
    elif self._outer == 'reshape':
      shape = [self._shape[0], 1]
      flow = tfd.TransformedDistribution(flow, tfb.Reshape(shape, self._shape))
    model = tff.FlowModel(flow, seed=self._seed)
    if self._rng.random() < 0.8 or not self._jit:
      model.compile(keras.optimizers.SGD(1e-3), jit_compile=self._jit)
    return model

  # Data.

  def _examples(self, count):
    rng = np.random.default_rng(self._rng.randrange(2**20))
    shape = [count, *self.model.distribution.event_shape]
    if self._is_pixels:
      return rng.integers(0, BINS, shape).astype(self._rng.choice(['uint8', 'int32']))
    x = rng.standard_normal(shape)
    if self._outer == 'sigmoid':
      x = 1 / (1 + np.exp(-x))
    return x.astype(self._rng.choice(['float32', 'float64']))

  def _condition(self, count):
    if not self._has_condition:
      return None
    rng = np.random.default_rng(self._rng.randrange(2**20))
    c = rng.standard_normal([count, CONDITION_SIZE])
    return c.astype(self._rng.choice(['float32', 'float64']))

  def _pair(self, count=None):
    count = self._rng.choice(ROWS) if count is None else count
    return self._examples(count), self._condition(count)

  def _maybe_tensor(self, value):
    if value is None or self._rng.random() < 0.6:
      return value
    return tf.constant(value)

  def _containers(self, x, c, batch_size):
    """The same batches in the containers that Keras knows: name -> arguments of fit."""
    parts = (x,) if c is None else (x, c)
    starts = range(0, len(x), batch_size)
    batches = [tuple(p[i : i + batch_size] for p in parts) for i in starts]

    def generator():
      while True:
        yield from (b[0] if c is None else b for b in batches)

    class Batches(keras.utils.PyDataset):
      def __len__(self):
        return len(batches)

      def __getitem__(self, index):
        return batches[index]

    dataset = tf.data.Dataset.from_tensor_slices(parts if c is not None else x)
    return {
      'arrays': dict(x=x, y=c, batch_size=batch_size),
      'dataset': dict(x=dataset.batch(batch_size)),
      'generator': dict(x=generator(), steps_per_epoch=len(batches)),
      'sequence': dict(x=Batches()),
    }

  # What must be so.

  @property
  def _atol(self):
    return max(ATOL[self._dtype], LOOSE.get(self.builder, 0.0))

  def _close(self, found, expected, what, scale=1.0):
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape:
      raise AssertionError(f'{what}: shape {found.shape}, not {expected.shape}')
    error = np.abs(found - expected) / (1 + np.abs(expected))
    if not (error <= scale * self._atol).all():
      raise AssertionError(f'{what}: {found} is not {expected}')

  def _keywords(self, c):
    return {} if c is None else dict(condition=tf.cast(c, self._dtype))

  def _eager(self, x, c):
    """The log-likelihoods of continuous data by the distribution, in eager mode."""
    log_prob = self.model.likelihood.log_prob
    if self.builder == 'ffjord':  # Step by step, a solver takes a minute.
      log_prob = tf.function(log_prob, autograph=False)
    c = None if c is None else tf.constant(c, self._dtype)
    return log_prob(tf.constant(x, self._dtype), c, tf.constant([0, 0]))

  @property
  def has_eager_values(self) -> bool:
    """Whether likelihoods can be compared: those of pixels have noise."""
    return not self._is_pixels

  def _trains_exactly(self):
    return not self._is_pixels and self.builder not in ('residual_flow', 'ffjord')

  # Calls.

  def log_prob(self):
    """Equals eager mode, row by row, whatever the batch."""
    x, c = self._pair(self._rng.choice([0, *ROWS]))
    found = self.model.log_prob(self._maybe_tensor(x), self._maybe_tensor(c), seed=3)
    assert found.shape == (len(x),), found.shape
    if not len(x):
      return
    assert np.isfinite(found).all()
    if not self._is_pixels:
      self._close(found, self._eager(x, c), 'log_prob')
    one = self.model.log_prob(x[:1], None if c is None else c[:1], seed=3)
    if not self._is_pixels:
      self._close(found[:1], one, 'log_prob of one row')

  def broadcast(self):
    """One example with many conditions, and the reverse."""
    if not self._has_condition or self._is_pixels:
      return
    (x, _), c = self._pair(1), self._condition(4)
    many = np.repeat(x, 4, axis=0)
    self._close(self.model.log_prob(x[0], c), self._eager(many, c), 'one example')
    x, c = self._examples(4), self._condition(1)
    many = np.repeat(c, 4, axis=0)
    self._close(self.model.log_prob(x, c[0]), self._eager(x, many), 'one condition')

  def predict(self):
    """Equals `log_prob`; `evaluate` is its mean."""
    x, c = self._pair()
    batch_size = self._rng.choice(BATCHES)
    kinds = self._containers(x, c, batch_size)
    data = kinds[self._rng.choice(['arrays', 'dataset', 'sequence'])]
    if not self.model.compiled:
      self.model.compile(keras.optimizers.SGD(1e-3), jit_compile=self._jit)
    found = self.model.predict(**data, verbose=0)
    assert found.shape == (len(x),), found.shape
    if self._is_pixels:
      return
    self._close(found, self._eager(x, c), 'predict')
    loss = np.ravel(self.model.evaluate(**data, verbose=0))[0]
    self._close(loss, -found.mean(), 'evaluate')

  def fit(self):
    """The same weights, whatever the container; other batch sizes after each other."""
    x, c = self._pair()
    batch_size = self._rng.choice(BATCHES)
    kinds = self._containers(x, c, batch_size)
    names = self._rng.sample(list(kinds), 2)
    ends = []
    if not self.model.compiled:
      self.model.compile(keras.optimizers.SGD(1e-3), jit_compile=self._jit)
    start = [v.numpy() for v in self.model.variables]
    for name in names:
      for v, value in zip(self.model.variables, start):
        v.assign(value)
      options = dict(shuffle=False) if name == 'arrays' else {}
      history = self.model.fit(**kinds[name], **options, epochs=2, verbose=0).history
      assert np.isfinite(history['loss']).all(), history
      trained = self.model.trainable_variables
      ends.append([np.sum(history['loss']), *(v.numpy() for v in trained)])
    if self._trains_exactly():
      for first, second in zip(*ends):
        self._close(second, first, f'fit of {names}')

  def batches(self):
    """`train_on_batch`, `test_on_batch` and `predict_on_batch` of changing sizes."""
    if not self.model.compiled:
      self.model.compile(keras.optimizers.SGD(1e-3), jit_compile=self._jit)
    for _ in range(2):
      x, c = self._pair()
      assert np.isfinite(self.model.train_on_batch(x, c)).all()
      assert np.isfinite(self.model.test_on_batch(x, c)).all()

  def latents(self):
    """`decode` is the inverse of `encode`."""
    x, c = self._pair()
    z = self.model.encode(self._maybe_tensor(x), self._maybe_tensor(c), seed=1)
    back = self.model.decode(z, c)
    if self._is_pixels:
      # A digit may fall to the other side of an integer.
      assert np.abs(back.numpy().astype(int) - x.astype(int)).max() <= 1
    else:
      self._close(back, x, 'decode(encode(x))', 10.0)

  def sample(self):
    """Shapes, seeds, independence of the rows."""
    c = self._condition(4)
    n = self._rng.choice([None, 1, 3, 6, [2, 2], 'tensor'])
    temperature = self._rng.choice([1.0, 1.0, 0.5])
    options = dict(temperature=temperature, seed=5)
    given = tf.constant(3) if n == 'tensor' else n
    found = self.model.sample(given, condition=c, **options).numpy()
    lead = {None: [] if c is not None else [1], 'tensor': [3]}.get(
      n if not isinstance(n, list) else '', n if isinstance(n, list) else [n]
    )
    lead = [*lead, *([] if c is None else [4])]
    assert list(found.shape) == [*lead, *self.model.distribution.event_shape]
    again = self.model.sample(given, condition=c, **options).numpy()
    np.testing.assert_array_equal(found, again)
    rows = found.reshape(-1, np.prod(self._shape))
    if len(rows) > 1 and not self._is_pixels:
      assert len(np.unique(rows, axis=0)) == len(rows), 'equal samples'

  def drawn(self):
    """The log-density beside samples is that of `log_prob`."""
    if self._is_pixels:
      return
    c = self._condition(4)
    x, log_prob = self.model.sample_and_log_prob(2, condition=c, seed=2)
    c = None if c is None else np.broadcast_to(c, [2, *c.shape])
    self._close(log_prob, self._eager(x, c), 'sample_and_log_prob', 10.0)

  def taped(self):
    """Inside of a tape the same, with the gradients of eager mode."""
    if self._is_pixels:
      return
    x, c = self._pair()
    x = tf.constant(x, self._dtype)
    weights = self.model.distribution.trainable_variables
    gradients = []
    for log_prob in (self.model.log_prob, self._eager):
      with tf.GradientTape() as tape:
        tape.watch(x)
        value = tf.reduce_sum(log_prob(x, c))
      found = tape.gradient(value, [x, *weights], unconnected_gradients='zero')
      gradients.append([tf.convert_to_tensor(g) for g in found])
    for found, expected in zip(*gradients):
      scale = 20.0 * (1 + float(tf.reduce_max(tf.abs(expected))))
      self._close(found, expected, 'gradient', scale)
    with tf.GradientTape() as tape:
      z = self.model.encode(x, c)
      tape.watch(z)
      self.model.decode(z, c)
      self.model.sample(condition=c)

  def saved(self):
    """The same model again from a file; what goes on is the one that was loaded."""
    x, c = self._pair()
    expected = self.model.log_prob(x, c, seed=1)
    path = str(self._folder / 'm.keras')
    self.model.save(path)
    self.model = keras.saving.load_model(path, {'FlowModel': tff.FlowModel})
    self._close(self.model.log_prob(x, c, seed=1), expected, 'after loading')

  def copied(self):
    """A copy of the distribution has the same density, and weights of its own."""
    if self._is_pixels:
      return
    x, c = self._pair()
    keywords = self._keywords(c)
    flow = self.model.distribution
    if self._outer != 'none' and c is not None:
      return
    x = tf.constant(x, self._dtype)
    expected = flow.log_prob(x, **keywords)
    other = pickle.loads(pickle.dumps(flow))
    self._close(other.log_prob(tf.identity(x), **keywords), expected, 'copy')
    for v in other.trainable_variables:
      v.assign_add(tf.ones_like(v))
    again = flow.log_prob(tf.identity(x), **keywords)
    self._close(again, expected, 'after the copy has changed')

  def exported(self):
    """The SavedModel computes the same."""
    x, c = self._pair()
    if self._is_pixels:
      x = x.astype('uint8')
    else:
      x = x.astype(self._dtype)
    path = tempfile.mkdtemp(dir=self._folder)
    tff.export_saved_model(self.model, path)
    loaded = tf.saved_model.load(path)
    inputs = dict(x=tf.constant(x), seed=tf.constant([0, 1]))
    if c is not None:
      inputs['condition'] = tf.constant(c, self._dtype)
    found = loaded.signatures['log_prob'](**inputs)['log_prob']
    expected = self.model.log_prob(x, c, seed=1)
    self._close(found, expected, 'the export')

  def adapted(self):
    """`adapt` leaves the likelihood finite."""
    x, c = self._pair(13)
    self.model.adapt(x, c)
    assert np.isfinite(self.model.log_prob(x, c)).all()

  def bad(self):
    """Input that no model takes: to be refused."""
    x, c = self._pair(5)
    wrong = self._rng.choice(
      ['shape', 'nan', 'text', 'condition', 'labels', 'empty', 'nan condition']
    )
    call = self._rng.choice([self.model.log_prob, self.model.encode, self._fit_plain])
    if wrong == 'shape':
      x = np.repeat(x[..., np.newaxis], x.shape[-1] + 1, axis=-1)
    elif wrong == 'nan':
      x = np.full(x.shape, np.nan)
    elif wrong == 'text':
      x = x.astype(str)
    elif wrong == 'condition':
      c = None if self._has_condition else np.ones([5, 2], 'f4')
    elif wrong == 'labels':
      x, c = self._examples(3), np.arange(3)
    elif wrong == 'empty':
      call, x, c = self._fit_plain, x[:0], c if c is None else c[:0]
    elif wrong == 'nan condition':
      c = np.full([5, CONDITION_SIZE], np.nan)
    try:
      call(x, c)
    except (ValueError, TypeError) as error:
      text = str(error).strip()
      said = re.search('expect', text, re.I) and re.search('receive', text, re.I)
      if not said or len(text.splitlines()) > 1:
        raise AssertionError(f'{wrong}: {text}') from error
      raise _Refused(text) from error
    raise AssertionError(f'{wrong} was taken by {call.__name__}')

  def _fit_plain(self, x, c):
    if not self.model.compiled:
      self.model.compile(keras.optimizers.SGD(1e-3), jit_compile=self._jit)
    self.model.fit(x, c, verbose=0)

  def calls(self, count: int) -> list[Callable[[], None]]:
    """The calls of this case, in order."""
    common = [self.log_prob, self.predict, self.fit, self.sample, self.latents]
    common += [self.batches, self.taped, self.broadcast, self.drawn, self.bad]
    rare = [self.saved, self.copied, self.adapted, self.exported]
    weights = [4] * len(common) + [2, 2, 2, 1]
    return self._rng.choices([*common, *rare], weights, k=count)


class _Refused(Exception):
  """A call was refused as it should be."""


def run(case: Case, count: int) -> list[tuple[str, Outcome]]:
  """The outcome of each call of a case, by its name; the first failure ends it."""
  found = []
  for call in case.calls(count):
    outcome = _outcome(call)
    found.append((call.__name__, outcome))
    if outcome.kind == FAILED:
      break
  return found


def _outcome(call):
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('error')
      warnings.filterwarnings('ignore', '__array__', DeprecationWarning)
      warnings.filterwarnings('ignore', 'distutils', DeprecationWarning)
      call()
  except _Refused as refusal:
    return Outcome(REFUSED, str(refusal))
  except Exception as error:
    trace = traceback.format_exc().splitlines()
    own = [line.strip() for line in trace if 'tfp_flows/' in line][-1:]
    return Outcome(FAILED, f'{type(error).__name__}: {str(error)[:600]} {own}')
  return Outcome(OK)


def outcomes_of(
  i: int, seed: int, calls: int, verbose: bool = False
) -> list[tuple[str, Outcome]]:
  """Each call of one case with its outcome; prints those that failed."""
  start = time.time()
  with tempfile.TemporaryDirectory() as folder:
    try:
      case = Case(f'{seed}-{i}', pathlib.Path(folder))
    except Exception as error:
      outcomes, name = [('build', Outcome(FAILED, repr(error)))], '?'
    else:
      outcomes, name = run(case, calls), str(case)
  if verbose:
    print(f'{i}: {name}: {time.time() - start:.1f} s', flush=True)
  for call, outcome in outcomes:
    if outcome.kind == FAILED:
      print(f'{i}: {name}: {call}\n   {outcome.text}', flush=True)
  return outcomes


def main() -> None:
  """Prints the number of calls by outcome."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--cases', type=int, default=300)
  parser.add_argument('--first', type=int, default=0, help='Index of the first case.')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--calls', type=int, default=5, help='Calls of each case.')
  parser.add_argument('--verbose', action='store_true')
  options = parser.parse_args()
  start = time.time()
  one = functools.partial(
    outcomes_of, seed=options.seed, calls=options.calls, verbose=options.verbose
  )
  cases = range(options.first, options.first + options.cases)
  # TensorFlow keeps what it has compiled: a process per ten cases gives it back.
  with multiprocessing.get_context('spawn').Pool(1, maxtasksperchild=10) as pool:
    found = [call for calls in pool.imap(one, cases) for call in calls]
  kinds = collections.Counter(outcome.kind for _, outcome in found)
  seconds = time.time() - start
  print(f'{options.cases} cases, {len(found)} calls in {seconds:.0f} s: {dict(kinds)}')
  sys.exit(int(kinds[FAILED] > 0))


if __name__ == '__main__':
  main()
