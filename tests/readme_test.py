"""The README's code and its tables."""

import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tff
from tfp_flows.flows import MODELS
from tfp_flows.runs.options import configs

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / 'README.md').read_text()


def test_python_block_runs(monkeypatch):
  blocks = re.findall(r'```python\n(.*?)```', README, re.S)
  block, custom, residual, continuous, health = blocks
  fit = keras.Model.fit
  monkeypatch.setattr(
    keras.Model, 'fit', lambda *a, **k: fit(*a, **k | dict(epochs=1, verbose=0))
  )
  lines = [line for line in block.splitlines() if line.strip()]
  assert len(lines) == 12
  names = {}
  exec(block, names)
  own = {}
  exec(custom, own)
  assert own['flow'].log_prob(tf.zeros([2, 6])).shape == (2,)
  own = {'x': tf.ones([4, 6])}
  exec(residual, own)
  assert own['solution'].converged.numpy().all()
  own = {'x': tf.ones([4, 6])}
  exec(continuous, own)
  assert int(own['report'].evaluations[0]) > 6
  small = tff.FlowModel(tff.real_nvp([2], num_steps=1, width=4))
  own = dict(keras=keras, tff=tff, model=small, images=np.ones([64, 2], 'f4'))
  exec(health, own)
  assert float(own['rate'].factor) == 1.0
  assert names['samples'].shape == (16, 8, 8, 1)
  assert names['log_prob'].shape == (397,)


def test_every_link_leads_somewhere():
  for path in re.findall(r'\]\(((?!http)[^)]+)\)', README):
    assert (ROOT / path).exists(), path


@pytest.mark.parametrize('name', [n for n in tff.__all__ if n[0].isupper()])
def test_every_class_is_in_the_readme(name):
  assert f'`{name}`' in README or f'{name}' in {'BitsPerDim'}


def test_every_model_and_config_is_in_the_readme():
  for name in MODELS:
    assert f'`tff.{name}`' in README
  for name in configs():
    assert f'`{name}`' in README


def test_ci_finds_one_command():
  found = re.findall(r'^python3 -m venv .* pytest.*$', README, re.M)
  assert len(found) == 1
