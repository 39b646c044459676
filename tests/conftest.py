"""Every test starts from the same seed; figures are drawn without a screen."""

import importlib.metadata
import os

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('MPLBACKEND', 'Agg')
# Most of the time of a compilation is spent on the speed of its result. XLA ends the
# process at a flag that it does not know.
os.environ.setdefault(
  'XLA_FLAGS',
  '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true '
  '--xla_cpu_parallel_codegen_split_count=1'
  + ' --xla_cpu_use_fusion_emitters=false'
  * (importlib.metadata.version('tensorflow') >= '2.21'),
)

import keras
import pytest


@pytest.fixture(autouse=True)
def _seeded():
  keras.utils.set_random_seed(0)
