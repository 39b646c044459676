"""Objects of one's own in the places where layers take masks, maps and the like."""

import inspect

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util
from tests.conformance import checks
from tests.conformance.specs import Spec
from tfp_flows.bijectors import autoregressive
from tfp_flows.bijectors import coupling
from tfp_flows.bijectors import residual_flow
from tfp_flows.bijectors import transformers
from tfp_flows.internal import conditions
from tfp_flows.math import divergence
from tfp_flows.math import log_det

tfb = tfp.bijectors


class Last:
  """A mask: changes the last number of a vector."""

  event_shape, kept_shape, changed_shape = (3,), (2,), (1,)

  def split(self, x):
    return x[..., :2], x[..., 2:]

  def merge(self, kept, changed):
    return tf.concat([kept, changed], axis=-1)


def scaling(params):
  """A transformer."""
  return tfb.Scale(log_scale=params)


class Scaling:
  """A transformer that says what it needs."""

  params_per_dim = 1
  params_first = None

  def __call__(self, params):
    return scaling(params)


def conditioner(x):
  return tf.reduce_sum(tf.sin(x), axis=-1, keepdims=True)


def branch(x):
  return 0.4 * tf.sin(tf.reverse(x, axis=[-1]))


class Branch:
  """A branch that takes a condition, and says so."""

  condition_size = 2
  lipschitz = 0.4

  def __call__(self, x, condition):
    return branch(x + tf.reduce_sum(condition, axis=-1, keepdims=True))


def field(t, x):
  return tf.cast(1 + t, x.dtype) * branch(x)


def estimator(g, x, event_ndims, seed):
  """A `LogDetEstimator`."""
  del seed
  return log_det.exact_log_det(g, x, event_ndims)


class Estimator:
  """A `TraceEstimator`."""

  def draw(self, x, event_ndims, seed):
    del x, seed
    return lambda f, x: divergence.exact_divergence(f, x, event_ndims)


SOLVER = tff.DormandPrince(1e-9, 1e-9)
SPECS = [
  Spec('mask', lambda t: tff.Coupling(Last(), conditioner, scaling, t), (3,)),
  Spec('sized', lambda t: tff.Coupling(Last(), conditioner, Scaling(), t), (3,)),
  Spec(
    'branch',
    lambda t: tff.ResidualFlow(branch, [3], tff.LogDet(estimator, estimator), dtype=t),
    (3,),
  ),
  Spec(
    'field',
    lambda t: tff.FFJORD(
      field, [3], tff.Trace(Estimator(), Estimator()), SOLVER, dtype=t
    ),
    (3,),
  ),
]


@pytest.mark.parametrize('spec', SPECS, ids=lambda spec: spec.name)
def test_objects_of_ones_own_make_layers(spec):
  layer, x = spec.make(), test_util.normal([4, 3])
  y, found = layer.forward_and_log_det(x)
  expected = test_util.autodiff_log_det(layer.forward_value, x)
  np.testing.assert_allclose(found, expected, atol=1e-6)
  assert np.abs(expected).max() > 1e-2
  np.testing.assert_allclose(layer.inverse_value(tf.identity(y)), x, atol=1e-6)
  checks.check_round_trip(spec, layer, 'float64', 1e-6)


def test_a_transformer_that_says_its_size_is_checked():
  wide = lambda x: tf.concat([x, x], axis=-1)  # noqa: E731
  layer = tff.Coupling(Last(), wide, Scaling(), tf.float64)
  with pytest.raises(ValueError, match='1 numbers for each changed'):
    layer.forward(test_util.normal([4, 3]))


def test_a_branch_that_says_its_condition_is_given_it():
  layer = tff.ResidualFlow(Branch(), [3], dtype=tf.float64)
  assert layer.takes_condition
  x, c = test_util.normal([4, 3]), test_util.normal([4, 2], seed=1)
  y = layer.forward(x, condition=c)
  np.testing.assert_allclose(y, x + Branch()(x, c))
  with pytest.raises(ValueError, match=r'`condition` of shape \[..., 2\]'):
    layer.forward(x)


def test_a_branch_that_says_its_bound_is_warned_of():
  class Steep(Branch):
    lipschitz = 0.99

  with pytest.warns(UserWarning, match='0.99'):
    tff.ResidualFlow(Steep(), [3])


def test_estimators_of_other_kinds_are_refused():
  layer = tff.FFJORD(field, [3], dtype=tf.float64)
  with tff.estimation(0, estimator=estimator):
    with pytest.raises(ValueError, match='an estimator of traces'):
      layer.forward(test_util.normal([4, 3]))


@pytest.mark.parametrize(
  ('made', 'protocol'),
  [
    (tff.Additive(), transformers.OneByOne),
    (tff.Affine(3), transformers.OneByOne),
    (tff.RationalQuadratic(), transformers.OneByOne),
    (tff.MixtureCDF(), transformers.OneByOne),
    (tff.Affine(3), transformers.LaidOut),
    (tff.Affine(3), transformers.Sized),
    (tff.RationalQuadratic(), transformers.Sized),
    (tff.MixtureCDF(), transformers.Sized),
    (tff.MADE(3, 2), transformers.LaidOut),
    (tff.MADE(3, 2), autoregressive.InTurn),
    (tff.ConvNet([4, 4, 1], 2, width=4), coupling.Adaptable),
    (tff.LipschitzMLP(3), residual_flow.Bounded),
    (tff.LipschitzMLP(3), residual_flow.Normed),
    (tff.LipschitzConvNet([4, 4, 1], width=4), residual_flow.Normed),
    (tff.MLP(3, 2), conditions.Conditional),
    (tff.FieldMLP(3, [4]), conditions.Conditional),
    (tff.ExactTrace(), tff.TraceEstimator),
    (tff.HutchinsonTrace(), tff.TraceEstimator),
    (tff.RouletteLogDet(), tff.LogDetEstimator),
  ],
  ids=lambda v: getattr(v, '__name__', type(v).__name__),
)
def test_ours_say_what_layers_ask(made, protocol):
  assert isinstance(made, protocol)


@pytest.mark.parametrize(
  ('made', 'protocol'),
  [
    (scaling, transformers.Sized),
    (scaling, transformers.OneByOne),
    (tff.MLP(3, 2), coupling.Adaptable),
    (tff.MLP(3, 2), residual_flow.Normed),
    (tff.MLP(3, 2), autoregressive.InTurn),
    (branch, conditions.Conditional),
    (tff.ExactLogDet(), tff.TraceEstimator),
  ],
  ids=lambda v: getattr(v, '__name__', type(v).__name__),
)
def test_others_say_nothing(made, protocol):
  assert not isinstance(made, protocol)


NAMES = ['Mask', 'Transformer', 'Conditioner', 'Branch', 'Field']
NAMES += ['LogDetEstimator', 'TraceEstimator']


@pytest.mark.parametrize('name', NAMES)
def test_protocols_are_documented(name):
  protocol = getattr(tff, name)
  assert protocol._is_protocol and inspect.getdoc(protocol)
  own = [f for n, f in vars(protocol).items() if n in ('__call__', 'draw', 'split')]
  assert own and all(map(inspect.getdoc, own))
