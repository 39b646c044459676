"""Runs SavedModels with TensorFlow alone: `tensorflow_alone.py REQUESTS RESULTS`.

`REQUESTS` is a `.npz` with keys `PATH:SIGNATURE:CALL:ARGUMENT`, and `RESULTS` gets the
outputs, with the name of the output as the last part of the key.
"""

import collections
import importlib.abc
import sys

BLOCKED = ('tensorflow_probability', 'tf_keras', 'tfp_flows')


class Blocker(importlib.abc.MetaPathFinder):
  """Refuses to import what a user of a SavedModel need not have."""

  def find_spec(self, name, path=None, target=None):
    if name.split('.')[0] in BLOCKED:
      raise ImportError(f'{name} is blocked')


def main(requests, results):
  sys.meta_path.insert(0, Blocker())
  import numpy as np
  import tensorflow as tf

  calls, outputs, loaded = collections.defaultdict(dict), {}, {}
  for key, value in np.load(requests).items():
    *call, argument = key.split(':')
    calls[tuple(call)][argument] = tf.constant(value)
  for (path, name, call), arguments in calls.items():
    if path not in loaded:
      loaded[path] = tf.saved_model.load(path)
    found = loaded[path].signatures[name](**arguments)
    outputs |= {f'{path}:{name}:{call}:{k}': v.numpy() for k, v in found.items()}
  assert not any(name in sys.modules for name in BLOCKED)
  np.savez(results, **outputs)


if __name__ == '__main__':
  main(*sys.argv[1:])
