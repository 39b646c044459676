"""Steps that are not finite: what they leave behind, and what is said of them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff
from tests import test_util
from tfp_flows.model import flow_model
from tfp_flows.model import guard

tfb, tfd = tfp.bijectors, tfp.distributions


def normal(*shape, seed=0):
  return test_util.normal(shape, 'float32', seed).numpy()


def over_normal(layers):
  (*_, size) = layers[0].forward_event_shape([4])
  base = tfd.Sample(tfd.Normal(0.0, 1.0), size, name='base')
  flow = tff.Sequential(layers, name='flow')
  return tfd.TransformedDistribution(
    base, tfb.Invert(flow), kwargs_split_fn=lambda kwargs: ({}, kwargs)
  )


def compiled(distribution, optimizer=None, mode='graph'):
  test_util.perturb(distribution, 0.05)
  model = tff.FlowModel(distribution, seed=0)
  tff.update_norms(distribution)
  model.compile(
    optimizer or keras.optimizers.SGD(1e-3),
    run_eagerly=mode == 'eager',
    jit_compile=mode == 'xla',
  )
  return model


def small_glow(**options):
  return tff.glow([4], num_steps=3, width=4, seed=0, **options)


def state(model):
  values = [*model.variables, *model.optimizer.variables]
  return [v.numpy().copy() for v in values]


def assert_same(first, second):
  for a, b in zip(first, second, strict=True):
    np.testing.assert_array_equal(a, b)


def variable(model, name):
  (found,) = [v for v in model.distribution.trainable_variables if name in v.name]
  return found


def caught(model, *data, **options):
  """The error of `fit` on one batch."""
  options = dict(batch_size=len(data[0]), verbose=0) | options
  with pytest.raises(tff.NonFiniteError) as info:
    model.fit(*data, **options)
  return info.value


# What a bad step leaves behind.


def everything():
  """A flow with weights, moving statistics, norms and dropout."""
  network = tff.MLP([2], 4, hidden=(4,), condition_size=3, dropout=0.1, seed=0)
  return over_normal(
    [
      tff.MovingBatchNorm([4]),
      tff.AffineCoupling(tff.ChannelMask([4]), network),
      residual(0),
    ]
  )


@pytest.mark.parametrize('mode', ['xla', 'graph', 'eager'])
def test_a_bad_step_leaves_nothing_behind(mode):
  optimizer = keras.optimizers.Adam(
    1e-2, global_clipnorm=1.0, use_ema=True, ema_momentum=0.9
  )
  model = compiled(everything(), optimizer, mode)
  step = model.train_step
  if mode != 'eager':
    step = tf.function(step, autograph=False, jit_compile=mode == 'xla')
  x, c, bad = tf.constant(normal(6, 4)), tf.eye(6, 3), np.eye(6, 3, dtype='f4')
  bad[4, 1] = np.nan
  weight = tf.ones([6])

  start = state(model)
  first = step((x, c, weight))
  frozen = state(model)
  assert sum((a != b).any() for a, b in zip(start, frozen[: len(start)])) > 10
  with_bad = step((x, tf.constant(bad), weight))
  assert_same(state(model), frozen)
  after = step((x + 1.0, c, weight))
  assert_same(state(model), frozen)
  for logs in (with_bad, after):
    np.testing.assert_array_equal(logs['loss'], first['loss'])

  # The batch of the first bad step is kept, not that of the last one.
  for kept, given in zip(model._guard.batch(), (x, bad, weight)):
    np.testing.assert_array_equal(kept, given)
  with pytest.raises(tff.NonFiniteError, match='the condition of the batch .* row 4'):
    model.check_finite()
  assert_same(state(model), frozen)

  model.thaw()
  model.check_finite()
  step((x, c, weight))
  changed = [(a != b).any() for a, b in zip(state(model), frozen)]
  assert sum(changed) > 10
  assert int(model.optimizer.iterations) == 2


def test_a_run_goes_on_as_if_there_had_been_no_bad_batch():
  x, runs = normal(40, 4), []
  for has_bad in (False, True):
    model = compiled(small_glow(), keras.optimizers.Adam(1e-2))
    if has_bad:
      weight = np.ones(24, 'f4')
      weight[20] = np.inf
      error = caught(model, x[:24], sample_weight=weight, batch_size=8, shuffle=False)
      assert (error.step, error.layer, error.what) == (3, 'the batch', 'batch')
      assert 'sample weights' in str(error)
    else:
      model.fit(x[:16], batch_size=8, verbose=0, shuffle=False)
    model.fit(x[24:], batch_size=8, verbose=0, shuffle=False)
    runs.append(state(model))
  assert_same(*runs)


# Which layer is named.


def test_a_weight():
  model = compiled(small_glow())
  x = normal(16, 4)
  model.fit(x, batch_size=8, verbose=0)
  scale = variable(model, 'act_norm/log_scale')
  scale.assign(tf.tensor_scatter_nd_update(scale, [[1, 2]], [np.nan]))
  error = caught(model, x)
  assert (error.step, error.layer, error.what) == (
    3,
    'level 1 / step 2 / act_norm',
    'weight',
  )
  message = 'step 3 the weight log_scale[2] of level 1 / step 2 / act_norm is NaN'
  assert message in str(error)
  assert 'lower the learning rate' in str(error)


def test_a_weight_of_a_network():
  model = compiled(small_glow(condition_size=3))
  kernel = next(v for v in model.trainable_variables if 'dense' in v.path)
  kernel.assign(tf.tensor_scatter_nd_update(kernel.value, [[2, 0, 1]], [np.inf]))
  error = caught(model, normal(8, 4), np.eye(8, 3, dtype='f4'))
  assert (error.layer, error.what) == ('level 1 / step 3 / coupling', 'weight')
  assert 'kernel[0, 1] of level 1 / step 3 / coupling' in str(error)


@pytest.mark.parametrize('memory', ['stored', 'reversible'])
def test_a_value_inside_of_repeated_steps(memory):
  model = compiled(small_glow(memory=memory), mode='xla' if memory == 'stored' else '')
  scale = variable(model, 'act_norm/log_scale')
  scale.assign(tf.tensor_scatter_nd_update(scale, [[1, 2]], [95.0]))  # exp overflows
  error = caught(model, normal(8, 4))
  assert (error.layer, error.what) == ('level 1 / step 2 / act_norm', 'value')
  assert 'the value of level 1 / step 2 / act_norm is NaN or infinite' in str(error)


class Odd(tff.FlowBijector):
  """`x + b`, with a flaw where `x` is 7."""

  def __init__(self, flaw):
    super().__init__(forward_min_event_ndims=1, dtype=tf.float32, name='odd')
    self._flaw = flaw
    self.b = tf.Variable(tf.zeros([4]), name='b')

  def _forward_and_log_det(self, x, condition=None):
    is_seven = x == 7.0
    y, log_det = x + self.b, tf.zeros([])
    if self._flaw == 'value':
      y = tf.where(is_seven, np.inf, y)
    elif self._flaw == 'log-det':
      log_det = tf.reduce_sum(tf.where(is_seven, np.nan, 0.0), -1)
    elif self._flaw == 'gradient':
      y += tf.where(is_seven, tf.sqrt(7.0 - x), 0.0)
    elif self._flaw == 'gradient of a weight':
      y += tf.where(is_seven, tf.sqrt(self.b), 0.0)
    return y, log_det


def coupling(seed=0):
  network = tff.MLP([2], 4, hidden=(4,), seed=seed)
  return tff.AffineCoupling(tff.ChannelMask([4]), network)


@pytest.mark.parametrize(
  'flaw', ['value', 'log-det', 'gradient', 'gradient of a weight']
)
def test_a_flaw_of_a_layer(flaw):
  norm, odd = tff.ActNorm([4]), Odd(flaw)
  model = compiled(over_normal([norm, coupling(0), odd, coupling(1)]))
  for v in (norm.shift, norm.log_scale, odd.b):
    v.assign(tf.zeros([4]))
  x = normal(8, 4)
  model.fit(x, batch_size=8, verbose=0)
  for v in (norm.shift, norm.log_scale, odd.b):
    v.assign(tf.zeros([4]))
  x[3, 0] = 7.0  # The first half passes the couplings unchanged.
  before = state(model)
  error = caught(model, x)
  assert_same(state(model), before)
  assert (error.step, error.layer, error.what) == (2, 'odd', flaw.split()[0])
  texts = {
    'value': 'the value of odd is NaN or infinite first',
    'log-det': 'the log-det of odd is NaN or infinite first',
    'gradient': 'the gradient at the input of odd is',
    'gradient of a weight': 'the gradient of the weight b of odd is',
  }
  assert texts[flaw] in str(error)
  if flaw == 'gradient':
    assert 'those of the weights' in str(error)
    assert 'of act_norm' in str(error)


def test_the_output_of_a_network():
  model = compiled(over_normal([coupling(0), coupling(1)]))
  last = model.trainable_variables[2]
  last.assign(tf.fill(last.shape, 3e38))
  error = caught(model, normal(8, 4))
  assert (error.layer, error.what) == ('affine_coupling 1', 'value')
  assert 'the output of the network of affine_coupling 1' in str(error)


def test_the_density_of_the_latents():
  norm = tff.ActNorm([4])
  model = compiled(over_normal([norm, coupling()]))
  norm.log_scale.assign(tf.fill([4], 50.0))  # Squares overflow.
  error = caught(model, normal(8, 4))
  assert (error.layer, error.what) == ('base', 'base')
  assert 'the log-probability of base is' in str(error)


def test_squared_gradients_too_large_to_add():
  """Each norm is finite; clipping would divide by the root of their sum."""
  flow = over_normal([tff.ActNorm([4], name='first'), tff.ActNorm([4], name='second')])
  model = compiled(flow, keras.optimizers.SGD(1e-3, global_clipnorm=1.0))
  before = state(model)
  huge = np.full([4], 0.45 * np.finfo('float32').max ** 0.5, 'float32')
  gradients = [tf.constant(huge) for _ in model.trainable_variables]
  assert all(np.isfinite(np.sum(g.numpy() ** 2)) for g in gradients)
  step = model._guard.begin([])
  made = step.finish(
    [tf.constant(1.0), *gradients],
    lambda: model.optimizer.apply(gradients, model.trainable_variables),
    model,
    (tf.zeros([2, 4]), None, None),
  )
  assert not made
  assert_same(state(model), before)


def test_a_gradient_too_large_to_square():
  # Adam would never move the weight again, and clipping would make NaN of it.
  norm = tff.ActNorm([4])
  model = compiled(over_normal([norm]), keras.optimizers.Adam(1e-3))
  norm.log_scale.assign([0.0, 0.0, 0.0, 42.0])
  error = caught(model, normal(8, 4))
  assert (error.layer, error.what) == ('act_norm', 'gradient')
  assert 'too large to square' in str(error)


def test_a_plain_bijector_and_names_of_equal_layers():
  flow = over_normal(
    [coupling(0), tfb.Scale(tf.constant(2.0)), tfb.Invert(tfb.Softplus()), coupling(1)]
  )
  x = 1.0 + np.abs(normal(8, 4))
  model = compiled(flow)
  for v in model.trainable_variables:
    v.assign(tf.zeros_like(v))
  model.fit(x, verbose=0)
  x[0, 0] = -1.0
  error = caught(model, x)
  assert (error.layer, error.what) == ('softplus', 'value')
  kernel = model.trainable_variables[-1]
  kernel.assign(tf.fill(kernel.shape, np.nan))
  assert caught(model, np.abs(x)).layer == 'affine_coupling 2'


def residual(seed):
  branch = tff.LipschitzMLP(
    [4], hidden=(4,), lipschitz=0.8**2, zero_last=False, seed=seed
  )
  exact = tff.LogDet(tff.ExactLogDet(), tff.ExactLogDet())
  return tff.ResidualFlow(branch, [4], exact)


def test_a_residual_flow():
  model = compiled(over_normal([residual(0), residual(1)]))
  kernel = [v for v in model.trainable_variables if 'kernel' in v.path][-1]
  kernel.assign(tf.fill(kernel.shape, np.nan))
  error = caught(model, normal(8, 4))
  assert (error.layer, error.what) == ('residual_flow 2', 'weight')


def test_a_solver():
  field = tff.FieldMLP(2, hidden=[4], activation='softplus', seed=0)
  solver = tff.DormandPrince(1e-4, 1e-4, max_num_steps=20)
  exact = tff.Trace(tff.ExactTrace(), tff.ExactTrace())
  flow = tff.Sequential([tff.ActNorm([2]), tff.FFJORD(field, [2], exact, solver)])
  base = tfd.Sample(tfd.Normal(0.0, 1.0), [2])
  model = compiled(tfd.TransformedDistribution(base, tfb.Invert(flow)))
  x = normal(8, 2)
  model.fit(x, verbose=0)
  for v in field.trainable_variables:
    v.assign(1e3 * tf.ones_like(v))
  error = caught(model, x)
  assert isinstance(error, flow_model.SolverError)
  assert (error.step, error.layer, error.what) == (2, 'ffjord', 'solver')
  assert 'the solver of ffjord failed' in str(error)


# When it is looked for.


class Batches(keras.callbacks.Callback):
  """Counts the steps and the epochs that are over."""

  def __init__(self):
    super().__init__()
    self.steps = self.epochs = 0

  def on_train_batch_end(self, batch, logs=None):
    self.steps += 1
    assert np.isfinite(logs['loss'])

  def on_epoch_end(self, epoch, logs=None):
    self.epochs += 1


@pytest.fixture(scope='module')
def vectors():
  model = compiled(over_normal([coupling()]))
  return model, [v.numpy() for v in model.variables]


@pytest.fixture
def vector_model(vectors):
  model, values = vectors
  for v, value in zip(model.variables, values):
    v.assign(value)
  return model


@pytest.mark.parametrize(('every', 'steps'), [(1, 2), (3, 3), (None, 8)])
def test_how_often_it_looks(vector_model, every, steps):
  weight = np.ones(16, 'f4')
  weight[2] = np.nan
  seen = Batches()
  callbacks = [seen]
  if every is not None:
    callbacks.append(tff.StopOnNonFinite(every))
  options = dict(sample_weight=weight, batch_size=2, shuffle=False)
  before = int(vector_model.optimizer.iterations)
  error = caught(vector_model, normal(16, 4), callbacks=callbacks, **options)
  assert error.step == before + 2
  assert (seen.steps, seen.epochs) == (steps, 0)


def test_a_weight_after_the_last_step(vector_model, tmp_path):
  class Spoil(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
      v = self.model.trainable_variables[0]
      v.assign(tf.fill(v.shape, np.nan))

  path = tmp_path / 'last.weights.h5'
  save = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
  error = caught(vector_model, normal(4, 4), callbacks=[save, Spoil()])
  assert (error.layer, error.what) == ('affine_coupling', 'weight')
  assert 'after training step' in str(error)
  assert not path.exists()


def test_validation_data_may_overflow(vector_model):
  x = normal(8, 4)
  data = dict(x=x, validation_data=(1e25 * x,), verbose=0)
  history = vector_model.fit(**data).history
  assert not np.isfinite(history['val_loss'][0])
  with pytest.raises(tff.NonFiniteError, match='val_loss became NaN or inf') as info:
    vector_model.fit(**data, callbacks=[tff.StopOnNonFinite()])
  assert info.value.what == 'validation'


def test_bad_arguments():
  with pytest.raises(ValueError, match='every >= 1, a number of steps; received 0'):
    tff.StopOnNonFinite(0)


def test_a_batch_of_unknown_size():
  # XLA keeps variables of one shape.
  x = np.ones([8, 4], 'f4')
  weight = np.ones(8, 'f4')
  weight[7] = np.nan
  data = test_util.dataset((x, np.zeros([8, 0], 'f4'), weight))
  data = data.map(lambda x, _, w: (x, None, w)).batch(5)
  layers, found = [], []
  for mode in ('graph', 'xla'):
    model = compiled(over_normal([tff.ActNorm([4])]), mode=mode)
    found.append(caught(model, data, batch_size=None))
    norm = model.distribution.bijector.bijector.bijectors[0]
    norm.shift.assign(tf.fill([4], np.nan))
    layers.append(caught(model, data, batch_size=None).layer)
  assert [e.what for e in found] == ['batch', 'batch']
  assert all('of the batch are NaN or infinite in row 2. ' in str(e) for e in found)
  assert [e.step for e in found] == [2, 2]
  assert layers == ['act_norm', 'act_norm']


# The way back.


def test_rollback_reaches_the_usual_result(tmp_path):
  x = normal(64, 4) @ normal(4, 4, seed=1) + 2.0
  weight = np.ones(64, 'f4')
  weight[40] = np.nan
  rate = tff.ScaledSchedule(keras.optimizers.schedules.PolynomialDecay(5e-2, 100, 1e-2))
  model = compiled(
    over_normal([tff.ActNorm([4]), coupling(0), tff.Invertible1x1ConvLU([4], seed=0)]),
    keras.optimizers.Adam(rate),
  )
  traces, step = [], model.train_step
  model.train_step = lambda data: traces.append(0) or step(data)
  model.adapt(x)
  model.optimizer.build(model.trainable_variables)
  start = state(model)
  losses = []
  for has_trouble in (False, True):
    for v, value in zip([*model.variables, *model.optimizer.variables], start):
      v.assign(value)

    def train(epochs, weight=None):
      options = dict(batch_size=16, verbose=0, shuffle=False)
      model.fit(x, sample_weight=weight, epochs=epochs, **options)

    train(5)
    if has_trouble:
      path = tmp_path / 'good.weights.h5'
      model.save_weights(path)
      with pytest.raises(tff.NonFiniteError, match='step 23 the sample weights'):
        train(1, weight)
      rate.factor.assign(0.5 * rate.factor)
      variable(model, 'shift').assign(np.full([4], np.nan))
      with pytest.raises(tff.NonFiniteError, match='step 23 the weight shift'):
        train(1)
      model.load_weights(path)
      rate.factor.assign(0.5 * rate.factor)
    train(20)
    losses.append(model.evaluate(x, verbose=0))
  assert model.optimizer.iterations == 100  # Those of the file, too.
  assert float(model.optimizer.learning_rate) == pytest.approx(0.25e-2)
  assert len(traces) == 1
  np.testing.assert_allclose(*losses, atol=0.15)


@pytest.mark.parametrize('jit_compile', [False, True])
def test_one_of_many_values(jit_compile):
  @tf.function(jit_compile=jit_compile)
  def is_finite(x):
    return guard._all_finite([*tf.unstack(x), None])

  x = np.ones([300, 2], 'float32')
  assert is_finite(x)
  for value in (np.nan, np.inf, 1e30):  # The square of the last is infinite.
    x[217, 1] = value
    assert not is_finite(x)
  # As is the sum of squares that are not.
  assert not is_finite(np.full([300, 2], 1e18, 'float32'))
  assert is_finite(np.full([300, 2], 1e17, 'float32'))
