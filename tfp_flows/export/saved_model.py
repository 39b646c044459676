"""A model as a SavedModel of TensorFlow."""

import os

import tensorflow as tf

from tfp_flows.export import programs
from tfp_flows.export import units as units_lib
from tfp_flows.model import flow_model

__all__ = ['export_saved_model']

_FILES = ('assets', 'fingerprint.pb', 'saved_model.pb', 'variables')


def export_saved_model(
  model: flow_model.FlowModel,
  path: str | os.PathLike[str],
  overwrite: bool = False,
  condition_size: int | None = None,
  units: units_lib.Units | None = None,
) -> None:
  """Writes a SavedModel that TensorFlow alone loads and runs.

  Neither `tfp_flows` nor TensorFlow Probability is needed to use it:

  ```python
  loaded = tf.saved_model.load(path)
  sample = loaded.signatures['sample']
  sample(n=tf.constant(16), seed=tf.constant([0, 1]), temperature=tf.constant(0.7))
  ```

  Signatures, whose batch size `N` is free, with the numbers of the methods of the
  model:

    log_prob(x, seed) -> log_prob
    sample(n, seed, temperature) -> samples
    encode(x, seed) -> latents
    decode(latents) -> x

  * `x`: `[N, *event_shape]`, `samples`: `[n, *event_shape]`; integers if the model
    dequantizes, of the smallest of uint8, uint16 and int32.
  * `seed`: int32 `[2]`, a stateless seed of dequantization, of stochastic log-dets and
    of samples; the same seed gives the same numbers.
  * `log_prob`: `[N]`, in nats, with the estimators of evaluation.
  * `n`: int32 scalar. `temperature`: scalar of the dtype of the model.
  * `latents`: `[N, *latent_shape]`; if they are a structure, `latents_0`, `latents_1`
    and so on.
  * `condition`: `[N, K]`, beside the others if the model takes one; `sample` then draws
    `n` examples for each of its rows: `samples` are `[n, N, *event_shape]`.

  A distribution that is no `tfd.TransformedDistribution` has no latents: `encode` and
  `decode` are left out, and so is `temperature`, also if its base has no mean. Pixels
  out of range and samples that are not finite raise `tf.errors.InvalidArgumentError`.

  All are plain operations of TensorFlow, for runtimes with and without XLA.

  Args:
    model: trained or not; need not be compiled.
    path: of a new or empty folder.
    overwrite: whether an earlier SavedModel in `path` is replaced.
    condition_size: `K`, for models whose networks do not say it.
    units: how the columns of a table and those of the model belong together, if it was
      scaled for the model: `x` and `samples` are then float64, in the units of the
      table, and so are densities.

  Raises:
    ValueError: if `path` holds something else, the size of the condition is unknown,
      or the model reads variables that are not its weights.
  """
  programs.check_folder(path, overwrite, _FILES)
  model.update_norms()
  signatures = {}
  found = programs.inference(model, condition_size=condition_size)
  for program in programs.in_units(found, units):
    function = tf.function(program.fn, autograph=False)
    signature = function.get_concrete_function(**program.inputs)
    programs.check_known(model, signature.variables, program.name)
    signatures[program.name] = signature
  module = tf.Module()
  module.weights = list(model.distribution.variables)
  # Gradients of solvers close over tensors, and cannot be saved.
  options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
  with programs.replacing(path, _FILES) as folder:
    tf.saved_model.save(module, folder, signatures, options)
