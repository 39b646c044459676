"""Every test starts from the same seed; figures are drawn without a screen."""

import os

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('MPLBACKEND', 'Agg')
# Most of the time of a compilation is LLVM's, whose optimizations are none of ours.
os.environ.setdefault(
  'XLA_FLAGS',
  '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true',
)

import keras
import pytest


@pytest.fixture(autouse=True)
def _seeded():
  keras.utils.set_random_seed(0)
