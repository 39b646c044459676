"""Every command and every configuration, for an epoch on a few examples."""

import json
import os
import pathlib
import re
import runpy
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl.testing import flagsaver

from tests.bin.commands import call
from tests.bin.commands import fails
from tfp_flows import runs
from tfp_flows.bin import cli
from tfp_flows.bin import evaluate
from tfp_flows.bin import export
from tfp_flows.bin import flags as flags_lib
from tfp_flows.bin import interpolate
from tfp_flows.bin import sample
from tfp_flows.bin import train
from tfp_flows.data import datasets
from tfp_flows.model import callbacks
from tfp_flows.runs.options import configs

TINY = ('--arg=num_steps=1', '--arg=width=4', '--epochs=1')
TINY_RESIDUAL = (
  '--arg=num_blocks=1',
  '--arg=width=4',
  '--arg=dense_width=4',
  '--arg=num_dense_blocks=1',
  '--num_points=500',
  '--batch_size=500',
  '--epochs=1',
)
TINY_FFJORD = (
  '--arg=num_blocks=1',
  '--arg=hidden=[4]',
  '--arg=tolerance=1e-2',
  '--arg=evaluation_tolerance=1e-2',
  '--log_det=hutchinson',
  '--num_points=500',
  '--batch_size=500',
  '--epochs=1',
)


def tiny(config):
  if config.startswith('ffjord'):
    return TINY_FFJORD
  return TINY_RESIDUAL if config.startswith('residual') else TINY


@pytest.fixture(scope='module', autouse=True)
def _small_toys():
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(datasets, '_HELD_OUT', 500)
    yield


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  """MNIST as TFDS stores it, with a few random images."""
  folder = str(tmp_path_factory.mktemp('tfds'))
  rng = np.random.default_rng(0)

  def examples(count):
    shape = [28, 28, 1]
    return [
      (i, {'image': rng.integers(0, 256, shape).astype(np.uint8), 'label': i % 10})
      for i in range(count)
    ]

  tfds.dataset_builders.store_as_tfds_dataset(
    'mnist',
    version='3.0.1',
    features=tfds.features.FeaturesDict(
      {
        'image': tfds.features.Image(shape=(28, 28, 1)),
        'label': tfds.features.ClassLabel(num_classes=10),
      }
    ),
    split_datasets={'train': examples(40), 'test': examples(12)},
    data_dir=folder,
    disable_shuffling=True,
  )
  return folder


@pytest.fixture(scope='module')
def run_dir(tmp_path_factory):
  """A finished run on the digits."""
  folder = str(tmp_path_factory.mktemp('runs') / 'digits')
  words = ('--config=glow_digits', '--nojit', '--ema=0.9', *TINY)
  call(train, f'--workdir={folder}', *words)
  return folder


def result(folder, name='result.json'):
  with open(os.path.join(folder, name)) as file:
    return json.load(file)


@pytest.mark.parametrize('config', sorted(configs()))
def test_every_config_builds(config, data_dir):
  from tfp_flows.runs import loading
  from tfp_flows.runs import models
  from tfp_flows.runs import optimizers

  words = (f'--config={config}', f'--data_dir={data_dir}', *tiny(config))
  with flagsaver.flagsaver():
    cli._parse(['command', *words])
    options = flags_lib.options()
  data = loading.load_data(options)
  model = models.make_model(data, options)
  optimizers.compile_model(model, options, 10)
  (x,) = (e[0] for e in data.test.take(1))
  assert x.shape == data.event_shape == model.distribution.event_shape


# One of each kind of data; residual flows: `test_evaluation_with_another_log_det`.
TRAINED = (
  'ffjord_pinwheel',
  'glow_digits',
  'glow_mnist',
  'real_nvp_moons',
)


@pytest.mark.parametrize('config', TRAINED)
def test_configs_run(config, data_dir, tmp_path, capsys):
  folder = str(tmp_path / 'run')
  call(
    train,
    f'--config={config}',
    f'--workdir={folder}',
    f'--data_dir={data_dir}',
    f'--jit={config.startswith("glow")}',
    *tiny(config),
  )
  assert 'standard error' in capsys.readouterr().out
  assert np.isfinite(result(folder)['nats'])
  files = set(os.listdir(folder))
  more = set()
  if config.startswith('ffjord') and not config.endswith(('digits', 'mnist')):
    more = {'samples_path.png'}
  assert files == more | {
    '.lock',
    'best.weights.h5',
    'checkpoints',
    'curves.png',
    'data.json',
    'flags.txt',
    'metrics.jsonl',
    'result.json',
    'samples.png',
    'tensorboard',
  }


def test_configs_say_how_they_were_measured():
  for path in configs().values():
    with open(path) as file:
      header = [line for line in file if line.startswith('#')]
    text = ''.join(header)
    assert 'tfp-flows-train --config=' in text, path
    assert 'minutes' in text, path


def test_evaluate_repeats_the_training_run(run_dir, capsys):
  call(evaluate, f'--flagfile={run_dir}/flags.txt')
  assert 'bits/dim' in capsys.readouterr().out
  trained, evaluated = result(run_dir), result(run_dir, 'evaluation_test.json')
  assert evaluated['examples'] == 359
  np.testing.assert_allclose(
    evaluated['bits_per_dim'], trained['bits_per_dim'], rtol=1e-6
  )
  error = evaluated['nats_standard_error'] / (64 * np.log(2))
  np.testing.assert_allclose(evaluated['bits_per_dim_standard_error'], error)
  call(evaluate, f'--flagfile={run_dir}/flags.txt', '--noise_samples=4')
  assert result(run_dir, 'evaluation_test.json')['nats'] < trained['nats']
  call(evaluate, f'--flagfile={run_dir}/flags.txt', '--part=validation')
  assert result(run_dir, 'evaluation_validation.json')['examples'] == 143


def test_sample(run_dir, tmp_path):
  for name in ('a', 'b'):
    call(
      sample,
      f'--flagfile={run_dir}/flags.txt',
      '--num_samples=5',
      '--temperature=0.7',
      f'--output={tmp_path / name}',
    )
  images = [np.load(tmp_path / f'{name}.npy') for name in ('a', 'b')]
  assert images[0].shape == (5, 8, 8, 1)
  assert images[0].dtype == np.uint8
  np.testing.assert_array_equal(*images)
  assert (tmp_path / 'a.png').read_bytes().startswith(b'\x89PNG')


def test_pictures_of_many_samples_have_bounds(run_dir, tmp_path):
  import matplotlib.image

  words = (f'--flagfile={run_dir}/flags.txt', f'--output={tmp_path}/s')
  call(sample, *words, '--num_samples=1300')
  assert len(np.load(tmp_path / 's.npy')) == 1300
  # 32 x 32 images of 64 screen pixels, and their lines.
  assert matplotlib.image.imread(tmp_path / 's.png').shape[:2] == (2112, 2112)


def test_export(run_dir, tmp_path, capsys, monkeypatch):
  import tensorflow as tf

  from tfp_flows.model import checkpoints
  from tfp_flows.runs import optimizers

  words = (f'--flagfile={run_dir}/flags.txt', '--batch_size=2')
  steps_per_epoch = []
  compile_model, last_state = optimizers.compile_model, checkpoints.last_state

  def compile_for(model, options, steps):
    steps_per_epoch.append(steps)
    return compile_model(model, options, steps)

  with monkeypatch.context() as patch:
    patch.setattr(optimizers, 'compile_model', compile_for)
    patch.setattr(checkpoints, 'last_state', lambda p: last_state(p) | {'rollbacks': 2})
    call(export, *words)
  folder = pathlib.Path(run_dir) / 'export'
  assert str(folder / 'saved_model') in capsys.readouterr().out
  signatures = tf.saved_model.load(str(folder / 'saved_model')).signatures
  assert set(signatures) == {'log_prob', 'sample', 'encode', 'decode'}
  call(evaluate, words[0])
  from tfp_flows.data import images

  page = pathlib.Path(__file__).parents[2] / 'docs' / 'pages' / 'how_to' / 'export.md'
  (block,) = re.findall(r'```py\n(.*?)```', page.read_text(), re.S)
  names = {}
  exec(block.replace('runs/glow_digits', run_dir), names)
  assert names['images'].shape == (16, 8, 8, 1)
  assert names['nats'].shape == (16,)
  # With the seed of the evaluation.
  test_set = images.digits()[0][-359:]
  batches = np.concatenate([test_set, test_set[:25]]).reshape(6, 64, 8, 8, 1)
  found = [
    signatures['log_prob'](x=tf.constant(x), seed=tf.constant([0, 0]))['log_prob']
    for x in batches
  ]
  evaluated = result(run_dir, 'evaluation_test.json')
  nats = -np.concatenate(found)[:359].mean()
  np.testing.assert_allclose(nats, evaluated['nats'], rtol=1e-5)
  with open(folder / 'stablehlo' / 'manifest.json') as file:
    functions = json.load(file)['functions']
  assert set(functions) == {*signatures, 'training_step'}
  # The state of the optimizer is that of the run.
  arrays = np.load(folder / 'stablehlo' / 'arrays.npz')
  assert arrays['optimizer_0'] == 21
  # So is the schedule of its learning rate, and what rollbacks have left of that.
  assert steps_per_epoch == [21]
  numbers = [int(name[10:]) for name in arrays if name.startswith('optimizer_')]
  assert arrays[f'optimizer_{max(numbers)}'] == 0.25
  assert 'holds an export' in fails(capsys, export, *words)
  call(export, *words, '--overwrite', '--format=saved_model')
  call(export, *words, f'--output={tmp_path}/e', '--format=saved_model')
  assert os.listdir(tmp_path / 'e') == ['saved_model']


def test_exported_averages_begin_at_the_best_weights(run_dir):
  """Where `best.weights.h5` has the weights that were averaged."""
  from tfp_flows.runs import loading
  from tfp_flows.runs import models
  from tfp_flows.runs import optimizers
  from tfp_flows.runs import workdir

  with flagsaver.flagsaver():
    cli._parse(['command', f'--flagfile={run_dir}/flags.txt'])
    options = flags_lib.options()
  model = models.make_model(loading.load_data(options), options)
  optimizers.compile_model(model, options, 10)
  model.optimizer.build(model.trainable_variables)
  workdir.Workdir(options).load_weights(model)
  averages = model.optimizer._model_variables_moving_average
  best = [v.numpy() for v in model.trainable_variables]
  assert any(np.abs(a.numpy() - b).max() > 1e-6 for a, b in zip(averages, best))
  optimizers.restart_averages(model)
  for average, weight, expected in zip(averages, model.trainable_variables, best):
    np.testing.assert_array_equal(average, expected)
    np.testing.assert_array_equal(weight, expected)


@pytest.mark.parametrize('jit', [False, True])
def test_finished_runs_are_compiled_as_the_flags_say(jit, run_dir):
  from tfp_flows.runs import loading
  from tfp_flows.runs import models
  from tfp_flows.runs import workdir

  with flagsaver.flagsaver():
    cli._parse(['command', f'--flagfile={run_dir}/flags.txt', f'--jit={jit}'])
    options = flags_lib.options()
  data = loading.load_data(options)
  assert models.trained_model(data, workdir.Workdir(options)).jit_compile == jit


def test_interpolate(run_dir, capsys):
  words = (f'--flagfile={run_dir}/flags.txt', '--first=3', '--second=8', '--frames=5')
  call(interpolate, *words)
  walks = np.load(f'{run_dir}/interpolation.npy')
  assert walks.shape == (2, 5, 8, 8, 1)
  from tfp_flows.data import images

  test_set = images.digits()[0][-359:]
  for walk in walks:
    np.testing.assert_array_equal(walk[0], test_set[3])
    np.testing.assert_array_equal(walk[-1], test_set[8])
  assert (walks[0] != walks[1]).any()
  message = fails(capsys, interpolate, words[0], '--first=359')
  assert 'below 359, the size of the test set' in message


def test_metrics_are_json_lines(run_dir):
  with open(f'{run_dir}/metrics.jsonl') as file:
    rows = [json.loads(line) for line in file]
  assert [row['epoch'] for row in rows] == [1]
  assert {'loss', 'bits_per_dim', 'val_loss', 'val_bits_per_dim'} <= set(rows[0])


def test_conditional_run(tmp_path):
  folder = str(tmp_path / 'run')
  words = ('--dataset=digits', '--conditional', '--nojit', '--arg=num_levels=1', *TINY)
  call(train, f'--workdir={folder}', *words)
  words = (f'--flagfile={folder}/flags.txt', '--num_samples=20')
  call(sample, *words)
  call(interpolate, words[0])
  assert np.load(f'{folder}/sample.npy').shape == (20, 8, 8, 1)
  assert np.load(f'{folder}/interpolation.npy').shape == (2, 10, 8, 8, 1)


def test_table_run(tmp_path):
  path, folder = str(tmp_path / 't.npy'), str(tmp_path / 'run')
  table = np.random.default_rng(0).normal(size=[60, 3])
  np.save(path, table * [10, 1, 1] + [100, 0, 0])
  call(
    train,
    f'--dataset={path}',
    '--model=real_nvp',
    '--optimizer=adamw',
    '--weight_decay=0.01',
    '--warmup_steps=2',
    '--schedule=constant',
    '--patience=1',
    '--nojit',
    f'--workdir={folder}',
    *TINY,
  )
  assert 'bits_per_dim' not in result(folder)
  words = (f'--flagfile={folder}/flags.txt',)
  call(sample, *words)
  call(interpolate, *words)
  samples = np.load(f'{folder}/sample.npy')
  assert samples.shape == (64, 3)
  assert 80 < samples[:, 0].mean() < 120
  found = result(folder)
  shift = found['nats_in_units_of_the_data'] - found['nats']
  np.testing.assert_allclose(shift, np.log([10, 1, 1]).sum(), atol=0.4)
  with open(f'{folder}/flags.txt') as file:
    assert f'--dataset={path}\n' in file.read()


def test_augmentation_moves_images(tmp_path):
  import tensorflow as tf

  from tfp_flows.runs import training_data

  x = tf.reshape(tf.range(2 * 16, dtype=tf.int32), [2, 4, 4, 1])
  shifted = (training_data._shifted(1, [0, i], x, None, None) for i in range(20))
  moved = [x.numpy() for x, _, _ in shifted]
  assert all(m.shape == x.shape for m in moved)
  centers = {m[0, 1, 1, 0] for m in moved}
  assert centers <= {i * 4 + j for i in range(3) for j in range(3)}
  assert len(centers) > 3


def test_nothing_waits_for_a_tuner():
  """TensorFlow's thread of it sleeps, and keeps deleted iterators waiting."""
  from tfp_flows.runs import loading
  from tfp_flows.runs import training_data

  options = runs.Options(dataset='digits')
  data = loading.load_data(options)
  training = training_data.TrainingData(data, options).epochs(0, 2)
  examples = loading.examples(data.test, data, options)
  for batches in (training, examples, loading.eval_batches(data.test, data, options)):
    assert batches.options().autotune.enabled is False


def test_mixed_precision(run_dir, tmp_path, capsys):
  import keras

  words = (f'--flagfile={run_dir}/flags.txt', '--precision=mixed_bfloat16')
  call(evaluate, *words)
  assert keras.config.dtype_policy().name == 'float32'
  mixed = result(run_dir, 'evaluation_test.json')['bits_per_dim']
  exact = result(run_dir)['bits_per_dim']
  assert 0 < abs(mixed - exact) < 0.02
  for more in (('--model=residual_flow',), ('--model=ffjord',)):
    found = fails(
      capsys,
      train,
      f'--workdir={tmp_path}/x',
      '--dataset=moons',
      '--precision=mixed_bfloat16',
      *more,
    )
    assert 'Expected --precision=float32' in found
  words = (f'--workdir={tmp_path}/x', '--precision=mixed_bfloat16', '--dtype=float64')
  assert 'received' in fails(capsys, train, *words)


def test_change_of_log_determinants_by_mixed_precision(run_dir, capsys):
  example = pathlib.Path(__file__).parents[2] / 'examples' / 'mixed_precision.py'
  main = runpy.run_path(str(example))['main']
  with flagsaver.flagsaver():
    cli._parse(['command', f'--flagfile={run_dir}/flags.txt'])
    main()
  found = re.search(
    r'359 examples: mean.* ([\de.-]+), largest ([\de.-]+)', capsys.readouterr().out
  )
  mean, largest = map(float, found.groups())
  assert 1e-6 < mean < largest < 1e-3


# What goes wrong.


def test_flags_that_are_wrong(capsys):
  assert 'one of ffjord_2spirals' in fails(capsys, train, '--config=nope')
  assert "received 'nope'" in fails(capsys, train, '--config', 'nope')
  with pytest.raises(SystemExit):
    call(train, '--seed=-1')
  assert 'error: ' in capsys.readouterr().err
  with pytest.raises(SystemExit):
    call(train, '--learning_rate=nan')
  assert 'Expected a finite number' in capsys.readouterr().err
  assert "received ['more']" in fails(capsys, train, 'more')


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    ((), 'Expected --workdir=DIR'),
    (
      ('--model=vae',),
      "['ffjord', 'glow', 'maf', 'nice', 'planar', 'radial', 'real_nvp', "
      "'residual_flow', 'sylvester']; received 'vae'",
    ),
    (('--arg=depth=3',), "received 'depth=3'"),
    (('--arg=coupling=cubic',), "received 'cubic'"),
    (('--dataset=nope',), "received 'nope'"),
    (('--dataset=mnist', '--data_dir=/nowhere'), 'not there. Pass the --data_dir'),
    (('--dataset=/nowhere/t.csv',), 'there is none at /nowhere/t.csv'),
    (('--dataset=moons', '--conditional'), 'a data set with labels'),
    (('--weight_decay=0.1',), '--optimizer=adamw'),
    (('--arg=num_levels=4',), 'multiples of 16'),
    (('--arg=width=abc',), "glow expects width to be an integer; received 'abc'"),
    (('--arg=learn_prior=maybe',), "to be True or False; received 'maybe'"),
    (('--arg=width=[4]',), 'received [4]'),
    (('--augment_shift=8',), 'below the height and width of the images'),
    (('--image_size=8',), 'or of files only; received 8'),
    (('--dataset=a\nb',), 'Expected --dataset on one line'),
    (('--arg=seed=3',), "received 'seed=3'"),
    (('--dataset=mnist:9.9.9',), "received 'mnist:9.9.9'"),
    (('--dataset=mnist/foo',), "received 'mnist/foo'"),
  ],
)
def test_train_that_cannot_start(words, message, tmp_path, capsys):
  folder = tmp_path / 'run'
  if words:
    words = (f'--workdir={folder}', *words)
  assert message in fails(capsys, train, *words)
  assert not folder.exists()


def test_a_workdir_is_never_lost(run_dir, tmp_path, capsys):
  words = ('--config=glow_digits', f'--workdir={run_dir}', '--nojit', *TINY)
  before = result(run_dir)
  assert '--overwrite to replace it' in fails(capsys, train, *words, '--seed=5')
  message = fails(capsys, train, *words, '--model=real_nvp')
  assert 'which has --model=glow; received --model=real_nvp' in message
  assert result(run_dir) == before

  (tmp_path / 'notes.txt').write_text('mine')
  message = fails(capsys, train, *words, f'--workdir={tmp_path}')
  assert 'holds files and no flags.txt' in message
  assert os.listdir(tmp_path) == ['notes.txt']

  message = fails(capsys, train, *words, f'--workdir={tmp_path}/notes.txt/run')
  assert 'a folder that can be written' in message


def test_overwrite(tmp_path):
  words = ('--dataset=moons', '--num_points=500', '--nojit')
  words += ('--model=real_nvp', f'--workdir={tmp_path}/run', *TINY)
  call(train, *words)
  call(evaluate, f'--flagfile={tmp_path}/run/flags.txt')
  # A link to a folder elsewhere is removed, and the folder is not.
  elsewhere = tmp_path / 'elsewhere'
  elsewhere.mkdir()
  (tmp_path / 'run' / 'export').symlink_to(elsewhere)
  call(train, *words, '--overwrite', '--seed=1')
  assert elsewhere.exists() and not (tmp_path / 'run' / 'export').is_symlink()
  with open(f'{tmp_path}/run/flags.txt') as file:
    assert '--seed=1\n' in file.read()
  assert not os.path.exists(f'{tmp_path}/run/evaluation_test.json')


def test_evaluation_is_of_the_split_of_the_run(run_dir, capsys):
  words = (f'--flagfile={run_dir}/flags.txt', '--data_seed=1')
  assert '--data_seed=0; received --data_seed=1' in fails(capsys, evaluate, *words)
  call(evaluate, words[0], '--seed=1')


def test_config_in_a_flagfile_is_refused(tmp_path, capsys):
  (tmp_path / 'my.flags').write_text('--config=glow_digits\n')
  message = fails(capsys, train, f'--flagfile={tmp_path}/my.flags')
  assert 'on the command line' in message


@pytest.mark.parametrize('command', [evaluate, sample, interpolate, export])
def test_runs_that_are_not_there(command, run_dir, tmp_path, capsys):
  assert 'Expected --workdir=DIR' in fails(capsys, command)
  assert 'no flags.txt' in fails(capsys, command, f'--workdir={tmp_path}')
  message = fails(capsys, command, f'--flagfile={run_dir}/flags.txt', '--model=nice')
  assert 'which has --model=glow; received --model=nice' in message


def test_damaged_weights(run_dir, tmp_path, capsys):
  run = pathlib.Path(run_dir)
  (tmp_path / 'flags.txt').write_text((run / 'flags.txt').read_text())
  words = (f'--flagfile={run_dir}/flags.txt', f'--workdir={tmp_path}')
  assert 'there are none' in fails(capsys, evaluate, *words)
  weights = (run / 'best.weights.h5').read_bytes()
  (tmp_path / 'best.weights.h5').write_bytes(weights[: len(weights) // 2])
  assert 'the file is damaged' in fails(capsys, evaluate, *words)
  (tmp_path / 'best.weights.h5').write_bytes(b'')
  assert 'the file is damaged' in fails(capsys, evaluate, *words)
  with h5py.File(tmp_path / 'best.weights.h5', 'w') as file:
    file['x'] = 1
  assert 'weights' in fails(capsys, evaluate, *words)


def test_diverging_training_says_so(tmp_path, capsys):
  words = (
    f'--workdir={tmp_path}/run',
    '--config=glow_digits',
    '--learning_rate=2e9',
    '--clip_norm=0',
    '--schedule=constant',
    '--ema=0',
    '--warmup_steps=0',
    '--nojit',
  )
  message = fails(capsys, train, *words, *TINY, code=2)
  assert re.search('step 2 .*The checkpoint of step 0 is kept', message)


def process(*words):
  return subprocess.run(
    [sys.executable, '-m', *words], capture_output=True, text=True, check=False
  )


def test_errors_of_a_process_are_one_line():
  for words in (['--config=nope'], ['--workdir=/proc/none', '--dataset=moons', *TINY]):
    done = process('tfp_flows.bin.train', *words)
    assert done.returncode == 1
    assert done.stdout == ''
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize('command', ['train', 'sample'])
def test_help_lists_all_flags(command):
  done = process(f'tfp_flows.bin.{command}', '--helpshort')
  assert done.returncode == 0
  own = {'train': '--[no]overwrite', 'sample': '--output'}[command]
  for flag in (own, '--workdir', '--arg', '--learning_rate'):
    assert flag in done.stdout


def test_help_may_be_paged():
  words = f'{sys.executable} -m tfp_flows.bin.train --help | head -n 1'
  done = subprocess.run(words, shell=True, capture_output=True, text=True, check=True)
  assert len(done.stdout.splitlines()) == 1
  assert not done.stderr


def test_workdir_stands_for_its_flagfile(run_dir, tmp_path):
  words = ['command', f'--workdir={run_dir}', '--seed=1']
  expected = ['command', f'--flagfile={run_dir}/flags.txt', *words[1:]]
  assert cli.expand_workdir(words) == expected
  assert cli.expand_workdir(expected) == expected
  other = ['command', f'--workdir={tmp_path}']
  assert cli.expand_workdir(other) == other


def test_an_interrupt_at_any_moment_is_one_line(tmp_path, monkeypatch, capsys):
  def interrupt(self, epoch, logs=None):
    raise KeyboardInterrupt

  words = ('--dataset=moons', '--model=real_nvp', *TINY, '--nojit')
  monkeypatch.setattr(callbacks.JsonLines, 'on_epoch_begin', interrupt)
  with pytest.raises(SystemExit):
    call(train, *words, f'--workdir={tmp_path}/run')
  assert capsys.readouterr().err == 'error: interrupted\n'


def test_list_of_configs():
  done = process('tfp_flows.bin.train', '--list_configs')
  assert done.returncode == 0
  assert done.stdout.split() == sorted(configs())


def test_no_bound_from_estimated_log_determinants():
  from tfp_flows.runs import evaluation
  from tfp_flows.runs import loading
  from tfp_flows.runs import models

  words = ('--model=residual_flow', '--dataset=digits', *TINY_RESIDUAL[:4])
  with flagsaver.flagsaver():
    cli._parse(['command', *words, '--log_det=roulette'])
    options = flags_lib.options()
  data = loading.load_data(options)
  model = models.make_model(data, options)
  with pytest.raises(runs.UsageError, match='noise_samples=1.*--log_det=exact'):
    evaluation.report(model, data, 'test', '', options, num_samples=2)


def test_runs_of_older_versions_are_scaled_as_before(tmp_path):
  """Without `data.json`: from the table, and never centred without --standardize."""
  from tfp_flows.runs import loading
  from tfp_flows.runs import workdir as workdir_lib

  rng = np.random.default_rng(0)
  np.save(tmp_path / 't.npy', rng.normal(size=[50, 2]) + 1e6)
  (tmp_path / 'run').mkdir()
  (tmp_path / 'run' / 'best.weights.h5').write_bytes(b'')
  words = (f'--dataset={tmp_path}/t.npy', f'--workdir={tmp_path}/run')
  for more, is_scaled in ((), True), (('--nostandardize',), False):
    with flagsaver.flagsaver():
      cli._parse(['command', *words, *more])
      options = flags_lib.options()
    workdir = workdir_lib.Workdir(options)
    assert (loading.describe_data(options, workdir).mean is not None) == is_scaled
    assert loading.load_data(options).mean is not None  # A new run.


def test_damaged_descriptions_of_data(run_dir, tmp_path, capsys):
  shutil.copytree(run_dir, tmp_path / 'run')
  for text in ('', '{', '[]', '{}', '{"event_shape": 3}'):
    (tmp_path / 'run' / 'data.json').write_text(text)
    words = (f'--flagfile={tmp_path}/run/flags.txt', f'--workdir={tmp_path}/run')
    message = fails(capsys, sample, *words)
    assert 'data.json; the file is damaged' in message or 'needs of its data' in message


def test_evaluation_with_another_log_det(tmp_path, capsys):
  folder = str(tmp_path / 'run')
  words = ('--config=residual_checkerboard', f'--workdir={folder}', '--nojit')
  call(train, *words, *TINY_RESIDUAL)
  exact = result(folder)
  assert os.path.exists(f'{folder}/lipschitz.jsonl')
  assert 'estimates' not in exact
  call(evaluate, f'--flagfile={folder}/flags.txt')
  same = result(folder, 'evaluation_test.json')
  np.testing.assert_allclose(same['nats'], exact['nats'], rtol=1e-6)
  call(evaluate, f'--flagfile={folder}/flags.txt', '--log_det=roulette')
  found = result(folder, 'evaluation_test.json')
  assert found['estimates'] == 4
  assert 'roulette' in found['log_det'].lower()
  assert 0 < found['nats_standard_error_of_estimates'] < found['nats_standard_error']
  np.testing.assert_allclose(found['nats'], exact['nats'], atol=0.1)
  assert '4 estimates' in capsys.readouterr().out
