"""Several replicas: each scenario in processes of its own, as TensorFlow wants it."""

import concurrent.futures
import contextlib
import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from absl.testing import flagsaver

import tfp_flows as tff
from tfp_flows.bin import cli
from tfp_flows.bin import train
from tfp_flows.model import replicas

tfb, tfd = tfp.bijectors, tfp.distributions

# --- What several replicas compute, beside what one does.


def flow():
  """Layers of each kind that draws noise, keeps statistics or stacks its weights."""
  size, options = [4], dict(seed=0, dtype='float64')
  mask = tff.ChannelMask(size)

  def step():
    network = tff.MLP(mask.kept_shape, 4, hidden=[4], **options)
    coupling = tff.AffineCoupling(mask, network, dtype='float64')
    return tff.Sequential([tff.ActNorm(size, dtype='float64'), coupling])

  # With steps of its own choice a solver would choose others for parts of a batch.
  solver = tff.RungeKutta4(2)
  trace = tff.Trace(tff.HutchinsonTrace(), tff.ExactTrace())
  field = tff.FieldMLP(size, hidden=[4], **options)
  branch = tff.LipschitzMLP(size, hidden=[4], lipschitz=0.8**2, **options)
  layers = [
    tff.Repeated([step(), step()]),
    tff.MovingBatchNorm(size, dtype='float64'),
    tff.ResidualFlow(branch, size, tff.LogDet(tff.RouletteLogDet()), **options),
    tff.FFJORD(field, size, trace, solver, solver, **options),
  ]
  base = tfd.Sample(tfd.Normal(np.float64(0.0), 1.0), size)
  return tfd.TransformedDistribution(base, tfb.Invert(tff.Sequential(layers)))


def trained(strategy=None):
  """What a user gets from a model trained on integers, and the model."""
  keras.utils.set_random_seed(0)  # The order of the examples depends on it.
  rng = np.random.default_rng(0)
  x, weight = rng.integers(0, 17, (44, 4)).astype(np.uint8), rng.uniform(0, 2, 44)
  with strategy.scope() if strategy else contextlib.nullcontext():
    model = tff.FlowModel(flow(), tff.UniformDequantization(17), seed=3)
    optimizer = keras.optimizers.Adam(1e-2, global_clipnorm=1.0, use_ema=True)
    model.compile(optimizer, jit_compile=False)
  model.adapt(x, num_examples=30)
  # Neither 44 nor 13 examples are equal batches for two, and all weights differ.
  data = tf.data.Dataset.from_tensor_slices(x).batch(13)
  history = model.fit(
    x,
    batch_size=16,
    epochs=2,
    sample_weight=weight,
    validation_data=data,
    callbacks=[keras.callbacks.SwapEMAWeights(swap_on_epoch=True)],
    verbose=0,
  ).history
  found = dict(
    history,
    predicted=model.predict(data, verbose=0),
    log_prob=model.log_prob(x[:4], seed=1).numpy(),
    **{f'variable_{i}': v.numpy() for i, v in enumerate(model.variables)},
  )
  return found, model


def by_two_replicas():
  """Results of `trained`, and the variables whose copies differ."""
  cpu = tf.config.list_physical_devices('CPU')[0]
  options = [tf.config.LogicalDeviceConfiguration()] * 2
  tf.config.set_logical_device_configuration(cpu, options)
  strategy = tf.distribute.MirroredStrategy(['cpu:0', 'cpu:1'])
  found, model = trained(strategy)
  differing = []
  for variable in model.variables:
    first, second = strategy.experimental_local_results(variable.value)
    if (first.numpy() != second.numpy()).any():
      differing.append(variable.path)
  return found, differing


def test_two_replicas_train_as_one():
  context = multiprocessing.get_context('spawn')
  with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
    replicas = pool.submit(by_two_replicas)
    expected, _ = trained()
    found, differing = replicas.result()
  assert not differing
  assert found.keys() == expected.keys() and 'nfe_backward' in found
  for key, value in expected.items():
    np.testing.assert_allclose(found[key], value, rtol=1e-9, atol=1e-11, err_msg=key)


def test_batches_that_replicas_cannot_share_are_refused():
  class Three:
    num_replicas_in_sync = 3

  with pytest.raises(ValueError, match='3 replicas can share.*received 4.*multiple'):
    batches = tf.data.Dataset.from_tensors((tf.zeros([4, 2]),))
    replicas.distribute(batches, Three(), fill=False)


def test_optimizer_of_another_strategy_is_refused():
  strategy = tf.distribute.MirroredStrategy(['cpu:0'])
  with strategy.scope():
    model = tff.FlowModel(flow())
  with pytest.raises(ValueError, match='optimizer made under the strategy.*received'):
    model.compile(keras.optimizers.Adam())
  model.compile('adam')


# --- Several processes.

WORKERS = ['host:1', 'host:2']


def tf_config(addresses, index):
  cluster = {'worker': addresses}
  return json.dumps({'cluster': cluster, 'task': {'type': 'worker', 'index': index}})


@pytest.mark.parametrize(
  ('text', 'problem'),
  [
    (None, 'none'),
    ('{', 'no JSON'),
    ('[]', 'no object "cluster"'),
    ('{"cluster": {"worker": ["a:1"]}}', 'no object "task"'),
    ('{"cluster": {"ps": ["a:1"]}, "task": {}}', r"not \['ps'\]"),
    ('{"cluster": {"worker": ["a"]}, "task": {}}', 'list of "host:port"'),
    ('{"cluster": {"worker": ["a:b"]}, "task": {}}', 'list of "host:port"'),
    ('{"cluster": {"worker": []}, "task": {}}', 'list of "host:port"'),
    ('{"cluster": {"worker": 5}, "task": {}}', 'list of "host:port"'),
    ('{"cluster": {"worker": ["9000"]}, "task": {}}', 'list of "host:port"'),
    ('{"cluster": {"worker": [":9000"]}, "task": {}}', 'list of "host:port"'),
    ('{"cluster": {"worker": ["a:65536"]}, "task": {}}', 'numbers below 65536'),
    ('{"cluster": {"worker": ["a:0"]}, "task": {}}', 'numbers below 65536'),
    (
      '{"cluster": {"worker": ["a:1"]}, "task": {"type": ["worker"]}}',
      'the type of the',
    ),
    (tf_config(['a:1', 'a:1'], 0), 'each address stands for one worker'),
    ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps"}}', 'the type of the'),
    (tf_config(WORKERS, 2), 'one of 0 to 1'),
    (tf_config(WORKERS, '0'), 'one of 0 to 1'),
  ],
)
def test_wrong_tf_config_is_refused(text, problem, monkeypatch):
  monkeypatch.delenv('TF_CONFIG', raising=False)
  if text is not None:
    monkeypatch.setenv('TF_CONFIG', text)
  with pytest.raises(ValueError, match=f'Expected TF_CONFIG.*received.* {problem}'):
    replicas.make_strategy('multi_worker')


def test_worker_that_does_not_start_is_missed(monkeypatch):
  with socket.socket() as free, socket.socket() as silent:
    free.bind(('localhost', 0))
    silent.bind(('localhost', 0))
    ports = free.getsockname()[1], silent.getsockname()[1]
    free.close()
    config = tf_config([f'localhost:{port}' for port in ports], 0)
    monkeypatch.setenv('TF_CONFIG', config)
    monkeypatch.setattr(replicas, 'START_SECONDS', 0.5)
    with pytest.raises(replicas.WorkerLost, match=f'none at localhost:{ports[1]}'):
      replicas.make_strategy('multi_worker')
    config = tf_config([f'localhost:{port}' for port in ports], 1)
    monkeypatch.setenv('TF_CONFIG', config)
    with pytest.raises(ValueError, match=f'free port.*localhost:{ports[1]}.*another'):
      replicas.make_strategy('multi_worker')


def test_unknown_strategy_is_refused():
  with pytest.raises(ValueError, match="none, mirrored.*received 'tpu'"):
    replicas.make_strategy('tpu')


ARGS = (
  '--dataset=digits',
  '--conditional',
  '--model=glow',
  '--arg=num_levels=1',
  '--arg=num_steps=1',
  '--arg=width=4',
  '--dtype=float64',
  '--batch_size=256',
  '--ema=0.9',
  '--picture_every=0',
)


@contextlib.contextmanager
def two_workers(folder, *args):
  """Starts a run of two processes, with a workdir for each."""
  with contextlib.ExitStack() as stack:
    sockets = [stack.enter_context(socket.socket()) for _ in WORKERS]
    for s in sockets:
      s.bind(('localhost', 0))
    addresses = [f'localhost:{s.getsockname()[1]}' for s in sockets]
  command = [sys.executable, '-m', 'tfp_flows.bin.train', '--strategy=multi_worker']
  workers = [
    subprocess.Popen(
      [*command, f'--workdir={folder}/{index}', *ARGS, *args],
      env=os.environ | {'TF_CONFIG': tf_config(addresses, index)},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for index in range(2)
  ]
  try:
    yield workers
  finally:
    for worker in workers:
      worker.kill()
      worker.communicate()


def weights(folder):
  found = {}

  def add(name, item):
    if isinstance(item, h5py.Dataset):
      found[name] = item[()]

  with h5py.File(folder / 'best.weights.h5') as file:
    file.visititems(add)
  return found


def test_two_workers_train_as_one(tmp_path):
  with two_workers(tmp_path, '--epochs=2') as workers:
    with flagsaver.flagsaver():
      cli._parse(['train', f'--workdir={tmp_path}/one', *ARGS, '--epochs=2'])
      cli._guarded(train.main)
    outputs = [worker.communicate(timeout=900) for worker in workers]
  assert [w.returncode for w in workers] == [0, 0], outputs
  # Only the chief writes, and the other says little.
  assert os.listdir(tmp_path / '0') and not (tmp_path / '1').exists()
  assert len(outputs[1][0].splitlines()) == 1 and not outputs[1][1], outputs[1]
  found, expected = weights(tmp_path / '0'), weights(tmp_path / 'one')
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-11, err_msg=name)
  found, expected = (
    json.loads((tmp_path / run / 'result.json').read_text()) for run in ('0', 'one')
  )
  assert found['nats'] == pytest.approx(expected['nats'], rel=1e-10)


def test_a_killed_worker_stops_the_other(tmp_path):
  with two_workers(tmp_path, '--epochs=100000', '--nojit') as (chief, worker):
    rows = tmp_path / '0' / 'metrics.jsonl'
    deadline = time.time() + 900
    while not (rows.exists() and rows.read_text()):
      assert time.time() < deadline and chief.poll() is None, chief.communicate()
      time.sleep(0.2)
    worker.send_signal(signal.SIGKILL)
    _, error = chief.communicate(timeout=replicas.SILENT_SECONDS + 300)
  assert chief.returncode == replicas.WORKER_LOST == 3
  assert re.fullmatch('error: Expected all workers to go on.* again.\n', error), error
