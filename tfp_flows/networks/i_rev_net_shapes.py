"""What shape each block of i-RevNet has."""

from collections.abc import Sequence
from typing import NamedTuple

from tfp_flows.internal import checks
from tfp_flows.internal import shapes

__all__ = ['BlockShape', 'block_shapes', 'squeezed']


class BlockShape(NamedTuple):
  """The shape of one block.

  Attributes:
    stage: index of its stage.
    padding: number of channels of zeros that are appended before it.
    event_shape: `(H, W, C)` of its input, with the zeros.
    stride: of the block.
    hidden: channels inside of the branch.
  """

  stage: int
  padding: int
  event_shape: tuple[int, int, int]
  stride: int
  hidden: int

  @property
  def output_shape(self) -> tuple[int, int, int]:
    """`(H, W, C)` of its output."""
    return squeezed(self.event_shape, self.stride)


def squeezed(shape: tuple[int, int, int], size: int) -> tuple[int, int, int]:
  """The shape after space to depth."""
  height, width, channels = shape
  return height // size, width // size, channels * size**2


def block_shapes(
  input_shape: Sequence[int],
  num_blocks: Sequence[int],
  strides: Sequence[int],
  channels: Sequence[int] | None,
  hidden: Sequence[int] | None,
  initial_squeeze: int,
) -> list[BlockShape]:
  """The blocks in order; arguments as those of `IRevNet`.

  Raises:
    ValueError: as there.
  """
  shape = shapes.as_event_shape(input_shape, 'IRevNet')
  if len(shape) != 3:
    raise ValueError(
      f'IRevNet expects input_shape [H, W, C]; received {list(input_shape)}. Give '
      f'images a last axis of one channel.'
    )
  _check_lists(num_blocks, strides, channels, hidden)
  checks.as_count(initial_squeeze, 'initial_squeeze', owner='IRevNet')
  _check_divides(shape, initial_squeeze, 'initial_squeeze')
  shape, found = squeezed(shape, initial_squeeze), []
  for stage, (count, stride) in enumerate(zip(num_blocks, strides)):
    _check_divides(shape, stride, f'the stride of stage {stage}')
    own = shape[-1] * stride**2
    half = own // 2 if channels is None else channels[stage]
    padding = _padding(shape, stride, half, stage, channels is None)
    shape = (*shape[:-1], shape[-1] + padding)
    inside = max(1, half // 4) if hidden is None else hidden[stage]
    for i in range(count):
      block = BlockShape(stage, 0 if i else padding, shape, 1 if i else stride, inside)
      found.append(block)
      shape = block.output_shape
  return found


def _check_lists(num_blocks, strides, channels, hidden):
  given = dict(num_blocks=num_blocks, strides=strides, channels=channels, hidden=hidden)
  for name, values in given.items():
    if values is None:
      continue
    if not isinstance(values, (list, tuple)) or not values:
      raise ValueError(
        f'IRevNet expects {name} to be a list with a number for each stage; received '
        f'{values!r}.'
      )
    for value in values:
      checks.as_count(value, name, owner='IRevNet')
    if len(values) != len(num_blocks):
      raise ValueError(
        f'IRevNet expects as many {name} as stages, the {len(num_blocks)} of '
        f'num_blocks; received {list(values)}.'
      )


def _check_divides(shape, size, name):
  height, width, _ = shape
  if height % size or width % size:
    raise ValueError(
      f'IRevNet expects {name} to divide height and width; received {size} for '
      f'{height}x{width} pixels. Pad or crop the images, or use fewer strides.'
    )


def _padding(shape, stride, half, stage, is_bijective):
  """Channels of zeros before a stage whose blocks return two times `half` channels."""
  channels = shape[-1]
  if is_bijective and channels % 2:
    raise ValueError(
      f'IRevNet expects an even number of channels to cut in halves; stage {stage} '
      f'received {channels}. Use initial_squeeze=2, or append zeros by channels=[...].'
    )
  padding = 2 * half - channels * stride**2
  if padding < 0 or (padding and stride > 1) or channels % 2 and not padding:
    least = -(-channels * stride**2 // 2)
    rule = f'{least} after a stride of {stride}' if stride > 1 else f'at least {least}'
    raise ValueError(
      f'IRevNet expects channels[{stage}], of each half, to be {rule}, as the stage '
      f'receives {channels} channels; received {half}. Zeros are appended in stages '
      f'with stride 1 alone.'
    )
  return padding
