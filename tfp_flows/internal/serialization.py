"""How layers, distributions and what they are made of stand in a configuration.

Keras serializes an object by the arguments of its constructor, `get_config`, and calls
it with them, `from_config`. Our layers do the same, and their arguments may be objects
of TensorFlow Probability, variables, arrays and functions. A configuration is JSON: an
object in it has a `type`, which is a key of `_DECODERS`. No code stands in it, and what
it names is looked up among the public names of this package and of TensorFlow
Probability, and in the registry of Keras, alone: where a class is defined may change.
An object that occurs twice is one object again.
"""

import contextlib
import contextvars
import dataclasses
import types
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.internal import constructors
from tfp_flows.internal import missing
from tfp_flows.internal import names
from tfp_flows.internal import renaming
from tfp_flows.internal import tfp_private

__all__ = [
  'deserialize',
  'deserialize_arguments',
  'separately',
  'serialize',
  'serialize_arguments',
]

_PACKAGE = 'tfp_flows.'
_NAMESPACES = {
  'bijectors': (tfp.bijectors, tfp.bijectors.Bijector),
  'distributions': (tfp.distributions, tfp.distributions.Distribution),
  'math.ode': (tfp.math.ode, tfp.math.ode.Solver),
}


class _Scope:
  """The objects that one configuration has met so far."""

  def __init__(self):
    self.path: list[str] = []
    self.numbers: dict[int, tuple[int, Any]] = {}
    self.objects: dict[int, Any] = {}


_current: contextvars.ContextVar[Any] = contextvars.ContextVar(
  'scope of a configuration', default=None
)


@contextlib.contextmanager
def separately() -> Iterator[_Scope]:
  """Inside of it configurations refer to no object outside of it."""
  scope = _Scope()
  token = _current.set(scope)
  try:
    yield scope
  finally:
    _current.reset(token)


@contextlib.contextmanager
def _scope():
  scope = _current.get()
  with contextlib.nullcontext(scope) if scope else separately() as scope:
    yield scope


def serialize_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
  """`serialize` of each argument."""
  with _scope():
    return {name: serialize(value, f'.{name}') for name, value in arguments.items()}


def deserialize_arguments(config: dict[str, Any]) -> dict[str, Any]:
  """`deserialize` of each argument."""
  with _scope():
    return {name: deserialize(value) for name, value in config.items()}


def serialize(value: Any, step: str = '') -> Any:
  """Returns `value` as JSON.

  Args:
    value: a number, string or None; an array, tensor, dtype, shape or variable; a list,
      tuple or dictionary; a function or class with a name; an object of Keras, of
      TensorFlow Probability, or of a class of this package or registered with Keras.
    step: how one comes here from what `serialize` was called with before.

  Raises:
    ValueError: for anything else; says where it is.
  """
  if value is None or type(value) in (bool, int, float, str):
    return value
  with _scope() as scope:
    scope.path.append(step)
    try:
      if isinstance(value, (tf.Module, tf.Variable, keras.layers.Layer)):
        return _once(value, scope)
      return _encode(value)
    finally:
      scope.path.pop()


def deserialize(node: Any) -> Any:
  """What `serialize`, or Keras, returned the JSON of; weights are those of new objects.

  Raises:
    ValueError: if it names something that is unknown, or not allowed.
  """
  if isinstance(node, list):
    with _scope():
      return [deserialize(item) for item in node]
  if not isinstance(node, dict):
    return node
  if 'class_name' in node and 'type' not in node:
    return _decode_keras(dict(config=node))
  if node.get('type') not in _DECODERS:
    raise ValueError(
      f'Expected a configuration that tfp_flows wrote; received {str(node)[:200]}.'
    )
  with _scope() as scope:
    value = _DECODERS[node['type']](node)
    if 'number' in node:
      scope.objects[node['number']] = value
    return value


def _once(value, scope):
  """The JSON of an object with an identity, or where it stood before."""
  if id(value) not in scope.numbers:
    node = _encode(value)
    # The object is kept, so that its id is no other's.
    scope.numbers[id(value)] = len(scope.numbers), value
    return dict(node, number=len(scope.numbers) - 1)
  return dict(type='same', same=scope.numbers[id(value)][0])


def _encode(value):
  for kinds, encode in _ENCODERS:
    if isinstance(value, kinds):
      return encode(value)
  cls = type(value)
  if dataclasses.is_dataclass(cls) and cls.__module__.startswith(_PACKAGE):
    return _encode_dataclass(value)
  if _is_of_keras(cls) or _is_registered(cls):
    return dict(type='keras', config=_keras_config(value))
  if cls.__module__.startswith('tensorflow_probability.'):
    return _encode_tfp(value)
  raise _error(
    value,
    f'{missing.REGISTER} if it is of a class of yours, which needs `get_config` and '
    f'`from_config`, as `tff.FlowBijector` has them.',
  )


def _error(value, remedy):
  path = ''.join(_current.get().path).lstrip('.') or 'the top'
  return ValueError(
    f'Expected arguments that can be saved; received {value!r} at {path}. {remedy} Or '
    f'save the weights only.'
  )


def _encode_array(value, kind):
  value = np.asarray(value)
  flat = value.reshape(-1)
  if value.dtype.kind in 'cOSU':
    raise _error(value, 'Pass real numbers.')
  if value.dtype.kind not in 'biuf':
    flat = flat.astype(np.float64)  # bfloat16
  dtype = tf.as_dtype(value.dtype).name
  return dict(type=kind, dtype=dtype, shape=list(value.shape), values=flat.tolist())


def _decode_array(node):
  dtype = tf.as_dtype(node['dtype']).as_numpy_dtype
  # With () a scalar is one again.
  return np.array(node['values'], dtype).reshape(node['shape'])[()]


def _encode_variable(value):
  node = _encode_array(value.numpy(), 'variable')
  return dict(node, trainable=value.trainable, name=value.name.split(':')[0])


def _decode_variable(node):
  return tf.Variable(
    _decode_array(node), trainable=node['trainable'], name=node['name']
  )


def _encode_transformed(value):
  node = _encode_array(tf.convert_to_tensor(value).numpy(), 'transformed_variable')
  variable = value.pretransformed_input
  return dict(
    node,
    bijector=serialize(value.bijector, '.bijector'),
    trainable=variable.trainable,
    name=variable.name.split(':')[0],
  )


def _decode_transformed(node):
  return tfp.util.TransformedVariable(
    _decode_array(node),
    deserialize(node['bijector']),
    trainable=node['trainable'],
    name=node['name'],
  )


def _encode_deferred(value):
  return dict(
    type='deferred_tensor',
    input=serialize(value.pretransformed_input, '.pretransformed_input'),
    transform=serialize(value.transform_fn, '.transform_fn'),
    dtype=value.dtype.name,
    shape=value.shape.as_list(),
  )


def _decode_deferred(node):
  return tfp.util.DeferredTensor(
    deserialize(node['input']),
    deserialize(node['transform']),
    dtype=node['dtype'],
    shape=node['shape'],
  )


def _encode_list(value):
  return [serialize(item, f'[{i}]') for i, item in enumerate(value)]


def _encode_tuple(value):
  if hasattr(value, '_fields'):
    raise _error(value, 'Pass a plain tuple or a dictionary.')
  return dict(type='tuple', items=_encode_list(value))


def _encode_dict(value):
  items = {k: serialize(v, f'[{k!r}]') for k, v in value.items()}
  if not all(isinstance(k, str) for k in items):
    raise _error(value, 'Pass a dictionary with strings as keys.')
  return dict(type='dict', items=items)


def _encode_named(value):
  """A function or class, by its name."""
  if isinstance(value, type) and issubclass(value, np.generic):
    return dict(type='dtype', name=tf.as_dtype(value).name)
  if names.public(value.__qualname__) is value:
    return dict(type='public', name=value.__qualname__)
  if names.private(value.__qualname__) is value:
    return dict(type='named', name=value.__qualname__)
  if _is_registered(value):
    return dict(type='registered', name=keras.saving.get_registered_name(value))
  if _is_of_keras(value) and not isinstance(value, type):
    return dict(type='keras', config=keras.saving.serialize_keras_object(value))
  raise _error(value, f'Give it a name and no closure. {missing.REGISTER}.')


def _decode_public(node):
  value = names.public(node['name'])
  if value is None:
    raise ValueError(
      f'Expected a public name of tfp_flows; received {node["name"]!r}. Was the file '
      f'written by a newer version?'
    )
  return value


def _decode_registered(node):
  names.register_ours(node['name'])
  value = keras.saving.get_registered_object(node['name'])
  if value is None:
    raise missing.not_registered('function or class', node['name'])
  return value


def _decode_named(node):
  """Of a private name, or, in files of version 0.1, of any name and its module then."""
  value = names.private(node['name']) or names.public(node['name'])
  if value is None or not node.get('module', _PACKAGE).startswith(_PACKAGE):
    raise ValueError(f'Expected a function or class of tfp_flows; received {node}.')
  return value


def _encode_dataclass(value):
  names = [field.name for field in dataclasses.fields(value)]
  items = {name: serialize(getattr(value, name), f'.{name}') for name in names}
  return dict(type='dataclass', of=_encode_named(type(value)), arguments=items)


def _decode_dataclass(node):
  cls = deserialize(node['of'])
  if not dataclasses.is_dataclass(cls):
    raise ValueError(f'Expected a dataclass of tfp_flows; received {node["of"]}.')
  arguments = renaming.current(cls, node['arguments'])
  return cls(**deserialize_arguments(arguments))  # type: ignore[operator]


def _encode_tfp(value):
  # A composition of what is no composite tensor is of a private class.
  name = type(value).__name__.lstrip('_')
  for namespace, (module, base) in _NAMESPACES.items():
    cls = getattr(module, name, None)
    if isinstance(value, base) and cls is not None:
      arguments = constructors.arguments_of(cls, _tfp_parameters(value, cls))
      items = {k: serialize(v, f'.{k}') for k, v in arguments.items()}
      return dict(type='tfp', name=f'{namespace}.{name}', arguments=items)
  raise _error(value, 'Bijectors, distributions and solvers can be.')


def _tfp_parameters(value, cls):
  if not isinstance(value, tfp.math.ode.Solver):
    return {k: v for k, v in value.parameters.items() if k != 'parameters'}
  return tfp_private.solver_arguments(value, cls)


def _decode_tfp(node):
  namespace, _, name = node['name'].rpartition('.')
  module, base = _NAMESPACES.get(namespace, (None, None))
  cls = getattr(module, name, None)
  if not isinstance(cls, type) or not issubclass(cls, base):
    raise ValueError(
      f'Expected a public class of TensorFlow Probability; received {node["name"]!r}.'
    )
  return cls(**deserialize_arguments(node['arguments']))


def _is_of_keras(named):
  return (named.__module__ or '').startswith('keras.')


def _is_registered(named):
  name = keras.saving.get_registered_name(named)
  return keras.saving.get_registered_object(name) is named


def _keras_config(value):
  try:
    config = keras.saving.serialize_keras_object(value)
  except NotImplementedError as error:
    raise _error(value, 'Its class has to implement `get_config`.') from error
  if (config['module'] or '').startswith(_PACKAGE):
    config['module'] = 'tfp_flows'  # Where Keras has registered it from may change.
  return config


def _decode_keras(node):
  config = node['config']
  names.register_ours(config.get('registered_name'))
  try:
    return keras.saving.deserialize_keras_object(config)
  except TypeError as error:
    # Of a `ValueError` Keras leaves the message as it is.
    raise missing.shortened(error) from error


_NAMED = (type, types.FunctionType, types.BuiltinFunctionType)

# The first that fits.
_ENCODERS: list[tuple[Any, Callable[[Any], Any]]] = [
  (tfp.util.TransformedVariable, _encode_transformed),
  (tfp.util.DeferredTensor, _encode_deferred),
  (tf.Variable, _encode_variable),
  (tf.Tensor, lambda value: _encode_array(value, 'tensor')),
  ((np.ndarray, np.generic), lambda value: _encode_array(value, 'array')),
  (tf.DType, lambda value: dict(type='dtype', name=value.name)),
  (tf.TensorShape, lambda value: dict(type='shape', sizes=value.as_list())),
  (list, _encode_list),
  (tuple, _encode_tuple),
  (dict, _encode_dict),
  (_NAMED, _encode_named),
]

_DECODERS: dict[str, Callable[[dict[str, Any]], Any]] = {
  'array': _decode_array,
  'dataclass': _decode_dataclass,
  'deferred_tensor': _decode_deferred,
  'dict': lambda node: deserialize_arguments(node['items']),
  'dtype': lambda node: tf.as_dtype(node['name']),
  'keras': _decode_keras,
  'named': _decode_named,
  'public': _decode_public,
  'registered': _decode_registered,
  'same': lambda node: _current.get().objects[node['same']],
  'shape': lambda node: tf.TensorShape(node['sizes']),
  'tensor': lambda node: tf.constant(_decode_array(node)),
  'tfp': _decode_tfp,
  'transformed_variable': _decode_transformed,
  'tuple': lambda node: tuple(deserialize(node['items'])),
  'variable': _decode_variable,
}
