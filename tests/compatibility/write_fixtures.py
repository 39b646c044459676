"""Writes files of this version, which later ones have to load.

    PYTHONPATH=ROOT python tests/compatibility/write_fixtures.py FOLDER

`ROOT` is a checkout of the version that is to write them, of which this script may be a
newer one. In the new `FOLDER` are then

    models/NAME.keras, NAME.npz   a model, what it is given, and what it says of it
    weights/NAME.weights.h5, .npz, .json   weights and how their model was built
    checkpoints/...               those of `tff.Checkpoints` and `tf.train.Checkpoint`
    workdirs/NAME.zip, NAME.json  a workdir of `tfp-flows-train`, and what came of it
    exports/NAME.zip, NAME.npz    a SavedModel and StableHLO of NAME.keras

Inputs are drawn from seeds; no number depends on what else is written. `--only=NAME`
writes the models whose names contain that. See `compare.py`, which loads all of it.
"""

import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

import comparing
import keras
import numpy as np
import own_layers
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tff

tfb, tfd = tfp.bijectors, tfp.distributions
CONDITION = 3


# Flows of the builders.


def _image(builder, **options):
  return builder([4, 4, 1], num_bins=16, alpha=0.05, seed=0, **options)


def _residual_image():
  return _image(
    tff.residual_flow,
    num_levels=2,
    num_blocks=1,
    width=4,
    num_hidden=1,
    num_dense_blocks=1,
    dense_width=4,
    factor_out=True,
  )


def _ffjord_image():
  return _image(
    tff.ffjord,
    num_levels=2,
    num_blocks=1,
    hidden=[4],
    solver='rk4',
    num_steps=2,
    kinetic=0.1,
    jacobian=0.1,
    condition_size=CONDITION,
  )


BUILT = dict(
  glow_image=lambda: _image(
    tff.glow,
    num_levels=2,
    num_steps=2,
    width=4,
    flat_latents=False,
    act_norm_in_networks=True,
    condition_size=CONDITION,
  ),
  glow_image_spline=lambda: _image(
    tff.glow, num_levels=2, num_steps=1, width=4, transformer='spline', loop=False
  ),
  glow_vector=lambda: tff.glow(
    [4], num_levels=2, num_steps=3, width=4, memory='reversible', seed=0
  ),
  real_nvp_image=lambda: _image(
    tff.real_nvp, num_levels=2, num_steps=2, width=4, num_blocks=1, dropout=0.1
  ),
  real_nvp_vector=lambda: tff.real_nvp(
    [3], num_steps=4, width=4, base='logistic', condition_size=CONDITION, seed=0
  ),
  nice_image=lambda: _image(tff.nice, num_steps=4, width=4, num_hidden=1),
  nice_vector=lambda: tff.nice([4], num_steps=2, width=4, num_hidden=1, seed=0),
  maf_affine=lambda: tff.maf(
    [3],
    num_layers=3,
    hidden=[4],
    transformer='affine',
    condition_size=CONDITION,
    seed=0,
  ),
  maf_spline=lambda: tff.maf(
    [3], num_layers=2, hidden=[4], transformer='spline', order='random', seed=0
  ),
  residual_vector=lambda: tff.residual_flow(
    [3], num_blocks=3, width=4, num_hidden=1, condition_size=CONDITION, seed=0
  ),
  residual_image=_residual_image,
  ffjord_vector=lambda: tff.ffjord(
    [3],
    num_blocks=2,
    hidden=[4],
    trainable_time=True,
    normalization='moving_batch_norm',
    trace='normal',
    tolerance=1e-3,
    seed=0,
  ),
  ffjord_image=_ffjord_image,
)


# Flows of layers.


def _over(layers, event_shape, **options):
  base = tfd.Sample(tfd.Normal(0.0, 1.0), event_shape)
  return tfd.TransformedDistribution(base, tfb.Invert(layers), **options)


def _conditional(layers, event_shape):
  return _over(layers, event_shape, kwargs_split_fn=own_layers.to_bijector)


def _mlp(mask, per_dim, condition_size=None, **options):
  outputs = per_dim * mask.changed_shape[-1]
  options = dict(hidden=[4], seed=0) | options
  return tff.MLP(mask.kept_shape, outputs, condition_size=condition_size, **options)


def _vector_layers():
  """All layers of vectors that no estimate belongs to."""
  first, some = tff.ChannelMask([4]), tff.IndexMask([True, False, True, False])
  other = tff.ChannelMask([4], invert=True)
  spline = tff.RationalQuadratic(num_bins=4, bound=3.0, min_bin_size=0.02)
  network, scale = _mlp(some, 2), tff.Affine(4, 'tanh')
  made = tff.MADE(4, scale.params_per_dim, [4], order='random', seed=0)
  of_spline = tff.MADE(4, spline.params_per_dim, [4], 'tanh', params_first=False)
  linear = tff.MLP(CONDITION, 8, hidden=[], seed=0)
  return tff.Sequential(
    [
      tff.ActNorm([4]),
      tff.Invertible1x1ConvLU([4], seed=0),
      tff.AffineCoupling(some, network, 'tanh'),
      tff.AdditiveCoupling(first, own_layers.half),
      tff.AffineCoupling(some, network, 'clamp'),
      tff.Coupling(other, _mlp(other, spline.params_per_dim), spline),
      tff.Coupling(first, _mlp(first, 1), tff.Additive()),
      tff.Autoregressive(made, scale, [4]),
      tff.Autoregressive(of_spline, spline, [4]),
      tff.RevNetBlock(_mlp(other, 1), _mlp(first, 1), [4], 'stored'),
      own_layers.Flip(4, tff.MLP(CONDITION, 4, hidden=[4], seed=1)),
      tff.ActNorm([4], linear),
    ]
  )


def own_vector():
  return _conditional(_vector_layers(), [4])


def own_repeated():
  """Steps in loops that keep and do not keep their activations."""

  def step(seed, activation):
    mask = tff.ChannelMask([4], invert=seed % 2 == 1)
    network = _mlp(mask, 2, activation=activation, seed=seed)
    layers = [
      tff.ActNorm([4]),
      tff.Invertible1x1ConvLU([4], seed=seed),
      tff.AffineCoupling(tff.ChannelMask([4]), network),
    ]
    return tff.Sequential(layers)

  stored = tff.Repeated([step(i, 'tanh') for i in (0, 2)], 'stored')
  reversible = tff.Repeated([step(i, 'relu') for i in (4, 6)], 'reversible')
  apart = tff.Repeated([step(i, 'relu') for i in (8, 10)], loop=False)
  return _over(tff.Sequential([stored, reversible, apart], 'reversible'), [4])


def own_image():
  """Masks, orders of squeezing, levels and networks of images."""
  board, odd = (tff.CheckerboardMask([4, 4, 1], invert=i) for i in (False, True))
  half = tff.ChannelMask([2, 2, 4])
  conv = tff.ConvNet(board.kept_shape, 4, 4, act_norm=True, seed=0)
  res = tff.ResNet(odd.kept_shape, 4, 4, 1, condition_size=CONDITION, seed=0)
  deep = tff.ConvNet(half.kept_shape, 4, 4, (1, 3), 'tanh', seed=0)
  levels = [
    tff.Sequential(
      [tff.Squeeze(), tff.ActNorm([2, 2, 4]), tff.AffineCoupling(half, deep)]
    ),
    tff.Sequential(
      [tff.Squeeze(pixel_order='real_nvp'), tff.Invertible1x1ConvLU([1, 1, 8], seed=0)]
    ),
  ]
  layers = [
    tff.Preprocess(16, 0.05),
    tff.AffineCoupling(board, conv),
    tff.AffineCoupling(odd, res, 'tanh'),
    tff.Multiscale(levels, [4, 4, 1]),
  ]
  return _conditional(tff.Sequential(layers), [16])


def own_residual():
  """Every estimator of a log-determinant and every kind of contraction."""
  kinds = [
    tff.LogDet(tff.RouletteLogDet(tff.poisson(2.0), 1), tff.ExactLogDet()),
    tff.LogDet(tff.TruncatedLogDet(3, 'normal'), tff.TruncatedLogDet(4)),
    tff.LogDet(tff.RouletteLogDet(tff.geometric(0.4)), tff.ExactLogDet()),
  ]
  options = [
    dict(norms='learned', condition_size=CONDITION),
    dict(activation='clip_swish', input_activation=False),
    dict(norms=[2.0, 1.5, 2.0]),
  ]
  layers = []
  for i, (kind, option) in enumerate(zip(kinds, options)):
    branch = tff.LipschitzMLP([4], [4], lipschitz=0.25, seed=i, **option)
    layers += [tff.ResidualFlow(branch, [4], kind, seed=i), tff.MovingBatchNorm([4])]
  conv = tff.LipschitzConvNet([2, 2, 1], 4, (3, 1), lipschitz=0.25, seed=3)
  layers += [
    tfb.Reshape([2, 2, 1], [4]),
    tff.ResidualFlow(conv, [2, 2, 1], tolerance=1e-5, max_iterations=200, seed=3),
  ]
  return _conditional(tff.Sequential(layers), [2, 2, 1])


def own_ffjord():
  """Solvers, traces, times and penalties."""
  # Evaluation does not solve for gradients: it would be slow.
  bdf = tfp.math.ode.BDF(rtol=1e-2, atol=1e-3)
  concat = tff.FieldMLP([3], [4], 'softplus', time='concat', seed=0)
  given = tff.FieldMLP([3], [4], condition_size=CONDITION, seed=1)
  image = tff.FieldConvNet([1, 3, 1], [4], time='concatsquash', seed=2)
  layers = [
    tff.FFJORD(
      given,
      [3],
      tff.Trace(tff.HutchinsonTrace('normal', 2), tff.ExactTrace()),
      tff.DormandPrince(1e-3, 1e-3, max_num_steps=100),
      tff.DormandPrince(1e-4, 1e-4, first_step_size=0.1),
      tff.RungeKutta4(4),
      penalties=tff.Penalties(0.1, 0.2),
      log_det_in_error=False,
      seed=5,
    ),
    tff.FFJORD(
      concat,
      [3],
      tff.Trace(tff.ExactTrace(), tff.ExactTrace()),
      tff.DormandPrince(1e-3, 1e-3),
      adjoint_solver=bdf,
      initial_time=tf.Variable(0.2),
      final_time=tfp.util.TransformedVariable(0.5, tfb.Softplus()),
    ),
    tfb.Reshape([1, 3, 1], [3]),
    tff.FFJORD(image, [1, 3, 1], solver=tff.RungeKutta4(2), final_time=0.3, seed=6),
  ]
  return _conditional(tff.Sequential(layers), [1, 3, 1])


def own_composed():
  """Of TensorFlow Probability, with variables and one layer twice."""
  mask = tff.IndexMask([True, False, True, False])
  coupling = tff.AffineCoupling(mask, _mlp(mask, 2), 'tanh')
  scale = tfp.util.TransformedVariable([1.0, 2.0, 3.0, 4.0], tfb.Softplus())
  layers = tfb.Chain(
    [
      coupling,
      tfb.Permute([1, 0, 3, 2]),
      tfb.Scale(scale),
      tfb.Shift(tf.Variable(tf.ones([4]), trainable=False)),
      own_layers.Flip(4),
      coupling,
    ],
    name='flow',
  )
  base = tfd.MultivariateNormalDiag(tf.Variable(tf.zeros([4])), tf.ones([4]))
  return tfd.TransformedDistribution(base, tfb.Invert(layers))


def own_float64():
  mask = tff.ChannelMask([4])
  network = _mlp(mask, 2, dtype='float64')
  layers = [
    tff.ActNorm([4], dtype='float64'),
    tff.AffineCoupling(mask, network, dtype='float64'),
  ]
  base = tfd.Sample(tfd.Normal(tf.constant(0.0, tf.float64), 1.0), [4])
  return tfd.TransformedDistribution(base, tfb.Invert(tff.Sequential(layers)))


OWN = dict(
  own_vector=own_vector,
  own_repeated=own_repeated,
  own_image=own_image,
  own_residual=own_residual,
  own_ffjord=own_ffjord,
  own_composed=own_composed,
  own_float64=own_float64,
)


# What is written.

# The models that are asked for what depends on noise, too, in a compiled graph.
NOISY = ('glow_image', 'maf_affine', 'residual_vector', 'own_repeated')


def _perturbed(distribution, data, condition):
  """A model of weights that are nowhere at their start."""
  model = tff.FlowModel(distribution, seed=0)
  model.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
  model.adapt(data, condition)
  _perturb(distribution)
  model.update_norms()
  return model


def _perturb(module, scale=0.1):
  rng = np.random.default_rng(0)
  for v in module.trainable_variables:
    v.assign_add(scale * tf.constant(rng.standard_normal(v.shape), v.dtype))


def _inputs(distribution, count, num_bins, condition_size, seed=1):
  """Examples, points of the density, and a condition."""
  rng = np.random.default_rng(seed)
  shape = (count, *distribution.event_shape)
  dtype = distribution.dtype.as_numpy_dtype
  found = dict(x=rng.standard_normal(shape).astype(dtype))
  if num_bins is not None:
    found['x'] = rng.integers(0, num_bins, shape).astype(np.uint8)
    found['points'] = (found['x'] + rng.uniform(0.1, 0.9, shape)).astype(dtype)
  if condition_size:
    found['condition'] = rng.standard_normal((count, condition_size)).astype(dtype)
  return found


def _num_bins(name):
  return 16 if 'image' in name else None


def _takes_condition(distribution):
  return tff.FlowModel(distribution).likelihood.takes_condition


def write_models(folder, only):
  for name, build in {**BUILT, **OWN}.items():
    if only and only not in name:
      continue
    print(name, flush=True)
    distribution = build()
    size = CONDITION if _takes_condition(distribution) else None
    data = _inputs(distribution, 16, _num_bins(name), size, seed=2)
    model = _perturbed(distribution, data['x'], data.get('condition'))
    _write_model(model, folder / name, _inputs(distribution, 3, _num_bins(name), size))
  if not only or only == 'trained':
    _write_trained(folder)
  if not only or only == 'keras':
    _write_keras(folder)


def _write_model(model, path, inputs):
  model.save(f'{path}.keras')
  comparing.compress(f'{path}.keras')
  has_noise = path.name in NOISY
  _save(path, inputs, comparing.numbers(model, inputs, has_noise))


def _write_trained(folder):
  """A subclass with the state of an optimizer and data that are dequantized."""
  layers = tff.Sequential([tff.ActNorm([3]), tff.Invertible1x1ConvLU([3], seed=0)])
  dequantization = tff.UniformDequantization(8)
  model = own_layers.MyFlowModel(_over(layers, [3]), dequantization, 7, 'trained')
  rate = tff.ScaledSchedule(keras.optimizers.schedules.CosineDecay(1e-2, 100), 0.5)
  optimizer = keras.optimizers.AdamW(rate, weight_decay=1e-3, use_ema=True)
  model.compile(optimizer, jit_compile=False)
  x = np.random.default_rng(0).integers(0, 8, [32, 3]).astype(np.uint8)
  model.adapt(x)
  model.fit(x, batch_size=8, verbose=0)
  inputs = dict(x=x[:8], points=x[:8] + np.float32(0.25))
  model.save(folder / 'trained.keras')
  comparing.compress(folder / 'trained.keras')
  # Noise is not in the file: a model that is loaded begins with that of its seed.
  loaded = keras.saving.load_model(folder / 'trained.keras')
  _save(folder / 'trained', inputs, comparing.numbers_of_training(loaded, inputs))


def _write_keras(folder):
  """Layers and flows inside of models of Keras."""
  x = np.random.default_rng(0).standard_normal([3, 4]).astype(np.float32)
  mask, other = tff.ChannelMask([4]), tff.ChannelMask([4], invert=True)
  blocks = [(_mlp(other, 1, seed=i), _mlp(mask, 1, seed=i)) for i in range(2)]
  ode = tff.NeuralODE(
    tff.FieldMLP([6], [4], seed=0),
    tff.DormandPrince(1e-3, 1e-3),
    final_time=0.7,
    trainable_time=True,
    augment=2,
  )
  classifier = keras.Sequential(
    [keras.layers.Input([4]), tff.RevNet(blocks), ode, keras.layers.Dense(2)]
  )
  image = tff.FieldConvNet([2, 2, 2], [4], seed=0)
  images = keras.Sequential(
    [
      keras.layers.Input([2, 2, 1]),
      keras.layers.Conv2D(2, 1),
      tff.NeuralODE(image, tff.RungeKutta4(2), adjoint_solver=tff.RungeKutta4(3)),
      keras.layers.Flatten(),
    ]
  )
  flow = tff.FlowModel(tff.real_nvp([4], num_steps=2, width=4, seed=0), seed=0)
  inside = own_layers.FlowInside(flow)
  for name, model in dict(
    keras=classifier, keras_image=images, keras_flow=inside
  ).items():
    given = x.reshape([3, 2, 2, 1]) if name == 'keras_image' else x
    model(given)
    for i, v in enumerate(model.trainable_variables):
      rng = np.random.default_rng(i)
      v.assign_add(0.1 * rng.standard_normal(v.shape))
    model.save(folder / f'{name}.keras')
    comparing.compress(folder / f'{name}.keras')
    found = dict(predictions=np.asarray(model(given)))
    _save(folder / name, dict(x=given), found)


def _save(path, inputs, expected):
  arrays = {f'input.{k}': np.asarray(v) for k, v in inputs.items()}
  arrays |= {f'expected.{k}': np.asarray(v) for k, v in expected.items()}
  np.savez_compressed(f'{path}.npz', **arrays)


SMALL = dict(
  glow=dict(event_shape=[4], num_steps=2, width=4),
  residual_flow=dict(event_shape=[2], num_blocks=2, width=4, num_hidden=1),
  maf=dict(event_shape=[2], num_layers=2, hidden=[4], transformer='affine'),
)


def write_weights(folder):
  """Of Keras, of `tff.Checkpoints` and of TensorFlow."""
  for name, options in SMALL.items():
    distribution = getattr(tff, name)(seed=0, **options)
    x = _inputs(distribution, 16, None, None)['x']
    model = _perturbed(distribution, x, None)
    model.fit(x, batch_size=8, verbose=0, shuffle=False)
    model.save_weights(folder / f'{name}.weights.h5')
    state = dict(epoch=1, note='of the user')
    tff.Checkpoints(folder / f'{name}_checkpoints', model).save(2, state)
    tf.train.Checkpoint(model=model).write(str(folder / f'{name}_tf' / 'ckpt'))
    inputs = dict(x=x[:3])
    _save(folder / name, inputs, comparing.numbers_of_weights(model, inputs))
    found = dict(builder=name, options=options)
    (folder / f'{name}.json').write_text(json.dumps(found))


RUNS = dict(
  glow=(
    *('--config=glow_digits', '--nojit', '--batch_size=600', '--conditional'),
    *('--arg=num_levels=2', '--arg=num_steps=2', '--arg=width=4', '--warmup_steps=2'),
    *('--ema=0.9', '--augment_shift=1', '--patience=3', '--num_samples=4'),
  ),
  residual=(
    *('--dataset=moons', '--num_points=4000', '--model=residual_flow', '--nojit'),
    *('--arg=num_blocks=2', '--arg=num_hidden=1', '--arg=width=4', '--ema=0.9'),
    *('--batch_size=2000', '--num_samples=4', '--adapt_examples=64'),
  ),
  maf=(
    *('--dataset=8gaussians', '--num_points=4000', '--model=maf', '--nojit'),
    *('--arg=num_layers=2', '--arg=hidden=[4]', '--arg=transformer=affine'),
    *('--batch_size=2000', '--num_samples=4', '--optimizer=adamw'),
    *('--weight_decay=1e-3', '--schedule=constant'),
  ),
  ffjord=(
    *('--dataset=pinwheel', '--num_points=4000', '--model=ffjord', '--nojit'),
    *('--arg=num_blocks=2', '--arg=hidden=[4]', '--arg=solver=rk4'),
    *('--arg=normalization=moving_batch_norm', '--arg=kinetic=0.01'),
    *('--arg=num_steps=2', '--batch_size=2000', '--num_samples=4'),
  ),
)
TABLE = (
  *('--dataset=table.csv', '--model=real_nvp', '--nojit', '--batch_size=100'),
  *('--arg=num_steps=2', '--arg=width=4', '--num_samples=4'),
)


def write_runs(folder, only):
  """Workdirs after two epochs, and what two more give."""
  for name, words in RUNS.items():
    if only and only not in f'run_{name}':
      continue
    with tempfile.TemporaryDirectory() as scratch:
      half, whole = pathlib.Path(scratch, 'half'), pathlib.Path(scratch, 'whole')
      _command('train', half, *words, '--epochs=2', '--checkpoint_minutes=60')
      shutil.copytree(half, whole)
      _command('train', whole, *words, '--epochs=4', '--checkpoint_minutes=60')
      _keep(half, folder / f'{name}.zip')
      _record(folder / f'{name}.json', words, whole)
  if only and only not in 'run_table':
    return
  with tempfile.TemporaryDirectory() as scratch:
    path, run = pathlib.Path(scratch, 'table.csv'), pathlib.Path(scratch, 'run')
    rng = np.random.default_rng(0)
    rows = rng.normal([1e3, 2.0, 3.0], [10.0, 0.1, 2.0], [200, 3])
    path.write_text(
      'a,b,c\n' + '\n'.join(','.join(map(repr, r)) for r in rows.tolist())
    )
    shutil.copy(path, folder / 'table.csv')
    _command('train', run, *TABLE, '--epochs=2', cwd=scratch)
    _keep(run, folder / 'table.zip')
    _record(folder / 'table.json', TABLE, run)


def _command(name, workdir, *words, cwd=None):
  command = [sys.executable, '-m', f'tfp_flows.bin.{name}', *words]
  subprocess.run([*command, f'--workdir={workdir}'], check=True, cwd=cwd)


def _record(path, words, workdir):
  result = json.loads((workdir / 'result.json').read_text())
  rows = (workdir / 'metrics.jsonl').read_text().splitlines()
  metrics = [json.loads(row) for row in rows]
  found = dict(flags=words, result=result, metrics=metrics)
  path.write_text(json.dumps(found, indent=1))


def _keep(workdir, path):
  """The files of a run that anything is read from; nothing of where it was."""
  for checkpoint in sorted(workdir.glob('checkpoints/step-*.npz'))[:-2]:
    checkpoint.unlink()
  flags = workdir / 'flags.txt'
  # The path of the data stays: the digest of the weights is of it, too.
  flags.write_text(re.sub('--workdir=.*', '--workdir=/nowhere', flags.read_text()))
  found = [
    p
    for p in sorted(workdir.rglob('*'))
    if p.is_file()
    and p.suffix not in ('.png', '.npy')
    and 'tensorboard' not in p.parts
    and p.name != '.lock'
  ]
  _zip(path, workdir, found)


def _zip(path, root, files):
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
    for file in files:
      archive.write(file, file.relative_to(root))


def write_exports(folder):
  """Of a model of pixels, with a condition."""
  distribution = _image(
    tff.glow, num_levels=1, num_steps=2, width=4, condition_size=CONDITION
  )
  data = _inputs(distribution, 16, 16, CONDITION, seed=2)
  model = _perturbed(distribution, data['x'], data['condition'])
  model.save(folder / 'glow.keras')
  comparing.compress(folder / 'glow.keras')
  inputs = _inputs(distribution, 3, 16, CONDITION)
  with tempfile.TemporaryDirectory() as scratch:
    root = pathlib.Path(scratch)
    tff.export_saved_model(model, root / 'saved_model')
    functions = ['log_prob', 'training_step']
    tff.export_stablehlo(model, root / 'stablehlo', len(inputs['x']), functions)
    files = [p for p in sorted(root.rglob('*')) if p.is_file()]
    _zip(folder / 'glow.zip', root, files)
    expected = comparing.numbers_of_exports(root, inputs)
    if hasattr(tff, 'import_stablehlo'):  # Newer than 0.1.0.
      comparing.train_exported(root, inputs, model)
      trained = comparing.numbers(model, inputs, has_noise=False)
      expected |= {f'trained.{k}': v for k, v in trained.items()}
  _save(folder / 'glow', inputs, expected)


def main():
  """Writes what the command line says."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('folder', type=pathlib.Path, help='that is made')
  parser.add_argument('--only', default='', help='part of the name of a model or run')
  options = parser.parse_args()
  print(f'{tff.__version__} of {tff.__file__}', flush=True)
  for part in ('models', 'weights', 'workdirs', 'exports'):
    (options.folder / part).mkdir(parents=True, exist_ok=True)
  only = options.only
  write_models(options.folder / 'models', only)
  if not only or only == 'weights':
    write_weights(options.folder / 'weights')
  if not only or only.startswith('run_'):
    write_runs(options.folder / 'workdirs', only)
  if not only or only == 'exports':
    write_exports(options.folder / 'exports')


if __name__ == '__main__':
  main()
