import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff
from tests import test_util


def squeezes(flat=True):
  return tff.Multiscale([tff.Squeeze(), tff.Squeeze()], [4, 8, 1], flat)


def test_half_leaves_after_the_first_level():
  layer = squeezes()
  assert layer.latent_shapes == [(2, 4, 2), (1, 2, 8)]
  x = tf.reshape(tf.range(32.0), [1, 4, 8, 1])
  first, last = layer.split_levels(layer.forward(x))
  squeezed = tff.Squeeze().forward(x)
  np.testing.assert_array_equal(first, squeezed[..., 2:])
  np.testing.assert_array_equal(last, tff.Squeeze().forward(squeezed[..., :2]))


def test_flat_and_per_level_latents_are_the_same():
  x = test_util.normal([3, 4, 8, 1], 'float32')
  flat, levels = squeezes(), squeezes(flat=False)
  np.testing.assert_array_equal(
    flat.join_levels(levels.forward(x)), flat.forward(tf.identity(x))
  )
  assert [tuple(s) for s in levels.forward_event_shape([4, 8, 1])] == [
    (2, 4, 2),
    (1, 2, 8),
  ]
  parts = [tf.identity(z) for z in levels.forward(x)]
  np.testing.assert_array_equal(levels.inverse(parts), x)


@pytest.mark.parametrize('builder', [tff.glow, tff.real_nvp])
def test_a_model_with_latents_per_level(builder):
  options = dict(num_steps=1, width=4, num_bins=16, seed=0, dtype='float64')
  flat = builder([4, 4, 1], **options)
  levels = builder([4, 4, 1], flat_latents=False, **options)
  test_util.perturb(flat)
  test_util.perturb(levels)
  x = 16 * tf.sigmoid(test_util.normal([3, 4, 4, 1]))
  np.testing.assert_allclose(
    flat.log_prob(x), levels.log_prob(tf.identity(x)), atol=1e-10
  )
  assert levels.sample([2, 3], seed=1).shape == (2, 3, 4, 4, 1)


def test_split_prior_is_a_normal_given_what_stays():
  # log p(leaving | kept) of a normal, computed by hand from the network.
  shape = [2, 2, 4]
  mask = tff.ChannelMask(shape)
  network = tff.ConvNet(mask.kept_shape, 4, kernel_sizes=(3,), seed=0, dtype='float64')
  prior = tff.AffineCoupling(mask, network, scale='clamp', dtype='float64')
  test_util.perturb(prior)
  x = test_util.normal([3, *shape])
  kept, leaving = mask.split(x)
  shift, raw = tf.split(network(kept), 2, axis=-1)
  deviation = tf.exp(-2 * tf.tanh(raw / 2))
  expected = (
    -0.5 * ((leaving + shift) / deviation) ** 2
    - tf.math.log(deviation)
    - 0.5 * np.log(2 * np.pi)
  )
  y, log_det = prior.forward_and_log_det(x)
  found = -0.5 * mask.split(y)[1] ** 2 - 0.5 * np.log(2 * np.pi)
  np.testing.assert_allclose(
    tf.reduce_sum(found, [1, 2, 3]) + log_det, tf.reduce_sum(expected, [1, 2, 3])
  )


def test_latents_of_another_size():
  with pytest.raises(ValueError, match=r'latents of shape \[32\]; received'):
    squeezes().inverse(tf.zeros([1, 31]))


def test_no_level():
  with pytest.raises(ValueError, match='at least one level'):
    tff.Multiscale([], [4, 4, 1])
