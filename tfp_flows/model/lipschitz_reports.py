"""How near the residual blocks of a model are to the bounds of their norms."""

import contextlib
import json
import os
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.bijectors import residual_flow
from tfp_flows.internal import files
from tfp_flows.internal import inspection
from tfp_flows.internal import seeds
from tfp_flows.math import lipschitz as lipschitz_lib
from tfp_flows.math import log_det
from tfp_flows.model import callbacks

__all__ = ['LipschitzReport', 'lipschitz_report']


def lipschitz_report(model: Any, x: Any, condition: Any = None) -> list[dict[str, Any]]:
  """Bounds and measured Lipschitz constants of the branches of a model.

  Args:
    model: a `FlowModel` with residual blocks.
    x: examples; the blocks are measured at what they are given for these.
    condition: per example, or None.

  Returns:
    One dictionary per block, in the order of evaluation: `bounds`, the norm of each
    linear layer as it is applied; `product` of these, a bound of the Lipschitz
    constant of the branch (up to what power iteration misses); and `measured`, the
    largest 2-norm of its Jacobian over the examples, which no Lipschitz constant
    is below.

  Raises:
    ValueError: if the model has no block whose branch measures norms.
  """
  return _report(_measurement(model), model.as_examples(x), condition)


def _measurement(model):
  """A compiled function of examples: bounds and measurement of each block."""

  @tf.function(jit_compile=model.jit_compile if model.compiled else True)
  def measure(x, condition):
    blocks: list[tuple[tf.Tensor, tf.Tensor]] = []

    def estimator(g, x, event_ndims, seed):
      branch = g.branch if isinstance(g, residual_flow.BranchAt) else None
      if isinstance(branch, residual_flow.Normed):
        norms = lipschitz_lib.jacobian_norm(g, x, event_ndims, seed)
        blocks.append((tf.stack(branch.norm_bounds()), tf.reduce_max(norms)))
      value = g(x)
      zeros = tf.zeros(tf.shape(x)[: x.shape.rank - event_ndims], x.dtype)
      return log_det.LogDetEstimate(value, zeros, zeros)

    seed = seeds.stateless_seed(0)
    with inspection.observed_by(_Unrolled()):
      model.likelihood.log_prob(x, condition, seed, estimator=estimator)
    return blocks

  return measure


class _Unrolled:
  """An observer that wants nothing but each block by itself, not in a loop."""

  def call(self, layer, fn, x):
    return fn(x)

  def part(self, name):
    return contextlib.nullcontext()

  def report(self, name, value):
    pass


def _report(measure, x, condition):
  blocks = measure(x, condition)
  if not blocks:
    raise ValueError(
      'Expected a model with residual blocks whose branch is a `LipschitzMLP` or '
      '`LipschitzConvNet`; found none.'
    )
  return [
    dict(
      bounds=bounds.numpy().tolist(),
      product=float(tf.reduce_prod(bounds)),
      measured=float(measured),
    )
    for bounds, measured in blocks
  ]


class LipschitzReport(keras.callbacks.Callback):
  """Measures the residual blocks after each epoch.

  Adds to the logs, for the callbacks after it, `lipschitz_bound` and
  `lipschitz_measured`: the largest `product` and `measured` of `lipschitz_report`.
  """

  def __init__(
    self,
    x: Any,
    condition: Any = None,
    path: str | None = None,
    first_epoch: int = 0,
  ):
    """Creates the callback.

    Args:
      x: examples, a hundred or so.
      condition: per example, or None.
      path: where the whole report of each epoch is written, one JSON object per
        line, null for what is not finite; None for nowhere.
      first_epoch: number of epochs whose lines stay when training begins.
    """
    super().__init__()
    self._x, self._condition, self._path = x, condition, path
    self._first_epoch, self._measure = first_epoch, None

  def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
    self._measure = _measurement(self.model)
    self._x = self.model.as_examples(self._x)
    if self._path:
      lines = _whole_lines(self._path)[: self._first_epoch]
      with files.replacing(self._path) as path, open(path, 'w') as file:
        file.writelines(lines)

  def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
    blocks = _report(self._measure, self._x, self._condition)
    if logs is not None:
      logs['lipschitz_bound'] = max(b['product'] for b in blocks)
      logs['lipschitz_measured'] = max(b['measured'] for b in blocks)
    if self._path:
      callbacks.append_json(self._path, dict(epoch=epoch + 1, blocks=blocks))


def _whole_lines(path):
  """Those that a writer that was killed has not cut."""
  if not os.path.exists(path):
    return []
  with open(path, errors='replace') as file:
    return [line for line in file if _is_json(line)]


def _is_json(line):
  try:
    return isinstance(json.loads(line), dict) and line.endswith('\n')
  except json.JSONDecodeError:
    return False
