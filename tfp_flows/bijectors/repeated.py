"""Equal steps, compiled once."""

import contextlib
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.bijectors import alike
from tfp_flows.bijectors import calls
from tfp_flows.bijectors import ffjord
from tfp_flows.bijectors import flow_bijector
from tfp_flows.bijectors import reversible
from tfp_flows.bijectors import stacking
from tfp_flows.internal import keras_parameters
from tfp_flows.internal import reports
from tfp_flows.internal import serialization
from tfp_flows.internal import shapes
from tfp_flows.internal import weight_values

__all__ = ['Repeated']

tfb = tfp.bijectors


class Repeated(keras_parameters.Templated, reversible.Composition):
  """Steps that differ in nothing but the values of their weights.

    forward: `y = f(w_n, ...f(w_2, f(w_1, x)))`
    log-det: the sum of the log-dets, each at its own input   (nats)

  For each weight of a step there is one variable, with a first axis for the steps:
  an optimizer updates the weights of all steps at once. With `loop` a graph has
  one step in a loop, so that the time to trace and to compile it, gradients included,
  does not grow with the number of steps; without, it has all of them. Values, gradients
  and checkpoints are the same.

  `memory='reversible'` keeps no activations for gradients, see `Sequential`.

  What is frozen in `template` is frozen in all steps: `template.trainable = False`, or
  `trainable` of a layer inside of it, or of a network.

  Each step must keep the shape of the event. Steps may be any bijectors of this
  library, alone or in compositions; others must read their variables through Keras.
  Each step has what it would have alone:

  * noise, of log-dets, traces and dropout: the seeds are the steps' own;
  * norms, which `tff.update_norms` brings up to date in one loop, too;
  * moving statistics;
  * iterations of an inverse, and solves: `tff.flow_report` has their evaluations and
    failures step by step, and the penalties as sums over the steps.

  Steps that differ in more than weights, as those of masks that alternate, are not
  alike; pairs of them are: `Repeated([Sequential([a, b]), Sequential([c, d])])`.

  In eager mode, and where layers are looked at one by one as in `Health`
  and `LipschitzReport`, there is no loop. `separate()` returns the steps as layers of
  their own.
  """

  _is_recorded = False  # The steps go, and their weights with them.

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
    flow_bijector.check_bijectors(steps, 'Repeated')
    if not steps:
      raise ValueError('Repeated expects at least one step; received none.')
    variables = [step.variables for step in steps]
    alike.check_alike(steps, variables)
    reversible.check_memory(memory, steps)
    alike.check_repeatable(steps, memory)
    template = steps[0]
    # Of each step, what tells its noise from that of others.
    self._salt = weight_values.Salt([_salt_numbers(step) for step in steps])
    # Behind a function, as its own variables are none of this layer's.
    self._template = lambda: template
    self._count, self._memory = len(steps), memory
    self._loop, self._in_loop = loop, loop and len(steps) > 1
    with tf.name_scope(name) as scope:
      super().__init__(
        forward_min_event_ndims=template.forward_min_event_ndims,
        dtype=template.dtype,
        parameters=dict(name=name),
        name=scope,
      )
      self._weights = [stacking.stacked(column) for column in zip(*variables)]
    self._moving = alike.moving(template)

  def __len__(self) -> int:
    return self._count

  def get_config(self) -> dict[str, Any]:
    """That of the first step, of which the others differ in weights and seeds."""
    with serialization.separately():
      step = serialization.serialize(self._template())
    options = dict(memory=self._memory, loop=self._loop, name=self.parameters['name'])
    if self._salt.numbers.size:
      options['salts'] = self._salt.numbers.tolist()
    return dict(step=step, count=self._count, **options)

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> 'Repeated':
    config = dict(config)
    steps = _steps_of(config.pop('step'), config.pop('count'))
    salts = config.pop('salts', None)
    repeated = cls(steps, **config)
    if salts is not None:
      repeated._salt.numbers[:] = salts
    return repeated

  def _remade(self, overrides):
    return type(self).from_config(self.get_config() | overrides)

  @property
  def template(self) -> tfb.Bijector:
    """The layer that each step is, whose own weights mean nothing."""
    return self._template()

  @property
  def stacked(self) -> list[tuple[tf.Variable, tf.Variable]]:
    """Each variable, and that of the template whose place its slices take."""
    return list(zip(self._weights, self._template().variables))

  def separate(self) -> list[tfb.Bijector]:
    """The steps as layers of their own, with copies of the weights as they are."""
    config = self.get_config()
    steps = _steps_of(config['step'], self._count)
    for k, step in enumerate(steps):
      for stacked, own in zip(self._weights, step.variables, strict=True):
        own.assign(stacked[k])
      weight_values.set_salts(step, self._salt.numbers[k])
    return steps

  @property
  def moving_variables(self) -> list[tf.Variable]:
    """Those that a call, or an update of norms, may assign to."""
    return [self._weights[i] for i in self._moving]

  def update(self, fn: Callable[[tfb.Bijector], None]) -> None:
    """Calls `fn(step)` for each step, and keeps what that assigns.

    Args:
      fn: called with `template`, which has the weights of one step.
    """
    assigned: set[int]
    template, assigned = self._template(), set()

    def body(row):
      with self._given(row) as block:
        fn(template)
      return (), self._moved(block, assigned)

    _, moved = self._for_each_step(body, (), False, self._moving_specs())
    self._keep(moved, assigned)

  def map(self, fn: Callable[[tfb.Bijector], Any]) -> list[Any]:
    """`fn(step)` for each step, one after the other, without a loop.

    Args:
      fn: called with `template`, which has the weights of one step.
    """
    found = []
    for row in stacking.rows(self._stacks(), self._count):
      with self._given(row):
        found.append(fn(self._template()))
    return found

  def followed(self) -> list[tuple[tf.Variable, tf.Variable]]:
    weights = self.__dict__.get('_weights')
    return self.stacked if weights else []

  @property
  def trainable(self) -> bool:
    template = self._template()
    is_ours = isinstance(template, flow_bijector.FlowBijector)
    return template.trainable if is_ours else True

  def _set_trainable(self, value):
    flow_bijector.set_trainable(self._template(), value)

  @property
  def adapted(self) -> bool:
    """Whether nothing is left to `adapt`."""
    flags = [w for w in self._weights if w.name.endswith('/adapted:0')]
    return all(bool(tf.reduce_all(flag)) for flag in flags)

  @property
  def condition_size(self) -> int | None:
    """That of its networks, which are no parts of the layer."""
    return keras_parameters.condition_size(self._template())

  @property
  def takes_condition(self) -> bool:
    return calls.takes_condition(self._template())

  def _forward_event_shape(self, shape):
    return self._template().forward_event_shape(shape)

  def _inverse_event_shape(self, shape):
    return self._template().inverse_event_shape(shape)

  @property
  def is_recomputable(self) -> bool:
    return reversible.is_recomputable(self._template())

  @property
  def is_estimated(self) -> bool | None:
    layers = flow_bijector.estimating_layers(self._template())
    return any(layer.is_estimated for layer in layers) if layers else None

  @property
  def log_det_costs(self) -> bool:
    return calls.log_det_costs(self._template())

  def _forward_value(self, x, condition=None):
    return self._compose(x, condition, inverted=False, value_only=True)[0]

  def _inverse_value(self, y, condition=None):
    return self._compose(y, condition, inverted=True, value_only=True)[0]

  def _compose(self, x, condition, inverted, value_only=False):
    template, ndims = self._template(), self.forward_min_event_ndims
    step = calls.step_of(inverted, value_only)
    outer = reports.innermost()
    reported: set[str] = set()
    assigned: set[int] = set()
    parts = keras_parameters.parts(template)
    flows = [part for part in parts if isinstance(part, ffjord.FFJORD)]
    names = sorted({name for flow in flows for name in flow.penalties.weights()})

    def body(row, x, total, penalties):
      with self._given(row) as block, reports.flow_report(outer.probe) as own:
        y, log_det = step(template, x, ndims, condition)
      reported.update(own.penalties)
      penalties = [p + sum(own.penalties.get(n, [])) for n, p in zip(names, penalties)]
      solves = [_total(own.evaluations), _total(own.failures)] if flows else []
      state = shapes.ensure(y, x.shape), total + log_det, penalties
      return state, [*self._moved(block, assigned), *solves]

    zero = tf.zeros(shapes.batch_shape(x, ndims), x.dtype)
    specs = [*self._moving_specs(), *[(tf.int32, [])] * (2 * bool(flows))]
    (y, log_det, penalties), rows = self._for_each_step(
      body, (x, zero, [zero for _ in names]), inverted, specs
    )
    self._keep(rows[: len(self._moving)], assigned)
    if flows:
      evaluations, failures = (tf.unstack(r, num=self._count) for r in rows[-2:])
      outer.evaluations.extend(evaluations)
      outer.failures.extend(failed > 0 for failed in failures)
    for name, penalty in zip(names, penalties):
      if name in reported:
        outer.add_penalty(name, penalty)
    return y, log_det

  def _pull_back(self, y, upstream, condition, tensors, inverted):
    template, ndims = self._template(), self.forward_min_event_ndims
    trainable = [v.trainable for v in self._weights]

    def body(row, y, gradient, totals):
      trained = [w for w, flag in zip(row, trainable) if flag]
      with self._given(row):
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
      _check_owned(of, tensors, trained)
      x = shapes.ensure(found.x, y.shape)
      gradient = shapes.ensure(found.gradient, y.shape)
      return (x, gradient, totals), [of[w.ref()] for w in trained]

    start = (y, upstream.y, [tf.zeros_like(t) for t in tensors])
    own = [v for v in self._weights if v.trainable]
    (x, gradient, totals), rows = self._for_each_step(
      body, start, not inverted, [stacking.spec(v) for v in own]
    )
    sources = [*tensors, *(weight_values.source(v) for v in own)]
    weights = {s.ref(): g for s, g in zip(sources, [*totals, *rows])}
    return reversible.PullBack(x, gradient, weights)

  # The steps one by one. A row is what the weights of one step are, and its salts.

  def _stacks(self):
    weights = [weight_values.value(v) for v in self._weights]
    return [*weights, weight_values.value(self._salt)]

  @contextlib.contextmanager
  def _given(self, row):
    """Inside of it `template` is the step of that row."""
    *weights, salts = row
    template = self._template()
    with weight_values.with_salts(template, salts):
      with weight_values.substituted(template, weights) as block:
        yield block

  def _moving_specs(self):
    return [stacking.spec(v) for v in self.moving_variables]

  def _moved(self, block, assigned):
    """What the variables that may move are after a step; notes which were assigned."""
    assigned |= {i for i in self._moving if block.is_assigned(i)}
    return [block.value(i) for i in self._moving]

  def _keep(self, stacked, assigned):
    for i, rows in zip(self._moving, stacked, strict=True):
      if i in assigned:
        weight_values.assign(self._weights[i], rows)

  def _for_each_step(self, body, state, backward, specs):
    return stacking.for_each(
      body, state, self._stacks(), specs, self._count, backward, self._in_loop
    )

  def _adapt(self, x, condition):
    template = self._template()
    variables, adapted = template.variables, []
    columns = [tf.unstack(w) for w in self._weights]
    for k in range(self._count):
      for variable, column in zip(variables, columns):
        variable.assign(column[k])
      with weight_values.with_salts(template, self._salt.numbers[k]):
        x = calls.adapt(template, x, condition)
      adapted.append([tf.identity(v) for v in variables])
    for weight, column in zip(self._weights, zip(*adapted)):
      weight.assign(tf.stack(column))
    return x


def _steps_of(config, count):
  """So many steps of the configuration of the first."""
  steps = []
  for i in range(count):
    with serialization.separately():
      steps.append(serialization.deserialize(_with_seeds_of(config, i)))
  return steps


def _with_seeds_of(config, index):
  """A configuration with other seeds for each index; for 0 it is the same."""
  if isinstance(config, dict):
    return {
      key: (value + 1_000_003 * index) % 2**31
      if key == 'seed' and isinstance(value, int)
      else _with_seeds_of(value, index)
      for key, value in config.items()
    }
  if isinstance(config, list):
    return [_with_seeds_of(value, index) for value in config]
  return config


def _salt_numbers(step):
  numbers = [salt.numbers.reshape(-1) for salt in weight_values.salts(step)]
  return np.concatenate([np.zeros([0], np.int32), *numbers])


def _total(values):
  return tf.add_n([tf.zeros([], tf.int32), *(tf.cast(v, tf.int32) for v in values)])


def _check_owned(gradients, tensors, weights):
  strangers = set(gradients) - {t.ref() for t in (*tensors, *weights)}
  if strangers:
    names = ', '.join(sorted(ref.deref().name for ref in strangers))
    raise ValueError(
      f'Repeated expects steps that own the variables they read; received some that '
      f'read {names}. Make these attributes of the layer, or use Sequential.'
    )
