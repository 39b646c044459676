"""What a model needs of its data."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ['Description']


@dataclasses.dataclass(kw_only=True)
class Description:
  """What stays of a data set when its examples are elsewhere.

  Attributes:
    event_shape: of an example: `(D,)` or `(H, W, C)`.
    num_bins: number of values of a pixel, or None for continuous data.
    num_classes: number of labels, or None.
    mean: float64 `[D]`, what was subtracted from each column of a table, or None.
    deviation: float64 `[D]`, what each column was divided by then, or None.
    columns: the names of the columns of a table, or None.
    classes: the names of the labels, or None.
    digest: tells the examples from others: of arrays that of their bytes, of folders
      that of their files, of TensorFlow Datasets the name, the version and the sizes of
      the splits.
  """

  event_shape: tuple[int, ...]
  num_bins: int | None = None
  num_classes: int | None = None
  mean: np.ndarray | None = None
  deviation: np.ndarray | None = None
  columns: tuple[str, ...] | None = None
  classes: tuple[str, ...] | None = None
  digest: str = ''

  def in_units(self, x: np.ndarray) -> np.ndarray:
    """Undoes the scaling of a table, if there was one; in float64."""
    return x if self.mean is None else x * self.deviation + self.mean

  def as_json(self) -> dict[str, Any]:
    """The attributes as JSON has them; every digit of float64 is kept."""
    fields = [f.name for f in dataclasses.fields(Description)]
    values = {name: getattr(self, name) for name in fields}
    return {
      k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()
    }

  @classmethod
  def from_json(cls, values: Mapping[str, Any]) -> 'Description':
    """The inverse of `as_json`; names that it does not know are left out.

    Raises:
      ValueError, TypeError, KeyError: if the values are no description.
    """
    known = {f.name for f in dataclasses.fields(Description)}
    found = {k: v for k, v in values.items() if k in known and v is not None}
    for name in ('event_shape', 'columns', 'classes'):
      if name in found:
        found[name] = tuple(found[name])
    for name in ('mean', 'deviation'):
      if name in found:
        found[name] = np.asarray(found[name], np.float64).reshape(found['event_shape'])
    return Description(**found)
