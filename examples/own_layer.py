"""A layer of one's own, whole: heavier or lighter tails, learnt for each number.

    python examples/own_layer.py

`sinh(exp(a) * asinh(x))` bends the tails of each number by its own weight `a`; it is
that of Jones and Pewsey (Sinh-arcsinh distributions, Biometrika 96, 2009), without a
shift. Fitted to Student's t with two degrees of freedom, whose tails a normal base does
not have. The layer is in the conformance suite, as those of the library are.
"""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff

tfb, tfd = tfp.bijectors, tfp.distributions


@keras.saving.register_keras_serializable('examples')
class Tails(tff.FlowBijector):
  """`y = sinh(exp(a) * asinh(x))`, for events of one shape."""

  def __init__(self, event_shape, dtype=tf.float32, name='tails'):
    """Starts as the identity: `a` is 0."""
    with tf.name_scope(name) as scope:
      super().__init__(len(event_shape), dtype=dtype, name=scope)
      self._shape = tuple(event_shape)
      self.log_weight = tf.Variable(tf.zeros(event_shape, dtype), name='log_weight')

  def _event_shape_or_none(self):
    return self._shape

  def _forward_and_log_det(self, x, condition=None):
    log_weight = self._weight(self.log_weight)
    u = tf.exp(log_weight) * tf.asinh(x)
    log_det = log_weight + tf.math.log(tf.cosh(u)) - 0.5 * tf.math.log1p(x**2)
    return tf.sinh(u), tf.reduce_sum(log_det, range(-len(self._shape), 0))

  def _inverse_and_log_det(self, y, condition=None):
    x = tf.sinh(tf.exp(-self._weight(self.log_weight)) * tf.asinh(y))
    return x, -self._forward_and_log_det(x)[1]


def run(epochs: int = 20) -> float:
  """Returns the mean negative log-likelihood, in nats."""
  x = tfd.StudentT(2.0, 0.0, 1.0).sample([10_000, 1], seed=1).numpy()
  layers = tff.Sequential([tff.ActNorm([1]), Tails([1])])  # From the data to latents.
  base = tfd.Sample(tfd.Normal(0.0, 1.0), [1])
  model = tff.FlowModel(tfd.TransformedDistribution(base, tfb.Invert(layers)), seed=0)
  model.compile(keras.optimizers.Adam(0.01))
  model.adapt(x)
  model.fit(x, batch_size=500, epochs=epochs, verbose=0)
  return model.evaluate(x, verbose=0)


if __name__ == '__main__':
  print(f'{run():.3f} nats')
