"""Every test starts from the same seed; figures are drawn without a screen."""

import os

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('MPLBACKEND', 'Agg')

import keras
import pytest


@pytest.fixture(autouse=True)
def _seeded():
  keras.utils.set_random_seed(0)
