"""The only import of private TensorFlow names."""

import contextlib
from collections.abc import Iterator

from tensorflow.python import pywrap_tfe
from tensorflow.python.eager import record
from tensorflow.python.framework import ops
from tensorflow.python.ops import control_flow_util

__all__ = ['VariableWatcher', 'in_xla', 'recording', 'stop_recording']


def in_xla() -> bool:
  """Whether what is being traced is compiled by XLA."""
  return control_flow_util.GraphOrParentsInXlaContext(ops.get_default_graph())


# Lists the trainable variables that are read inside of it.
VariableWatcher = record.VariableWatcher

# Nothing inside this context is seen by any gradient tape. With a tape on, TensorFlow
# builds the derivatives of each loop with it, be they wanted or not, and those of
# loops in loops take it many seconds.
stop_recording = record.stop_recording


@contextlib.contextmanager
def recording() -> Iterator[None]:
  """Lets tapes record again inside of `stop_recording`."""
  is_stopped = pywrap_tfe.TFE_Py_TapeSetIsStopped()
  if is_stopped:
    pywrap_tfe.TFE_Py_TapeSetRestartOnThread()
  try:
    yield
  finally:
    if is_stopped:
      pywrap_tfe.TFE_Py_TapeSetStopOnThread()
