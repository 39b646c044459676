"""Classes and functions as users write them, which files name by their registration.

What is registered must keep its name and its arguments: the files under `v0_1_0` and
`v0_2_dev` have them.
"""

import keras
import tensorflow as tf

import tfp_flows as tff

__all__ = ['Flip', 'FlowInside', 'MyFlowModel', 'half', 'to_bijector']

_register = keras.saving.register_keras_serializable('compatibility')


@_register
class Flip(tff.FlowBijector):
  """`y = scale * reverse(x)`, with a scale per number, shifted by a condition."""

  def __init__(self, size, network=None, dtype=tf.float32, name='flip'):
    parameters = dict(locals())  # As layers of 0.1.0 had to.
    super().__init__(1, dtype=dtype, parameters=parameters, name=name)
    self._network = self._expose(network) if network is not None else None
    self._log_scale = tf.Variable(tf.zeros([size], dtype), name='log_scale')

  def _shift(self, condition):
    if self._network is None or condition is None:
      return 0.0
    return self._network(condition)

  def _forward_and_log_det(self, x, condition=None):
    y = tf.exp(self._log_scale) * tf.reverse(x, [-1]) + self._shift(condition)
    return y, tf.fill(tf.shape(x)[:-1], tf.reduce_sum(self._log_scale))

  def _inverse_and_log_det(self, y, condition=None):
    x = tf.reverse((y - self._shift(condition)) * tf.exp(-self._log_scale), [-1])
    return x, tf.fill(tf.shape(y)[:-1], -tf.reduce_sum(self._log_scale))


@_register
def half(x):
  """A conditioner without weights."""
  return 0.5 * x


@_register
def to_bijector(kwargs):
  """The keywords of the base, and those of the bijector."""
  return {}, kwargs


@_register
class MyFlowModel(tff.FlowModel):
  """A model with a training step of its own, and the arguments of its base."""

  def train_step(self, data):
    return super().train_step(data)


@_register
class FlowInside(keras.Model):
  """A Keras model that holds a flow."""

  def __init__(self, flow, name=None):
    super().__init__(name=name)
    self.flow = flow
    self.embedding = keras.layers.Dense(2)

  def build(self, input_shape):
    self.embedding.build(input_shape)

  def call(self, x):
    return tf.stack([self.flow(x), tf.reduce_sum(self.embedding(x), -1)], -1)

  def get_config(self):
    flow = keras.saving.serialize_keras_object(self.flow)
    return dict(flow=flow, name=self.name)

  @classmethod
  def from_config(cls, config):
    flow = keras.saving.deserialize_keras_object(config.pop('flow'))
    return cls(flow, **config)
