"""Programs do what the commands do."""

import dataclasses
import json

import numpy as np
import pytest

import tfp_flows as tff
from tests.bin import commands
from tfp_flows import data
from tfp_flows import runs
from tfp_flows.bin import train
from tfp_flows.runs import pictures
from tfp_flows.runs import plots
from tfp_flows.runs import sampling
from tfp_flows.runs import training
from tfp_flows.runs import workdir

OPTIONS = dict(dataset='moons', model='real_nvp', num_points=300, epochs=2, jit=False)


@pytest.fixture(scope='module')
def options(tmp_path_factory):
  """Of a run that is trained."""
  folder = tmp_path_factory.mktemp('python') / 'run'
  arg = ('num_steps=1', 'width=4')
  options = runs.Options(workdir=str(folder), arg=arg, num_samples=5, **OPTIONS)
  runs.train(options)
  return options


def result(folder, name='result.json'):
  with open(f'{folder}/{name}') as file:
    return json.load(file)


def test_training_is_that_of_the_command(options, tmp_path):
  words = [f'--{k}={v}' for k, v in OPTIONS.items()]
  args = ('--arg=num_steps=1', '--arg=width=4', '--num_samples=5')
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(training, '_draw', lambda *_: None)
    commands.call(train, *words, *args, f'--workdir={tmp_path}/run')
  assert result(tmp_path / 'run') == result(options.workdir)


def test_the_other_commands(options, capsys):
  runs.evaluate(options, 'validation')
  assert 'validation: ' in capsys.readouterr().out
  assert result(options.workdir, 'evaluation_validation.json')['examples'] > 0
  runs.sample(options)
  assert np.load(f'{options.workdir}/sample.npy').shape == (5, 2)
  runs.interpolate(options, frames=3)
  assert np.load(f'{options.workdir}/interpolation.npy').shape == (2, 3, 2)


def test_a_run_of_earlier_names_goes_on(tmp_path, capsys):
  """Its files are known by the arguments as they were written then."""
  old = ('num_steps=1', 'width=4', 'coupling=additive')
  new = ('num_steps=1', 'width=4', 'transformer=additive')
  then = runs.Options(workdir=f'{tmp_path}/run', arg=old, **OPTIONS)
  now = dataclasses.replace(then, arg=new)
  with pytest.raises(runs.UsageError, match='arg=transformer=.*called coupling'):
    runs.train(then)
  (tmp_path / 'run').mkdir()
  (tmp_path / 'run' / 'flags.txt').write_text(then.as_flagfile())
  runs.train(now)
  assert '--arg=coupling=additive' in (tmp_path / 'run' / 'flags.txt').read_text()
  for options in (then, now):
    runs.evaluate(options, 'test')
    runs.train(options)
    assert 'This run is finished' in capsys.readouterr().out
  runs.train(dataclasses.replace(now, epochs=3))
  assert 'Going on after 2 epochs' in capsys.readouterr().out
  other = dataclasses.replace(now, arg=('num_steps=1', 'width=5', new[-1]))
  with pytest.raises(runs.UsageError, match='which has .*arg=width=4'):
    runs.train(other)


def test_a_picture_has_as_many_samples_as_points(options, monkeypatch):
  shown = []
  monkeypatch.setattr(
    pictures.plots, 'save_density', lambda path, flow, x, y, label: shown.append((x, y))
  )
  runs.sample(options)
  ((points, samples),) = shown
  assert len(points) > 5
  assert len(samples) == len(points)
  assert len(np.load(f'{options.workdir}/sample.npy')) == 5


@pytest.mark.parametrize('temperature', [0.7, 1.0])
@pytest.mark.parametrize('kind', ['images', 'points', 'columns'])
def test_pictures_say_at_which_temperature(kind, temperature, tmp_path, monkeypatch):
  said, image = [], np.zeros([3, 8, 8, 1], 'uint8')
  what = dict(
    images=(data.Description(event_shape=(8, 8, 1), num_bins=17), image),
    points=(data.Description(event_shape=(2,)), image[..., 0, :2, 0]),
    columns=(data.Description(event_shape=(3,)), image[..., 0, :3, 0]),
  )
  for name in ('save_image_grid', 'save_density', 'save_histograms'):
    monkeypatch.setattr(plots, name, lambda *_, **given: said.append(given))
  model = tff.FlowModel(tff.real_nvp([2], num_steps=1, width=4))
  chosen = runs.Options(workdir=str(tmp_path), temperature=temperature)
  pictures.draw(model, *what[kind], str(tmp_path / 'x.png'), chosen)
  expected = f'samples at temperature {temperature:g}'
  assert [given.get('label', given.get('title')) for given in said] == [expected]


def test_a_picture_takes_no_more_images_than_it_shows(tmp_path, monkeypatch):
  drawn = []
  monkeypatch.setattr(
    sampling, 'draw_samples', lambda *args: drawn.append(args[-1]) or np.zeros([1])
  )
  monkeypatch.setattr(pictures, 'draw', lambda *args: None)
  images = data.Description(event_shape=(8, 8, 1), num_bins=17)
  for count in (5, 10**6):
    run = workdir.Workdir(runs.Options(workdir=str(tmp_path), num_samples=count))
    sampling.draw_picture(None, images, 'x.png', run)
  assert drawn == [5, 1024]


def test_runs_of_other_options_are_refused(options):
  with pytest.raises(runs.UsageError, match='Expected the options of the run'):
    runs.evaluate(runs.Options(workdir=options.workdir))


def test_no_workdir():
  with pytest.raises(runs.UsageError, match='Expected workdir=DIR'):
    runs.train(runs.Options())


def test_options_of_a_run(options):
  assert runs.Options.of_run(options.workdir) == options
  found = runs.Options.of_run(options.workdir, temperature=0.5)
  assert (found.temperature, found.arg) == (0.5, options.arg)
  with pytest.raises(runs.UsageError, match='a run of tfp-flows-train in /none'):
    runs.Options.of_run('/none')


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    # Of what differs, that which somebody has set comes first.
    (
      dict(model='nice', seed=0, jit=True),
      'has model=real_nvp jit=False; received model=nice jit=True (the default). ',
    ),
    (
      dict(num_points=20_000),
      'which has num_points=300; received num_points=20000 (the default). Pass ',
    ),
    (dict(arg=[]), 'which has arg=num_steps=1 arg=width=4; received no arg (the'),
    (
      dict(model='nice', seed=3, ema=0.5, jit=True, arg=['width=5']),
      'arg=width=5 seed=3, and 2 more. Pass workdir=DIR alone (in Python Options.',
    ),
  ],
)
def test_options_that_differ_are_named(options, changed, message):
  other = dataclasses.replace(options, **changed)
  with pytest.raises(runs.UsageError) as error:
    runs.train(other)
  assert message in str(error.value)
  assert 'overwrite=True to replace it, or another workdir=DIR.' in str(error.value)
  assert '--' not in str(error.value)


def test_messages_have_no_flags(options, tmp_path):
  """Those of a program; the commands show options as flags."""
  for wrong in (
    dict(weight_decay=0.1),
    dict(conditional=True),
    dict(image_size=8),
    dict(arg=('depth=3',)),
    dict(precision='mixed_bfloat16', model='ffjord', arg=()),
  ):
    given = OPTIONS | dict(workdir=str(tmp_path / 'run'))
    with pytest.raises(ValueError, match='Expected .*=') as error:
      runs.train(runs.Options(**given | wrong))
    assert '--' not in str(error.value)
