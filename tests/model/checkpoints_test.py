"""Checkpoints of any Keras model, and files that are whole or not there."""

import pathlib
import warnings

import keras
import numpy as np
import pytest

import tfp_flows as tff
from tfp_flows.internal import files
from tfp_flows.model import checkpoints as checkpoints_lib
from tfp_flows.model import weights


def make_model(width=4, seed=0):
  model = tff.FlowModel(tff.real_nvp([2], num_steps=1, width=width, seed=seed), seed=1)
  model.compile(keras.optimizers.Adam(1e-3, use_ema=True), jit_compile=False)
  return model


def train(model):
  x = np.random.default_rng(0).normal(size=[8, 2]).astype(np.float32)
  model.fit(x, batch_size=4, epochs=1, verbose=0)


def numbers(model):
  return [np.array(v) for v in (*model.variables, *model.optimizer.variables)]


def assert_same(found, expected):
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_array_equal(a, b)


def flip(path, share=0.5):
  content = bytearray(pathlib.Path(path).read_bytes())
  content[int(share * len(content))] ^= 4
  pathlib.Path(path).write_bytes(content)


def test_everything_is_restored(tmp_path):
  model = make_model()
  assert tff.Checkpoints(tmp_path / 'c', model).restore() is None
  train(model)
  saved = numbers(model)
  tff.Checkpoints(tmp_path / 'c', model).save(2, {'epoch': 1, 'best': [0.5, None]})
  train(model)
  after = numbers(model)

  other = make_model(seed=3)
  checkpoints = tff.Checkpoints(tmp_path / 'c', other)
  assert checkpoints.restore() == {'epoch': 1, 'best': [0.5, None]}
  assert_same(numbers(other), saved)
  train(other)
  assert_same(numbers(other), after)


def test_the_last_ones_are_kept(tmp_path):
  checkpoints = tff.Checkpoints(tmp_path, make_model(), keep=2)
  for step in (5, 1, 7):
    checkpoints.save(step, {'step': step})
  assert checkpoints.steps == [7, 5]
  assert checkpoints.restore() == {'step': 7}
  with pytest.raises(ValueError, match='keep >= 1; received 0'):
    tff.Checkpoints(tmp_path, make_model(), keep=0)


@pytest.mark.parametrize('share', np.linspace(0.01, 0.99, 25))
def test_a_flipped_bit_is_found_or_harmless(share, tmp_path):
  model = make_model()
  checkpoints = tff.Checkpoints(tmp_path, model)
  saved = numbers(model)
  checkpoints.save(1, {'step': 1})
  checkpoints.save(2, {'step': 2})
  flip(checkpoints.path(2), share)
  with warnings.catch_warnings(record=True) as found:
    warnings.simplefilter('always')
    state = checkpoints.restore()
  assert [w.category for w in found] == (
    [checkpoints_lib.DamagedCheckpoint] if state == {'step': 1} else []
  )
  assert state in ({'step': 1}, {'step': 2})
  assert checkpoints.steps == list(range(state['step'], 0, -1))
  assert_same(numbers(model), saved)


def test_no_checkpoint_that_can_be_read(tmp_path):
  model = make_model()
  tff.Checkpoints(tmp_path, model, run='mine').save(3, {})
  with pytest.raises(tff.CheckpointError, match='of another: its run'):
    tff.Checkpoints(tmp_path, model, run='yours').restore()
  with pytest.raises(tff.CheckpointError, match='of another: its variables'):
    tff.Checkpoints(tmp_path, make_model(width=5), run='mine').restore()
  checkpoints = tff.Checkpoints(tmp_path, model, run='mine')
  (tmp_path / 'step-0000000003.npz').rename(checkpoints.path(4))
  with pytest.raises(tff.CheckpointError, match='of another: its step'):
    checkpoints.restore()
  (tmp_path / 'step-0000000004.npz').write_bytes(b'')
  with pytest.raises(tff.CheckpointError, match='damaged.*or begin anew'):
    checkpoints.restore()


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
  path = tmp_path / 'file.txt'
  path.write_text('old')
  with pytest.raises(OSError, match='full'):
    with files.replacing(str(path)) as temporary:
      pathlib.Path(temporary).write_text('half')
      raise OSError('full')
  assert path.read_text() == 'old'
  with files.replacing(str(path)) as temporary:
    pathlib.Path(temporary).write_text('new')
    assert path.read_text() == 'old'
  assert path.read_text() == 'new'
  assert [p.name for p in tmp_path.iterdir()] == ['file.txt']


def test_flipped_bits_beside_the_numbers(tmp_path):
  """Of zip and NumPy: an error, or no bit that anything depends on."""
  model = make_model()
  checkpoints = tff.Checkpoints(tmp_path, model)
  checkpoints.save(1, {'epoch': 1})
  expected = [np.array(v) for v in checkpoints.variables]
  path = pathlib.Path(checkpoints.path(1))
  content = path.read_bytes()
  errors = 0
  for i in [*range(160), *range(len(content) - 300, len(content))]:
    damaged = bytearray(content)
    damaged[i] ^= 1 << i % 8
    path.write_bytes(bytes(damaged))
    try:
      state = checkpoints.restore()
    except tff.CheckpointError:
      errors += 1
      continue
    assert state == {'epoch': 1}
    for variable, value in zip(checkpoints.variables, expected):
      np.testing.assert_array_equal(variable, value)
  assert errors > 100


def test_an_earlier_one_is_restored(tmp_path):
  checkpoints = tff.Checkpoints(tmp_path, make_model())
  for step in (1, 4, 6):
    checkpoints.save(step, {'at': step})
  found = [checkpoints.restore(last) for last in (None, 6, 5, 4, 0)]
  assert found == [{'at': 6}, {'at': 6}, {'at': 4}, {'at': 4}, None]
  checkpoints.remove(6)
  assert checkpoints.steps == [4, 1]


def test_bfloat16(tmp_path):
  def build():
    return keras.Sequential([keras.Input([3]), keras.layers.Dense(2, dtype='bfloat16')])

  first, second = build(), build()
  for model in (first, second):
    model.compile('adam')
  tff.Checkpoints(tmp_path, first).save(np.int64(3), {})
  assert tff.Checkpoints(tmp_path, second).restore() == {}
  x = np.ones([1, 3], 'float32')
  assert first(x).dtype == 'bfloat16'
  np.testing.assert_array_equal(first(x), second(x))


def test_what_cannot_be_saved(tmp_path):
  model = keras.Sequential([keras.layers.Dense(2)])
  model.compile('adam')
  with pytest.raises(ValueError, match='Expected a model that is built; sequential'):
    tff.Checkpoints(tmp_path, model)
  checkpoints = tff.Checkpoints(tmp_path, make_model())
  for step in (-1, 10**10):
    with pytest.raises(ValueError, match=f'Expected a step in .*received {step}'):
      checkpoints.save(step, {})
  assert not checkpoints.steps


def test_states_that_json_does_not_have(tmp_path):
  model = make_model()
  checkpoints = tff.Checkpoints(tmp_path / 'c', model)
  with pytest.raises(TypeError, match='Expected a state of numbers.*ndarray'):
    checkpoints.save(1, {'x': np.arange(3)})
  assert checkpoints.restore() is None


def test_weights_are_checked(tmp_path):
  model, path = make_model(), str(tmp_path / 'a.weights.h5')
  weights.save_weights(model, path, 'mine')
  other = make_model(seed=5)
  weights.load_weights(other, path, 'mine')
  assert_same(other.get_weights(), model.get_weights())
  other.load_weights(path)
  with pytest.raises(weights.DamagedWeights, match='another run'):
    weights.load_weights(other, path, 'yours')
  kernel = next(w for w in model.trainable_variables if len(w.shape) == 2)
  content = pathlib.Path(path).read_bytes()
  value = np.array(kernel).tobytes()
  assert value in content
  pathlib.Path(path).write_bytes(content.replace(value, value[::-1]))
  with pytest.raises(weights.DamagedWeights, match='checksum'):
    weights.load_weights(other, path, 'mine')
  model.save_weights(path)
  weights.load_weights(other, path, 'mine')


def test_a_flipped_bit_of_weights_is_found(tmp_path):
  """Wherever it is: HDF5 itself would not end for some."""
  path = str(tmp_path / 'a.weights.h5')
  weights.save_weights(make_model(), path)
  content = pathlib.Path(path).read_bytes()
  for share in np.linspace(0.0, 0.99, 100):
    pathlib.Path(path).write_bytes(content)
    flip(path, share)
    with pytest.raises(weights.DamagedWeights):
      weights.check_weights(path)
