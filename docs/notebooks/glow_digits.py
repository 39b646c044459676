# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Glow on digits
#
# The 8x8 digits that scikit-learn ships, in a few epochs. The configuration
# `glow_digits` is the same in 150 epochs, with splines, see
# [Results](../pages/results.md).

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np

import tfp_flows as tff
from tfp_flows.data import load_digits

images, labels = load_digits()  # uint8 [1797, 8, 8, 1], values 0 to 16
train, test = images[:1400], images[1400:]


def show(rows):
  """Draws rows of images."""
  canvas = np.concatenate(
    [np.concatenate(list(np.asarray(row)[..., 0]), axis=1) for row in rows]
  )
  plt.figure(figsize=(8, len(rows)))
  plt.imshow(canvas, cmap='gray_r', vmin=0, vmax=16)
  plt.axis('off')
  plt.show()


show([train[:12], train[12:24]])

# %% [markdown]
# ## The model
#
# Pixels are integers and have no density: `num_bins=17` says how many values they have,
# and the model adds uniform noise itself. The bound on their likelihood is reported as
# `bits_per_dim`, beside the loss in nats.
#
# With `condition_size` the flow is one per class.

# %%
flow = tff.glow(
  [8, 8, 1], num_steps=4, width=64, num_bins=17, alpha=1e-6, condition_size=10, seed=0
)
one_hot = np.eye(10, dtype='float32')[labels]
epochs = 20
model = tff.FlowModel(flow, seed=0)
model.compile(
  keras.optimizers.Adam(
    keras.optimizers.schedules.CosineDecay(2e-3, epochs * len(train) // 64)
  )
)
model.adapt(train, one_hot[:1400])
history = model.fit(
  train,
  one_hot[:1400],
  batch_size=64,
  epochs=epochs,
  validation_data=(test, one_hot[1400:]),
  verbose=0,
)
for epoch in range(0, epochs, 5):
  print(f'epoch {epoch + 1}: {history.history["val_bits_per_dim"][epoch]:.3f} bits/dim')
print(f'epoch {epochs}: {history.history["val_bits_per_dim"][-1]:.3f} bits/dim')

# %% [markdown]
# ## Samples of each class
#
# One draw for each row of the condition; `temperature` scales the latents.

# %%
classes = np.eye(10, dtype='float32')
draws = model.sample(3, condition=classes, temperature=0.8, seed=1)
print(draws.shape, draws.dtype)
show(list(draws))

# %% [markdown]
# ## From one digit to another
#
# Latents are normal, and lie near a sphere: `tff.slerp` walks along it.

# %%
first, second = 0, 1
latents = model.encode(test[[first, second]], one_hot[1400:][[first, second]], seed=0)
weights = np.linspace(0, 1, 12, dtype='float32')
path = tff.slerp(latents[0], latents[1], weights)  # [12, 64]
condition = np.stack(
  [(1 - w) * one_hot[1400 + first] + w * one_hot[1400 + second] for w in weights]
)
show([model.decode(path, condition)])

# %% [markdown]
# ## A classifier for free
#
# By Bayes' rule, with equal priors, the class of an image is the one under which it is
# most likely.

# %%
scores = np.stack(
  [model.log_prob(test, np.tile(c, [len(test), 1]), seed=0) for c in classes], axis=1
)
print(f'accuracy: {np.mean(scores.argmax(1) == labels[1400:]):.3f}')
