# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From two moons to samples
#
# A density of two dimensions, from the data to a picture of what was learned. It needs
# `tfp_flows` and nothing else.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np

import tfp_flows as tff
from tfp_flows.data import toy

train = toy.sample('moons', 20_000, seed=0)  # float32 [20000, 2]
test = toy.sample('moons', 5_000, seed=1)
plt.figure(figsize=(4, 4))
plt.scatter(*train[:2000].T, s=2)
plt.axis('equal')
plt.show()

# %% [markdown]
# ## The flow
#
# A builder returns a distribution of TensorFlow Probability. Before training it is near
# a standard normal; its samples are no moons yet.

# %%
flow = tff.real_nvp([2], num_steps=10, width=64, scale='clamp', seed=0)
print(flow)
print(flow.log_prob(test[:3]).numpy())  # nats

# %% [markdown]
# ## Training
#
# `FlowModel` is a Keras model whose loss is the mean negative log-likelihood in nats.
# `adapt` sets the `ActNorm`s from data; the rest is Keras. The entropy of the moons,
# which no model can beat, is 2.394 nats.

# %%
epochs, batch_size = 20, 500
steps = epochs * len(train) // batch_size
model = tff.FlowModel(flow, seed=0)
model.compile(
  keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, steps))
)
model.adapt(train)
history = model.fit(
  train,
  batch_size=batch_size,
  epochs=epochs,
  validation_data=(test,),
  verbose=0,
)
for epoch in range(4, epochs, 5):
  print(f'epoch {epoch + 1}: {history.history["val_loss"][epoch]:.3f} nats')

# %% [markdown]
# ## Samples, densities and latents

# %%
samples = model.sample(2000, seed=1)
side = np.linspace(-4, 4, 100, dtype='float32')
grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
density = np.exp(model.log_prob(grid)).reshape(100, 100)
latents = model.encode(test[:2000])

_, axes = plt.subplots(1, 3, figsize=(12, 4))
axes[0].scatter(*np.transpose(samples), s=2)
axes[0].set_title('samples')
axes[1].imshow(density, origin='lower', extent=(-4, 4, -4, 4))
axes[1].set_title('density')
axes[2].scatter(*np.transpose(latents), s=2)
axes[2].set_title('latents of the test set')
plt.show()

# %% [markdown]
# An invertible network loses nothing: the latents lead back to the points.

# %%
print('largest error:', np.abs(model.decode(latents) - test[:2000]).max())
