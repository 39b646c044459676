"""A flow as surrogate posterior: the eight schools with TFP's own VI.

The model is that of Rubin (1981), non-centred: a mean effect, the logarithm of a
spread, and eight standardised effects; the data are the estimates of eight
schools with their standard errors. `python examples/variational_inference.py`
fits a mean-field normal and a RealNVP to the posterior, with the same
`tfp.vi.fit_surrogate_posterior`, and prints the evidence lower bound of each, in
nats: the flow's is higher, by about 0.5, as it bends with the funnel of spread and
effects. Then it prints the posterior mean and standard deviation of the mean
effect under the flow.
"""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from absl import app
from absl import flags

import tfp_flows as tff

tfb, tfd = tfp.bijectors, tfp.distributions

EFFECTS = np.array([28, 8, -3, 7, -1, 1, 18, 12], np.float32)
ERRORS = np.array([15, 10, 16, 11, 9, 11, 10, 18], np.float32)

flags.DEFINE_integer('steps', 2000, 'Optimisation steps for each surrogate.')


def log_joint(z: tf.Tensor) -> tf.Tensor:
  """Log density of the unknowns `[..., 10]` and the data, in nats."""
  mean, log_spread, standardised = z[..., 0], z[..., 1], z[..., 2:]
  effects = mean[..., None] + tf.exp(log_spread)[..., None] * standardised
  return (
    tfd.Normal(0.0, 10.0).log_prob(mean)
    + tfd.Normal(5.0, 1.0).log_prob(log_spread)
    + tf.reduce_sum(tfd.Normal(0.0, 1.0).log_prob(standardised), axis=-1)
    + tf.reduce_sum(tfd.Normal(effects, ERRORS).log_prob(EFFECTS), axis=-1)
  )


def surrogates() -> dict[str, tfd.Distribution]:
  """A mean-field normal and a flow over the ten unknowns."""
  scale = tfp.util.TransformedVariable(tf.ones([10]), tfb.Softplus())
  mean_field = tfd.MultivariateNormalDiag(tf.Variable(tf.zeros([10])), scale)
  flow = tff.real_nvp([10], num_steps=6, width=32, scale='clamp', seed=0)
  return {'mean field': mean_field, 'flow': flow}


def run(steps: int) -> dict[str, float]:
  """Returns the evidence lower bound of each surrogate, in nats."""
  bounds = {}
  for name, surrogate in surrogates().items():
    optimizer = keras.optimizers.Adam(
      keras.optimizers.schedules.CosineDecay(1e-2, steps)
    )
    optimizer.build(surrogate.trainable_variables)
    tfp.vi.fit_surrogate_posterior(
      log_joint,
      surrogate,
      optimizer,
      steps,
      sample_size=32,
      jit_compile=True,
      seed=(0, 0),
    )
    z, log_q = surrogate.experimental_sample_and_log_prob(10_000, seed=1)
    bounds[name] = float(tf.reduce_mean(log_joint(z) - log_q))
    print(f'{name}: evidence lower bound {bounds[name]:.2f} nats')
  mean, deviation = np.mean(z[:, 0]), np.std(z[:, 0])
  print(f'mean effect: {mean:.1f} +- {deviation:.1f}')
  return bounds


def main(_) -> None:
  """Runs the example with its flags."""
  run(flags.FLAGS.steps)


if __name__ == '__main__':
  app.run(main)
