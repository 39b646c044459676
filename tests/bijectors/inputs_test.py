"""What layers say of inputs that they cannot take."""

import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff
from tests import test_util

METHODS = ('forward_log_det_jacobian', 'inverse_log_det_jacobian')


def coupling(condition_size=None):
  mask = tff.ChannelMask([4])
  network = tff.MLP(mask.kept_shape, 4, [4], condition_size=condition_size, seed=0)
  return tff.AffineCoupling(mask, network)


def conditioned():
  return coupling(condition_size=5)


def chain():
  return tff.Sequential([tff.ActNorm([4]), coupling()])


def glow():
  return tff.glow([4, 4, 2], num_levels=1, num_steps=1, width=4, seed=0).bijector


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize(
  ('make', 'shape', 'message'),
  [
    (coupling, [3, 5], r'events of shape \[4\]; received \(5,\). Build the layer'),
    (chain, [3, 5], r'events of shape \[4\]; received \(5,\). Build the layer'),
    (coupling, [], r'whole events, of shape \[4\], .*; received shape \(\). For one'),
    (chain, [], r'whole events, of 1 axis, .*; received shape \(\). For one'),
    (lambda: tff.Squeeze(2), [4, 4], r'of 3 axes.*received shape \(4, 4\). For one'),
  ],
)
def test_shapes(make, shape, message, method):
  call = getattr(make(), method)
  with pytest.raises(ValueError, match=f'expects .*{message}'):
    call(np.ones(shape, 'float32'))
  with pytest.raises(ValueError, match=f'expects .*{message}'):
    call(tf.ones(shape))


def test_shapes_of_builders_are_those_of_data_and_of_latents():
  bijector, x = glow(), np.ones([3, 4, 4, 2], 'float32')
  assert bijector.inverse_log_det_jacobian(x).shape == [3]
  with pytest.raises(ValueError, match=r'latents of shape \[32\].*Data go forward'):
    bijector.forward_log_det_jacobian(x)
  with pytest.raises(ValueError, match=r'\(4, 4, 2\); received \(4, 4, 3\). Build'):
    bijector.inverse_log_det_jacobian(np.ones([3, 4, 4, 3], 'float32'))
  with pytest.raises(ValueError, match=r'of 3 axes.*received shape \(4, 4\)'):
    bijector.inverse_log_det_jacobian(x[0, ..., 0])


@pytest.mark.parametrize(
  'method', [*METHODS, 'forward', 'inverse', 'forward_and_log_det', 'inverse_value']
)
@pytest.mark.parametrize('dtype', [tf.int32, tf.float64])
def test_tensors_of_other_dtypes(dtype, method):
  """Arrays are converted; a tensor has a dtype on purpose."""
  call, x = getattr(chain(), method), test_util.normal([3, 4]).numpy()
  message = rf'expects a tensor of float32; received one of {dtype.name}. Cast it'
  with pytest.raises(ValueError, match=message) as error:
    call(tf.cast(x, dtype))
  assert len(str(error.value)) < 200
  call(x.astype(dtype.as_numpy_dtype))
  with pytest.raises(ValueError, match=message):
    tf.function(call)(tf.cast(x, dtype))


@pytest.mark.parametrize('method', [*METHODS, 'forward', 'forward_and_log_det'])
def test_conditions(method):
  call, x = getattr(conditioned(), method), np.ones([3, 4], 'float32')
  remedy = 'Pass condition=c, with a row of 5 numbers'
  with pytest.raises(ValueError, match=rf'\[\.\.\., 5\]; received none. {remedy}'):
    call(x)
  with pytest.raises(ValueError, match=rf'received \[3, 2\]. {remedy}'):
    call(x, condition=np.ones([3, 2], 'float32'))


@pytest.mark.parametrize('method', METHODS)
def test_event_ndims(method):
  call, x = getattr(coupling(), method), np.ones([3, 4], 'float32')
  np.testing.assert_allclose(call(x, 2), np.sum(call(x)), rtol=1e-5)
  with pytest.raises(ValueError, match='event_ndims >= 1.*received 0. Leave it out'):
    call(x, 0)
  with pytest.raises(ValueError, match=r'of 3 axes.*received shape \(3, 4\)'):
    call(x, 3)
  with pytest.raises(ValueError, match='event_ndims >= 3.*received 1'):
    getattr(tff.Squeeze(2), method)(np.ones([4, 4, 4], 'float32'), 1)
