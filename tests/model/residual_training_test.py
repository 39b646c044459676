import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff
from tests import test_util
from tfp_flows.model import callbacks as callbacks_lib

STEPS_PER_EPOCH = 10


@pytest.fixture(scope='module')
def ring():
  rng = np.random.default_rng(0)
  angle = rng.uniform(0, 2 * np.pi, 64 * STEPS_PER_EPOCH)
  points = 2.0 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
  return (points + 0.2 * rng.standard_normal(points.shape)).astype('f4')


@pytest.fixture(scope='module')
def pixels():
  return np.random.default_rng(0).integers(0, 16, [24, 4, 4, 1]).astype('u1')


def vector_flow(seed=0, **options):
  options = dict(num_blocks=2, width=16, num_hidden=1) | options
  return tff.residual_flow([2], seed=seed, **options)


def small_model(seed=0, **options):
  options = dict(num_blocks=1, width=8) | options
  model = tff.FlowModel(vector_flow(seed, **options), seed=seed)
  model.compile(keras.optimizers.Adam(1e-2), run_eagerly=True)
  return model


def image_model(**options):
  options = dict(num_blocks=1, width=8, num_dense_blocks=1, dense_width=8) | options
  options = dict(num_bins=16, num_hidden=1) | options
  model = tff.FlowModel(tff.residual_flow([4, 4, 1], seed=0, **options), seed=0)
  return model


def blocks(module):
  return [m for m in test_util.layers(module) if isinstance(m, tff.ResidualFlow)]


def unit_vectors(distribution):
  """The `v` of all linear layers: nothing else here is not trained but `adapted`."""
  return [
    v for block in blocks(distribution) for v in block.branch.non_trainable_variables
  ]


def missing_norms(distribution):
  """How far `update_norms` would move the `v`; moves none."""
  kept = [v.numpy() for v in distribution.variables]
  before = [v.numpy() for v in unit_vectors(distribution)]
  assert before
  tff.update_norms(distribution)
  after = [v.numpy() for v in unit_vectors(distribution)]
  for v, value in zip(distribution.variables, kept):
    v.assign(value)
  return max(np.abs(a - b).max() for a, b in zip(after, before))


def lipschitz_constants(distribution):
  """The largest 2-norm of each branch's Jacobian at many points."""
  x = 3.0 * test_util.normal([256, 2], 'float32')

  def constant(branch):
    with tf.GradientTape(persistent=True) as tape:
      tape.watch(x)
      y = branch(x)
    jacobians = tape.batch_jacobian(y, x, experimental_use_pfor=False)
    return np.linalg.norm(jacobians, 2, axis=(1, 2)).max()

  return [constant(block.branch) for block in blocks(distribution)]


class Recorder(keras.callbacks.Callback):
  """Measures norms and Lipschitz constants at the end of every tenth epoch."""

  def __init__(self):
    super().__init__()
    self.missing, self.constants, self.weights = [], [], []

  def on_epoch_end(self, epoch, logs=None):
    if epoch % 10 == 9:
      distribution = self.model.distribution
      self.missing.append(missing_norms(distribution))
      self.constants += lipschitz_constants(distribution)
      self.weights.append([v.numpy() for v in distribution.trainable_variables])


@pytest.fixture(scope='module')
def training(ring, tmp_path_factory):
  """300 steps at a high rate, with averaged weights; a model run as a graph."""
  model = tff.FlowModel(vector_flow(), seed=0)
  path = str(tmp_path_factory.mktemp('weights') / 'last.weights.h5')
  keras.utils.set_random_seed(0)
  optimizer = keras.optimizers.Adam(0.1, use_ema=True, ema_momentum=0.9)
  model.compile(optimizer, jit_compile=False)
  model.adapt(ring)
  raw, averaged = Recorder(), Recorder()
  history = model.fit(
    ring,
    batch_size=64,
    epochs=30,
    verbose=0,
    callbacks=[
      raw,
      keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
      keras.callbacks.ModelCheckpoint(path, save_weights_only=True),
      averaged,
    ],
  )
  return dict(
    model=model, path=path, losses=history.history['loss'], raw=raw, averaged=averaged
  )


# --- Training.


def test_the_loss_falls(training):
  losses = training['losses']
  assert np.isfinite(losses).all()
  # The normal distribution that fits best is worse than 3.3 nats.
  assert losses[-1] < losses[0] - 0.3


def test_the_training_loss_is_an_estimate_of_the_likelihood(training, ring):
  model = training['model']
  exact = -np.mean(model.distribution.log_prob(ring))
  assert abs(exact - training['losses'][-1]) < 0.3


def test_norms_are_up_to_date_where_averages_are_swapped_in(training):
  raw, averaged = training['raw'], training['averaged']
  assert len(averaged.missing) == 3
  assert max(averaged.missing) < 1e-2
  # After a step of training the few iterations have not always converged.
  assert np.median(raw.missing) < 0.1
  for a, b in zip(raw.weights[-1], averaged.weights[-1]):
    assert np.abs(a - b).max() > 1e-5
  assert missing_norms(training['model'].distribution) < 1e-2


def test_branches_remain_contractions(training):
  constants = training['raw'].constants + training['averaged'].constants
  constants += lipschitz_constants(training['model'].distribution)
  assert len(constants) == 2 * 3 * 2 + 2
  assert max(constants) < 1.0
  # Of the bound 0.7; or the rate was not high.
  assert max(constants) > 0.4


def test_saved_weights_have_their_norms(training, ring):
  model = training['model']
  fresh = tff.FlowModel(vector_flow(seed=5), seed=0)
  fresh.load_weights(training['path'])
  assert missing_norms(fresh.distribution) < 1e-2
  assert max(lipschitz_constants(fresh.distribution)) < 1.0
  for a, b in zip(unit_vectors(fresh.distribution), unit_vectors(model.distribution)):
    np.testing.assert_allclose(a, b, atol=1e-3)
  log_prob = [m.distribution.log_prob(ring[:16]) for m in (model, fresh)]
  np.testing.assert_allclose(*log_prob, rtol=1e-3, atol=1e-3)


def test_evaluation_brings_the_norms_up_to_date(ring):
  model = small_model()
  test_util.perturb(model.distribution, 2.0)
  assert missing_norms(model.distribution) > 1e-2
  model.evaluate(ring[:8], verbose=0)
  assert missing_norms(model.distribution) < 1e-3


def test_the_saved_unit_vectors_are_restored(tmp_path):
  models = [small_model(seed) for seed in (0, 1)]
  test_util.perturb(models[0].distribution, 2.0)
  models[0].update_norms()
  models[0].save_weights(tmp_path / 'w.weights.h5')
  models[1].load_weights(tmp_path / 'w.weights.h5')
  for a, b in zip(*(unit_vectors(m.distribution) for m in models), strict=True):
    np.testing.assert_array_equal(a, b)


def test_norms_are_updated_right_after_the_swap():
  swap, other = keras.callbacks.SwapEMAWeights(), Recorder()
  found = callbacks_lib.with_norm_updates([other, swap, other], lambda: None)
  assert found[:2] == [other, swap]
  assert found[3] == other
  assert len(callbacks_lib.with_norm_updates(None, lambda: None)) == 1
  done = keras.callbacks.CallbackList(found)
  assert callbacks_lib.with_norm_updates(done, lambda: None) is done


def run(seed, ring):
  model = small_model(seed)
  history = model.fit(ring[:192], batch_size=64, epochs=2, verbose=0).history['loss']
  weights = [v.numpy().ravel() for v in model.distribution.variables]
  return history, np.concatenate(weights)


def test_same_seed_same_history(ring):
  first, again, other = run(3, ring), run(3, ring), run(4, ring)
  np.testing.assert_array_equal(first[0], again[0])
  np.testing.assert_array_equal(first[1], again[1])
  assert first[0] != other[0]


def test_each_step_has_its_own_noise(ring):
  model = small_model(zero_last=False)
  test_util.perturb(model.distribution, 1.0)
  model.update_norms()
  one, two = (model(ring[:8], training=True).numpy() for _ in range(2))
  assert np.any(one != two)
  still = [model(ring[:8]).numpy() for _ in range(2)]
  np.testing.assert_array_equal(*still)
  assert np.abs(one - still[0]).max() < 1.0


# --- Estimates.


def test_several_estimates_and_their_standard_error(training, ring):
  model, x = training['model'], ring[:16]
  options = dict(estimator=tff.RouletteLogDet(), seed=3)
  mean, error = model.log_prob(x, num_estimates=4, standard_error=True, **options)
  assert mean.shape == error.shape == (16,)
  assert np.all(error.numpy() >= 0)
  assert np.mean(error) > 1e-3
  same = model.log_prob(x, num_estimates=4, **options)
  np.testing.assert_array_equal(mean, same)
  many, error = model.log_prob(x, num_estimates=300, standard_error=True, **options)
  exact = model.log_prob(x)
  assert np.abs(many - exact).max() > 0
  assert np.all(np.abs(many - exact) < 4 * error + 1e-4)
  assert np.mean(np.abs(many - exact) / error) > 0.3
  # The evaluation of two dimensions is exact.
  repeated, none = model.log_prob(x, num_estimates=4, standard_error=True)
  np.testing.assert_allclose(repeated, exact, atol=1e-5)
  np.testing.assert_allclose(none, np.zeros(16), atol=1e-5)


def test_one_estimate_has_no_standard_error(training, ring):
  model = training['model']
  message = 'num_estimates >= 2 for a standard error; received 1'
  with pytest.raises(ValueError, match=message):
    model.log_prob(ring[:2], standard_error=True)
  with pytest.raises(ValueError, match='num_estimates >= 1; received 0'):
    model.log_prob(ring[:2], num_estimates=0)


# --- Samples.


def test_samples_and_their_density(training):
  model = training['model']
  x, log_prob = model.sample_and_log_prob(16, seed=1)
  np.testing.assert_allclose(log_prob, model.log_prob(x), atol=1e-2)


def test_samples_of_stale_norms_raise():
  model = small_model()
  model.compile(jit_compile=False)
  (block,) = blocks(model.distribution)
  kernels = [v for v in block.branch.trainable_variables if len(v.shape) == 2]
  for kernel in kernels:
    kernel.assign(np.resize([[1.0], [-1.0]], [*kernel.shape[:1], 1]) + 0 * kernel)
  model.update_norms()
  assert np.isfinite(model.sample(8, seed=0)).all()
  # Kernels of large norm, that take to zero what the norms are measured at. With
  # these `x + g(x)` has an upper bound: not all latents have an inverse.
  for kernel, sign in zip(kernels, (1.0, -1.0), strict=True):
    kernel.assign(100.0 * sign * tf.ones_like(kernel))
  with pytest.raises(ValueError, match='finite samples; .*`update_norms'):
    model.sample(8, seed=0)
  model.update_norms()
  assert np.isfinite(model.sample(8, seed=0)).all()


# --- Pictures.


def test_image_model_trains(pixels):
  model = image_model(num_levels=1)
  model.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
  model.adapt(pixels)
  history = model.fit(pixels, batch_size=8, verbose=0).history
  assert np.isfinite(history['bits_per_dim']).all()
  np.testing.assert_allclose(
    history['bits_per_dim'], np.divide(history['loss'], 16 * np.log(2)), rtol=1e-5
  )
  # Uniform noise has 4 bits per dimension.
  assert 3.5 < history['bits_per_dim'][-1] < 6.0
  assert missing_norms(model.distribution) < 1e-2
  sample = model.sample(2, seed=0)
  assert sample.shape == (2, 4, 4, 1)
  assert sample.dtype == tf.uint8


def test_factor_out(pixels):
  model = image_model(num_levels=2, factor_out=True)
  model.compile(keras.optimizers.Adam(1e-2), run_eagerly=True)
  model.adapt(pixels)
  history = model.fit(pixels[:16], batch_size=8, verbose=0).history
  assert np.isfinite(history['bits_per_dim']).all()
  kinds = {type(m).__name__ for m in model.distribution.submodules}
  assert 'Multiscale' in kinds
  test_util.perturb(model.distribution, 0.1)
  tff.update_norms(model.distribution)
  flow = model.distribution.bijector
  x = tf.constant(pixels, tf.float32) + 0.5
  z = flow.inverse(x)
  np.testing.assert_allclose(flow.forward(tf.identity(z)), x, atol=2e-3)
  log_prob = model.distribution.log_prob(x[:2])
  assert np.isfinite(log_prob).all()


# --- Options.

NAMES = {
  'roulette': tff.RouletteLogDet(),
  'truncated': tff.TruncatedLogDet(),
  'exact': tff.ExactLogDet(),
}


@pytest.mark.parametrize('name', NAMES)
def test_training_by_other_estimators(name, ring):
  model = small_model(log_det=name)
  assert {b.log_det.estimator for b in blocks(model.distribution)} == {NAMES[name]}
  losses = model.fit(ring[:128], batch_size=64, epochs=2, verbose=0).history['loss']
  assert np.isfinite(losses).all()
  assert losses[1] < losses[0]


def test_estimators_are_passed_on():
  own = tff.RouletteLogDet(tff.geometric(0.2), 3, 'normal')
  (block,) = blocks(
    small_model(log_det=own, evaluation_log_det='truncated').distribution
  )
  assert block.log_det == tff.LogDet(own, tff.TruncatedLogDet(20))
  (block,) = blocks(small_model(num_terms=7).distribution)
  assert block.log_det == tff.LogDet(tff.RouletteLogDet(num_terms=7))


def test_unknown_estimator():
  message = "Expected an estimator, or a name among .*'roulette'.*; received 'eaxct'"
  for option in ('log_det', 'evaluation_log_det'):
    with pytest.raises(ValueError, match=message):
      vector_flow(**{option: 'eaxct'})
  with pytest.raises(ValueError, match='num_blocks >= 1; received 0'):
    vector_flow(num_blocks=0)


def test_the_default_has_finite_variance():
  # Warnings are errors.
  for shape in ([2], [4, 4, 1]):
    flow = tff.residual_flow(shape, num_levels=1, num_blocks=1, num_dense_blocks=1)
    for block in blocks(flow):
      lipschitz = block.branch.lipschitz
      assert block.log_det.estimator.problem(lipschitz) is None
