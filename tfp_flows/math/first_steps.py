"""The size of the first steps of an optimizer."""

import math

from tfp_flows.internal import checks

__all__ = ['output_scale']

# The most that fan-in times depth may be before an output is scaled. The weights of a
# convolution are moved for all pixels at once, in few of which all activations agree.
_LIMIT = 1000.0
_LIMIT_OF_IMAGES = 5000.0
# What does not start at zero is moved with all that comes before and after it.
_FROM_ZERO = 8


def output_scale(
  fan_in: int, depth: int | None, of_images: bool = False, from_zero: bool = True
) -> float:
  """The constant that the output of a network, or a matrix, is multiplied by.

    `min(1, 1000 / (fan_in * depth))`, rounded down to a power of two

  with 5000 in place of 1000 for couplings of images, and an eighth of either for what
  does not start at zero, as linear layers and fields.

  The last layer of a network starts at zero. Adam's first steps, whatever the gradient
  is, change each of its weights by the learning rate, and those of one unit so that
  they add up: its output changes by the learning rate times the sum of `fan_in`
  activations. So do the outputs of all `depth` networks of a flow, whose changes
  multiply. Without the constant the first step of a deep or wide flow is one of
  hundreds of nats in a random direction; with it, it is about as large for all, and
  that of a small one, which it leaves alone [(Yang et al., 2021)][1]. The limits are
  measured: at twice as much the first steps of some flows raise the loss, at a
  learning rate of 1e-3. Powers of two round no number, whatever a compiler makes of
  them.

  Args:
    fan_in: number of inputs of a unit of the last layer.
    depth: number of networks whose changes multiply; None is 1.0 as the constant.
    of_images: whether the network is a convolutional one that few activations of
      all pixels agree in, as after a rectifier.
    from_zero: whether the output is zero at the start.

  #### References

  [1]: Greg Yang et al. Tensor Programs V: Tuning Large Neural Networks via Zero-Shot
       Hyperparameter Transfer. In _NeurIPS_, 2021. https://arxiv.org/abs/2203.03466
  """
  if depth is None:
    return 1.0
  limit = _LIMIT_OF_IMAGES if of_images else _LIMIT
  limit /= 1 if from_zero else _FROM_ZERO
  ratio = limit / (fan_in * checks.as_count(depth, 'depth'))
  return min(1.0, 2.0 ** math.floor(math.log2(ratio)))
