"""A residual network of continuous depth."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.internal import configurable
from tfp_flows.math import ode
from tfp_flows.math import ode_solvers

__all__ = ['NeuralODE']


class NeuralODE(configurable.ConfigurableLayer, keras.layers.Layer):
  """Follows a vector field from its input to its output [(Chen et al., 2018)][1].

    y = x(t1),   dx/dt = f(t, x(t)),   x(t0) = input

  The residual network whose steps are those of a solver: as many evaluations of `f`
  as the tolerance asks for, and the weights of one. Maps `[N, ..., C]` to the same
  shape, or to `[N, ..., C + augment]`: `augment` channels of zeros are appended to
  the input and stay in the output, so that paths may pass each other
  [(Dupont et al., 2019)][2].

  A Keras layer like others, in functional and sequential models, in eager mode and
  under XLA. Gradients are those of the adjoint method, in memory that does not depend
  on the number of steps, see `tfp_flows.math.integrate`: for x, the final time if it
  is trainable, and every variable that the field reads, but no tensor that it closes
  over. Second derivatives raise `LookupError`.

  Steps are chosen for the whole batch: the output of an example depends, within the
  tolerance, on the others beside it. The field is called with `training=False`, also
  in `fit`: with dropout, or with the moments of a batch, it would be another equation
  each time.

  The state has at least the precision of float32, whatever the policy; only the
  output is then cast to `compute_dtype`. A solver of small tolerances follows even the
  rounding of a *field* in bfloat16, in several times the steps: such a field goes with
  tolerances of 1e-2, or with `RungeKutta4`.

  `fit` and `evaluate` log the mean number of evaluations of `f` per batch, as a metric
  with the name of the layer before it: `neural_ode_nfe`. `neural_ode_nfe_backward`
  counts those for gradients of calls with `training=True`; it is 0 where there are
  none.

  Layers can be saved whose field is registered with Keras and whose solvers are those
  of this library or of TFP.

  If the solver fails, because it needs too many steps or the field is not finite, an
  eager call raises `ValueError`; in graphs, where nothing can be raised, the output is
  NaN.

  #### Examples

  ```python
  model = keras.Sequential([
    keras.Input([2]),
    tff.NeuralODE(tff.FieldMLP(5, [32, 32]), augment=3),
    keras.layers.Dense(1)])
  ```

  #### References

  [1]: Ricky T. Q. Chen, Yulia Rubanova, Jesse Bettencourt and David Duvenaud. Neural
       Ordinary Differential Equations. In _NeurIPS_, 2018.
       https://arxiv.org/abs/1806.07366
  [2]: Emilien Dupont, Arnaud Doucet and Yee Whye Teh. Augmented Neural ODEs. In
       _NeurIPS_, 2019. https://arxiv.org/abs/1904.01681
  """

  def __init__(
    self,
    field: keras.layers.Layer,
    solver: tfp.math.ode.Solver | None = None,
    evaluation_solver: tfp.math.ode.Solver | None = None,
    adjoint_solver: tfp.math.ode.Solver | None = None,
    initial_time: float = 0.0,
    final_time: float = 1.0,
    trainable_time: bool = False,
    augment: int = 0,
    name: str | None = None,
    dtype: Any = None,
  ):
    """Creates the layer.

    Args:
      field: `f`, a built Keras layer of a scalar time and `x` with its zeros, as
        `FieldMLP` and `FieldConvNet`. It should be smooth.
      solver: any `tfp.math.ode.Solver`; None is `DormandPrince(1e-5, 1e-5)`.
      evaluation_solver: outside of training; None is `solver`.
      adjoint_solver: of gradients; None is the solver of the value.
      initial_time: t0.
      final_time: t1; either may be the later one.
      trainable_time: whether t1 is a weight, which starts at `final_time`.
      augment: number of channels of zeros.
      name: name of the layer.
      dtype: Keras dtype or policy.

    Raises:
      ValueError: if the field is not a layer or not built, or `augment` negative;
        when called, if the field returns another shape than that of `x`.
    """
    super().__init__(name=name, dtype=dtype)
    _check_field(field)
    if augment < 0:
      raise ValueError(f'Expected augment >= 0; received {augment}.')
    self.field = field
    self.solver = solver or ode_solvers.DormandPrince()
    self._record(NeuralODE, solver=self.solver)
    self.evaluation_solver = evaluation_solver
    self.adjoint_solver = adjoint_solver
    self.initial_time = float(initial_time)
    self.trainable_time = trainable_time
    self.augment = augment
    self._final_time: Any = float(final_time)
    if trainable_time:
      self._final_time = self.add_weight(
        shape=(),
        initializer=keras.initializers.Constant(final_time),
        autocast=False,
        name='final_time',
      )
    self._nfe = keras.metrics.Mean(f'{self.name}_nfe', dtype='float32')
    self._nfe_backward = keras.metrics.Mean(
      f'{self.name}_nfe_backward', dtype='float32'
    )
    self.built = True

  @property
  def final_time(self) -> Any:
    """t1: a number, or if it is trainable a tensor."""
    if self.trainable_time:
      return tf.convert_to_tensor(self._final_time.value)
    return self._final_time

  def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
    solution = self._solve(x, training, self._probe(x) if training else None)
    self._nfe.update_state(solution.num_evaluations)
    return tf.cast(solution.x, self.compute_dtype)

  def count_evaluations(self, x: Any, training: bool = True) -> tuple[int, int]:
    """Numbers of evaluations of `f` for a batch: of the output, and of its gradient.

    For eager mode. The second is that for the gradient of the sum of all outputs;
    under another loss the solver may take other steps.

    Args:
      x: a batch.
      training: whether with the solver of training or that of evaluation.
    """
    with tf.GradientTape() as tape:
      probe = tf.zeros([])
      tape.watch(probe)
      solution = self._solve(tf.convert_to_tensor(x), training, probe)
    backward = tape.gradient(solution.x, probe)
    return int(solution.num_evaluations), int(backward)

  def compute_output_shape(self, input_shape: Sequence[Any]) -> tuple[int | None, ...]:
    return *input_shape[:-1], input_shape[-1] + self.augment

  def get_config(self) -> dict[str, Any]:
    return dict(super().get_config(), final_time=float(self.final_time))

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> 'NeuralODE':
    solvers = ('solver', 'evaluation_solver', 'adjoint_solver')
    of_older = {k: _of_older(config[k]) for k in solvers if k in config}
    return super().from_config(config | of_older)

  def _solve(self, x, training, probe):
    x = tf.cast(x, keras.backend.result_type(self.variable_dtype, 'float32'))
    zeros = [[0, 0]] * (x.shape.rank - 1) + [[0, self.augment]]
    solution = ode.integrate(
      self._rates,
      tf.pad(x, zeros) if self.augment else x,
      self.initial_time,
      self.final_time,
      self.solver if training else self.evaluation_solver or self.solver,
      self.adjoint_solver,
      probe=probe,
    )
    ode.check_solved(solution, self.name)
    return solution

  def _rates(self, t, x):
    value = self.field(t, x, training=False)
    if not value.shape.is_compatible_with(x.shape):
      raise ValueError(
        f'Expected the field of {self.name} to return the shape of x, {x.shape}; '
        f'received {value.shape}.'
      )
    return tf.cast(value, x.dtype), ()

  def _probe(self, x):
    """A probe that brings its "gradient" to the metric and none to its inputs.

    It depends on all that a gradient may be taken of: so it is asked for one as soon
    as the backward solve takes place.
    """

    @tf.custom_gradient
    def probe(*sources):
      def gradient(evaluations):
        self._nfe_backward.update_state(evaluations)
        return [None] * len(sources)

      return tf.zeros([]), gradient

    return probe(x, *(tf.convert_to_tensor(w) for w in self.trainable_weights))


def _check_field(field):
  if not isinstance(field, keras.layers.Layer):
    raise ValueError(
      f'Expected field to be a Keras layer, called as field(t, x); received {field}.'
    )
  if not field.built:
    raise ValueError(
      f'Expected a built field; {field.name} has no weights yet. Create them in its '
      f'constructor, or call it first: `field(tf.zeros([]), x)`, where x has its '
      f'`augment` channels.'
    )


def _of_older(solver):
  """The configuration of a solver, which files of earlier versions have as its own."""
  if not solver or 'type' in solver:
    return solver
  name = solver['class_name']
  return dict(solver, module='tfp_flows', registered_name=f'tfp_flows>{name}')
