"""Equal steps, compiled once."""

from collections.abc import Sequence

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import flow_bijector
from tfp_flows.bijectors import reversible
from tfp_flows.internal import shapes
from tfp_flows.internal import weight_values

__all__ = ['Repeated']

tfb = tfp.bijectors


class Repeated(flow_bijector.FlowBijector):
  """Steps that differ in nothing but the values of their weights.

    forward: `y = f(w_n, ...f(w_2, f(w_1, x)))`
    log-det: the sum of the log-dets, each at its own input   (nats)

  For each weight of a step there is one variable, with a first axis for the steps:
  an optimizer updates the weights of all steps at once. With `loop` a graph has
  one step in a loop, so that the time to trace and to compile it, gradients included,
  does not grow with the number of steps; without, it has all of them. Values, gradients
  and checkpoints are the same.

  `memory='reversible'` keeps no activations for gradients, see `Sequential`.

  Each step must keep the shape of the event. Steps may be any bijectors of this
  library without dropout, moving statistics or iterations; others must read their
  variables through Keras.
  """

  def __init__(
    self,
    steps: Sequence[tfb.Bijector],
    memory: str = 'stored',
    loop: bool = True,
    name: str = 'repeated',
  ):
    """Creates the composition.

    Args:
      steps: at least one; the first is applied first to the data. Their weights are
        copied, and the steps should not be used any more.
      memory: `'stored'` or `'reversible'`.
      loop: whether graphs have a loop.
      name: name of the composition.

    Raises:
      ValueError: if there is no step, if they are not alike, or if there is one that
        cannot be repeated.
    """
    if not steps:
      raise ValueError('Repeated expects at least one step; received none.')
    _check_alike(steps)
    reversible.check_memory('reversible', steps)
    reversible.check_memory(memory, [])
    template = steps[0]
    # Behind a function, as its own variables are none of this layer's.
    self._template = lambda: template
    self._count, self._memory = len(steps), memory
    self._in_loop = loop and len(steps) > 1
    with tf.name_scope(name) as scope:
      super().__init__(
        forward_min_event_ndims=template.forward_min_event_ndims,
        dtype=template.dtype,
        parameters=dict(name=name),
        name=scope,
      )
      columns = zip(*(step.variables for step in steps))
      self._weights = [_stacked(column) for column in columns]

  def __len__(self) -> int:
    return self._count

  @property
  def takes_condition(self) -> bool:
    return getattr(self._template(), 'takes_condition', False)

  def _forward_event_shape(self, shape):
    return self._template().forward_event_shape(shape)

  def _inverse_event_shape(self, shape):
    return self._template().inverse_event_shape(shape)

  def _forward_and_log_det(self, x, condition=None):
    return self._run(x, condition, inverted=False)

  def _inverse_and_log_det(self, y, condition=None):
    return self._run(y, condition, inverted=True)

  def _run(self, x, condition, inverted):
    def compose(x, condition=None):
      return self._compose(x, condition, inverted)

    if self._memory == 'stored':
      return compose(x, condition)
    return reversible.with_pull_back(self, compose, x, condition, inverted)

  def _compose(self, x, condition, inverted):
    template, ndims = self._template(), self.forward_min_event_ndims
    step = flow_bijector.forward_and_log_det
    if inverted:
      step = flow_bijector.inverse_and_log_det

    def body(weights, x, total):
      with weight_values.substituted(template, weights):
        y, log_det = step(template, x, ndims, condition)
      return tf.ensure_shape(y, x.shape), total + log_det

    zero = tf.zeros(shapes.batch_shape(x, ndims), x.dtype)
    return self._for_each_step(body, (x, zero), backward=inverted)

  def _pull_back(self, y, upstream, condition, tensors, inverted):
    template, ndims = self._template(), self.forward_min_event_ndims
    trainable = [v.trainable for v in template.variables]

    def body(weights, y, gradient, totals):
      trained = [w for w, flag in zip(weights, trainable) if flag]
      with weight_values.substituted(template, weights):
        found = reversible.pull_back(
          template,
          reversible.after(y, [upstream.log_det, gradient]),
          upstream._replace(y=gradient),
          ndims,
          condition,
          [*tensors, *trained],
          inverted,
        )
      of = found.weights
      totals = [total + of[t.ref()] for total, t in zip(totals, tensors)]
      return (found.x, found.gradient, totals), [of[w.ref()] for w in trained]

    start = (y, upstream.y, [tf.zeros_like(t) for t in tensors])
    (x, gradient, totals), rows = self._for_each_step(
      body, start, backward=not inverted, collect=True
    )
    own = [v for v in self._weights if v.trainable]
    sources = [*tensors, *(weight_values.source(v) for v in own)]
    weights = {s.ref(): g for s, g in zip(sources, [*totals, *rows])}
    return reversible.PullBack(x, gradient, weights)

  def _for_each_step(self, body, state, backward, collect=False):
    """Calls `state = body(weights, *state)` for each step.

    Args:
      body: function of the weights of a step and of the state.
      state: a tuple.
      backward: whether from the last step to the first.
      collect: whether `body` returns another structure beside the state; those of all
        steps are then returned beside the last state, stacked.
    """
    weights = [weight_values.value(v) for v in self._weights]
    loop = self._unrolled
    if self._in_loop and not tf.executing_eagerly():
      loop = self._looped
    return loop(body, state, weights, backward, collect)

  def _unrolled(self, body, state, weights, backward, collect):
    columns = [tf.unstack(w, num=self._count) for w in weights]
    steps, rows = list(zip(*columns)), []
    for step in reversed(steps) if backward else steps:
      state = body(list(step), *state)
      if collect:
        state, row = state
        rows.append(row)
    if not collect:
      return state
    rows = reversed(rows) if backward else rows
    return state, [tf.stack(column) for column in zip(*rows)]

  def _looped(self, body, state, weights, backward, collect):
    count = self._count
    arrays = []
    if collect:
      arrays = [_array_like(w) for w, v in zip(weights, self._weights) if v.trainable]

    def step(i, state, arrays):
      k = count - 1 - i if backward else i
      state = body([w[k] for w in weights], *state)
      if collect:
        state, row = state
        arrays = [array.write(k, value) for array, value in zip(arrays, row)]
      return i + 1, state, arrays

    _, state, arrays = tf.while_loop(
      lambda i, *_: i < count, step, (0, state, arrays), maximum_iterations=count
    )
    return (state, [array.stack() for array in arrays]) if collect else state

  def _adapt(self, x, condition):
    template = self._template()
    columns = [tf.unstack(v) for v in self._weights]
    rows = []
    for step in zip(*columns):
      for variable, value in zip(template.variables, step):
        variable.assign(value)
      x = flow_bijector.adapt(template, x, condition)
      rows.append([tf.identity(v) for v in template.variables])
    for variable, column in zip(self._weights, zip(*rows)):
      variable.assign(tf.stack(column))
    return x


def _stacked(variables):
  first = variables[0]
  return tf.Variable(
    tf.stack([tf.convert_to_tensor(v) for v in variables]),
    trainable=first.trainable,
    name=first.name.split(':')[0],
  )


def _array_like(stacked):
  return tf.TensorArray(
    stacked.dtype, size=stacked.shape[0], element_shape=stacked.shape[1:]
  )


def _check_alike(steps):
  first = _signature(steps[0])
  for i, step in enumerate(steps):
    if _signature(step) != first:
      raise ValueError(
        f'Repeated expects steps of equal layers with weights of equal shapes; step '
        f'{i} differs from step 0. Use Sequential.'
      )


def _signature(step):
  return (
    [type(part) for part in (step, *step.submodules)],
    [(v.shape, v.dtype, v.trainable) for v in step.variables],
  )
