"""Builders and layers with random arguments: they work, or say what they expect.

What can be built must invert, with log-determinants that agree and are right, and with
the shapes it was built for. What cannot must raise `ValueError` or `TypeError` with a
message that says what is expected and what was received.
"""

import inspect
import math
import re
import warnings

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

import tfp_flows as tff
from tests import test_util
from tfp_flows.flows import MODELS

DTYPES = ('float32', 'float64')
ATOL = {'float32': 2e-3, 'float64': 1e-7}


def examples(count):
  return hypothesis.settings(
    max_examples=count,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[hypothesis.Phase.generate],  # A failure is not made smaller: that is slow.
    suppress_health_check=list(hypothesis.HealthCheck),
  )


def attempt(fn):
  """What `fn` returns, or None if it says in the right way why it cannot."""
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore', UserWarning)  # Of infinite variance.
      return fn()
  except (ValueError, TypeError) as error:
    text = str(error)
    if not (re.search('expect', text, re.I) and re.search('receive', text, re.I)):
      raise
    return None


def oneof(*values):
  return st.sampled_from(values)


def check(bijector, event_shape, batch, dtype, condition_size=None, atol=None):
  """`bijector` inverts, with log-dets of the batch shape that are right."""
  atol = atol or ATOL[dtype]
  test_util.perturb(bijector, 0.05)
  tff.update_norms(bijector)
  x = test_util.normal((*batch, *event_shape), dtype, 1)
  pixels = [m for m in bijector.submodules if isinstance(m, tff.Preprocess)]
  if isinstance(bijector, tff.Preprocess):
    pixels = [bijector]
  if pixels:
    x = pixels[0].num_bins * tf.sigmoid(x)
  kwargs = {}
  if condition_size is not None:
    kwargs['condition'] = test_util.normal((*batch, condition_size), dtype, 2)
  y, log_det = bijector.forward_and_log_det(x, **kwargs)
  back, inverse = bijector.inverse_and_log_det(tf.identity(y), **kwargs)
  assert back.shape == x.shape
  assert back.dtype == y.dtype == log_det.dtype == x.dtype
  extra = len(event_shape) - bijector.forward_min_event_ndims
  assert log_det.shape == (*batch, *event_shape[:extra])
  wanted = bijector.forward_event_shape(event_shape)
  assert y.shape[len(batch) :] == wanted
  scale = max(1.0, float(np.abs(x).max())) if 0 not in x.shape else 1.0
  np.testing.assert_allclose(back, x, atol=scale * atol)
  size = math.prod(event_shape)
  np.testing.assert_allclose(inverse, -log_det, atol=size * atol)
  is_exact = not any(isinstance(m, tff.FFJORD) for m in bijector.submodules)
  if (
    is_exact
    and dtype == 'float64'
    and batch in ((1,), (2,))
    and size <= 8
    and not extra
  ):
    exact = test_util.autodiff_log_det(
      lambda x: bijector.forward_and_log_det(x, **kwargs)[0], tf.identity(x)
    )
    np.testing.assert_allclose(log_det, exact, atol=max(1e-6, atol))


BATCHES = oneof((), (1,), (2,), (1, 2), (0,), (2, 1, 1))

VECTORS = st.tuples(st.integers(1, 5))
IMAGES = st.tuples(oneof(1, 2, 3, 4, 6), oneof(1, 2, 4), st.integers(1, 3))
# Most are shapes; the others must be refused.
STRANGE = [
  (),
  (0,),
  (-1,),
  (2, 2),
  (2, 2, 1, 1),
  (None,),
  (4, 0, 1),
  'ab',
  (2.5,),
  None,
]
STRANGE += [(10**30,), ('a',), [[2]], 3.5]
SHAPES = st.one_of(VECTORS, VECTORS, IMAGES, IMAGES, IMAGES, st.sampled_from(STRANGE))

# Values of one or another kind, for arguments of all kinds.
ANYTHING = [None, True, 0, -1, 1, 2, 2.5, 1e-3, -0.5, math.nan, math.inf, 10**30, '']
ANYTHING += ['nope', 'affine', 'softmax', [], [4], [4, 0], (3, 3), {}, object]

GOOD = dict(
  act_norm=[True, False],
  act_norm_in_networks=[True, False],
  activation=['tanh'],
  adjoint_tolerance=[None, 1e-3],
  alpha=[None, 0.05, 1e-6],
  base=['normal', 'logistic'],
  basis=['orthogonal', 'householder', 'triangular'],
  condition_size=[None, 1, 3],
  dense_width=[4],
  direction=['density', 'sampling'],
  dropout=[0.0, 0.1],
  dtype=['float64', tf.float32],
  evaluation_log_det=['exact'],
  evaluation_tolerance=[None, 1e-7],
  evaluation_trace=['exact'],
  factor_out=[True, False],
  final_time=[0.5],
  flat_latents=[True],
  hidden=[(4,), (3, 5)],
  jacobian=[0.0, 0.1],
  kinetic=[0.0, 0.1],
  learn_prior=[True, False],
  linear=[None, 'lu'],
  lipschitz=[0.5],
  log_det=['exact'],
  log_det_in_error=[True, False],
  loop=[True, False],
  memory=['stored', 'reversible'],
  name=['flow'],
  negative_slope=[0.1, 1.0],
  norms=[2.0],
  normalization=[None, 'act_norm', 'none'],
  num_bins=[None, 0, 2, 256],
  num_blocks=[1, 2],
  num_dense_blocks=[0, 1],
  num_hidden=[1],
  num_layers=[1, 2],
  num_levels=[1, 2],
  num_reflections=[1, 2],
  num_steps=[1, 2],
  num_terms=[3],
  order=['alternating', 'random'],
  precision=[None],
  rank=[None, 1],
  scale=['sigmoid', 'tanh', 'clamp'],
  seed=[0],
  solver=['dormand_prince'],
  solver_steps=[4],
  time=['concat', 'concatsquash'],
  tolerance=[1e-6],
  trainable_time=[True, False],
  trace=['exact'],
  transformer=['affine', 'spline', 'mixture'],
  width=[4],
  zero_last=[True, False],
)
# What makes the exact inverse and log-determinant of a builder inexact or slow.
FIXED = dict(
  # The same noise for both directions; 4 steps of the fixed grid.
  ffjord=dict(evaluation_trace='hutchinson', solver='rk4', solver_steps=4),
  residual_flow=dict(log_det='exact', evaluation_log_det='exact', tolerance=None),
)


@st.composite
def arguments(draw, builder):
  """Good arguments, but for at most one."""
  names = [n for n in inspect.signature(builder).parameters if n != 'event_shape']
  missing = set(names) - set(GOOD)
  assert not missing, f'No values are given for {missing}.'
  found = {name: draw(st.sampled_from(GOOD[name])) for name in names}
  found |= FIXED.get(builder.__name__, {})
  bad = draw(st.one_of(st.none(), st.sampled_from(names)))
  if bad is not None and bad not in ('name', 'seed'):
    found[bad] = draw(st.sampled_from(ANYTHING))
  return found


COUNTS = dict(glow=20, real_nvp=20, nice=20, maf=20, residual_flow=6, ffjord=6)


@pytest.mark.parametrize('name', MODELS)
def test_builders(name):
  @examples(COUNTS.get(name, 8))
  @hypothesis.given(SHAPES, BATCHES, arguments(MODELS[name]))
  def run(shape, batch, options):
    flow = attempt(lambda: MODELS[name](shape, **options))
    if flow is None or not isinstance(flow.event_shape, tf.TensorShape):
      return
    dtype = tf.as_dtype(options['dtype']).name
    size, atol = options.get('condition_size'), {'ffjord': 1e-2}.get(name)
    check(flow.bijector.bijector, shape, batch, dtype, size, atol)

  run()


@pytest.mark.parametrize('name', MODELS)
def test_good_arguments_are_accepted(name):
  """So that the test above does not pass because all is refused."""
  options = {
    n: GOOD[n][0] for n in inspect.signature(MODELS[name]).parameters if n in GOOD
  }
  MODELS[name]([4], **options | FIXED.get(name, {}))


LAYERS = {
  'ActNorm': lambda s, o: tff.ActNorm(s, dtype=o['dtype']),
  'Invertible1x1ConvLU': lambda s, o: tff.Invertible1x1ConvLU(
    s, seed=0, dtype=o['dtype']
  ),
  'MovingBatchNorm': lambda s, o: tff.MovingBatchNorm(s, o['decay'], dtype=o['dtype']),
  'Preprocess': lambda s, o: tff.Preprocess(o['bins'], o['alpha'], o['dtype']),
  'Squeeze': lambda s, o: tff.Squeeze(o['block'], o['order']),
  'coupling': lambda s, o: _coupling(o['mask'](s, o['invert']), o),
  'Multiscale': lambda s, o: tff.Multiscale(
    [_coupling(tff.ChannelMask(s), o), *[_later(s, o)] * o['levels']], s
  ),
  'Sequential': lambda s, o: tff.Sequential(
    [
      tff.ActNorm(s, dtype=o['dtype']),
      *[_coupling(tff.ChannelMask(s), o)] * o['levels'],
    ],
    o['memory'],
  ),
  'Repeated': lambda s, o: tff.Repeated(
    [_coupling(tff.ChannelMask(s), o) for _ in range(o['levels'])],
    o['memory'],
    o['loop'],
  ),
}

OPTIONS = st.fixed_dictionaries(
  dict(
    alpha=oneof(None, 0.05, 1e-6, 0.0, 0.5, math.nan, -1),
    bins=oneof(2, 17, 256, 1, 0, -3, 2.5, '2', True),
    block=oneof(2, 2, 3, 1, 0, -2, 2.5, 2.0, '2', None, 10**30),
    decay=oneof(0.0, 0.99, 1.0, -1.0, math.nan),
    dtype=oneof('float64', 'float64', 'float32', tf.float64, 'int32', 'nope', 3, bool),
    invert=st.booleans(),
    levels=oneof(0, 1, 2),
    loop=st.booleans(),
    mask=oneof(tff.ChannelMask, tff.CheckerboardMask, lambda s, i: _index_mask(s, i)),
    memory=oneof('stored', 'reversible', 'none', None),
    order=oneof('glow', 'real_nvp', 'row', None),
    scale=oneof('sigmoid', 'tanh', 'clamp', 'exp'),
    wrong=oneof(0, 0, 0, 1, -1),
  )
)


def _index_mask(shape, invert):
  (size,) = shape if isinstance(shape, tuple) and len(shape) == 1 else (3,)
  size = size if isinstance(size, int) and 0 < size < 9 else 3
  return tff.IndexMask(np.arange(size) % 2 == invert)


def _coupling(mask, o):
  """With a network for the mask, or for another one."""
  *space, kept = mask.kept_shape
  outputs = 2 * mask.changed_shape[-1] + o['wrong']
  dtype = o['dtype'] if o['dtype'] in DTYPES else 'float64'
  if space:
    net = tff.ConvNet([*space, kept], outputs, width=3, seed=0, dtype=dtype)
  else:
    net = tff.MLP(kept, outputs, hidden=(3,), seed=0, dtype=dtype)
  return tff.AffineCoupling(mask, net, o['scale'], dtype=o['dtype'])


def _later(shape, o):
  kept = tff.ChannelMask(shape).kept_shape
  return tff.ActNorm(kept, dtype=o['dtype'])


@pytest.mark.parametrize('name', LAYERS)
def test_layers(name):
  @examples(15)
  @hypothesis.given(SHAPES, BATCHES, OPTIONS)
  def run(shape, batch, options):
    layer = attempt(lambda: LAYERS[name](shape, options))
    is_shape = isinstance(shape, tuple) and all(type(n) is int and n > 0 for n in shape)
    if layer is None or not is_shape or math.prod(shape) > 1000:
      return
    dtype = (layer.dtype or tf.float64).name
    x = tf.zeros([*batch, *shape], dtype)
    if attempt(lambda: layer.forward_and_log_det(x)) is not None:
      check(layer, shape, batch, dtype)

  run()


@examples(40)
@hypothesis.given(oneof(*[n for n in LAYERS if n != 'Preprocess']), OPTIONS, SHAPES)
def test_events_of_another_shape_are_refused(name, options, other):
  """And never broadcast into something."""
  shape = (4,) if name not in ('Squeeze',) else (4, 4, 1)
  if options['mask'] is tff.CheckerboardMask:
    shape = (4, 4, 2)
  good = options | dict(wrong=0, dtype='float64', block=2, order='glow', scale='clamp')
  good |= dict(decay=0.5, memory='stored', levels=1)
  layer = LAYERS[name](shape, good)
  valid = isinstance(other, tuple) and all(type(n) is int and 0 < n < 99 for n in other)
  if not valid:
    return
  x = tf.zeros([2, *other], 'float64')
  for fn in (layer.forward, layer.inverse, layer.forward_and_log_det):
    found = attempt(lambda fn=fn, x=x: fn(tf.identity(x)))
    if name == 'Squeeze':
      continue
    fits = other[-len(shape) :] == shape
    inverse_fits = fn == layer.inverse and name == 'Multiscale'
    assert (found is not None) == fits or inverse_fits, (name, other)


@examples(40)
@hypothesis.given(
  BATCHES, BATCHES, oneof(0, 1, 2, 3), oneof('float32', 'float64', 'int32')
)
def test_conditions(batch, other, size, dtype):
  """A condition broadcasts against the batch, or is refused."""
  flow = tff.real_nvp([3], num_steps=2, width=4, condition_size=2, seed=0)
  test_util.perturb(flow)
  x = test_util.normal((*batch, 3), 'float32')
  condition = tf.ones([*other, size], dtype)
  found = attempt(lambda: flow.bijector.bijector.forward(x, condition=condition))
  try:
    both = np.broadcast_shapes(batch, other)
  except ValueError:
    both = None
  assert (found is not None) == (size == 2 and both is not None)
  if found is not None:
    assert found.shape == (*both, 3)


NETWORKS = {
  'MLP': lambda a, b, c: tff.MLP(a, b, **c),
  'ConvNet': lambda a, b, c: tff.ConvNet((2, 2, a), b, **c),
  'MADE': lambda a, b, c: tff.MADE(a, b, **c),
  'FieldMLP': lambda a, b, c: tff.FieldMLP(a, **c),
}


@pytest.mark.parametrize('name', NETWORKS)
def test_networks(name):
  @examples(20)
  @hypothesis.given(
    oneof(1, 2, 3, 0, -1),
    oneof(1, 2, 5, 0, -1, 2.5),
    st.fixed_dictionaries(
      dict(
        activation=oneof('relu', 'tanh', 'softmax', 'glu', 'nope', 3),
        condition_size=oneof(None, None, 1, 2, 0, -1, 1.5),
        seed=oneof(0, None),
      )
    ),
  )
  def run(inputs, outputs, options):
    network = attempt(lambda: NETWORKS[name](inputs, outputs, options))
    if network is None:
      return
    shape = (2, 2, inputs) if name == 'ConvNet' else (inputs,)
    args = [tf.zeros([])] if name == 'FieldMLP' else []
    x = tf.ones([3, *shape])
    size = options['condition_size']
    kwargs = {} if size is None else dict(condition=tf.ones([3, size]))
    y = network(*args, x, **kwargs)
    channels = dict(MADE=inputs * outputs, FieldMLP=inputs).get(name, outputs)
    assert y.shape == (3, *shape[:-1], channels)

  run()


@examples(40)
@hypothesis.given(st.lists(oneof(True, False, 0, 1, 2), max_size=5), BATCHES)
def test_index_masks(mask, batch):
  found = attempt(lambda: tff.IndexMask(mask))
  if found is None:
    return
  x = test_util.normal((*batch, len(mask)))
  kept, changed = found.split(x)
  assert kept.shape[-1] == sum(mask)
  np.testing.assert_array_equal(found.merge(kept, changed), x)


def test_the_harness_can_fail():
  class Wrong(tff.ActNorm):
    def _inverse_and_log_det(self, y, condition=None):
      x, log_det = super()._inverse_and_log_det(y, condition)
      return x, 2 * log_det

  with pytest.raises(AssertionError):
    check(Wrong([3], dtype='float64'), (3,), (2,), 'float64')
  with pytest.raises(ValueError, match='no words'):
    attempt(lambda: (_ for _ in ()).throw(ValueError('no words')))
