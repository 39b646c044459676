"""Data sets, as `tf.data.Dataset`s."""

from tfp_flows.data.datasets import FILES
from tfp_flows.data.datasets import Data
from tfp_flows.data.datasets import is_path
from tfp_flows.data.datasets import load
from tfp_flows.data.description import Description
from tfp_flows.data.images import digits as load_digits
from tfp_flows.data.tabular import named as named_columns
from tfp_flows.data.toy import TOYS

__all__ = [
  'FILES',
  'Data',
  'Description',
  'TOYS',
  'is_path',
  'load',
  'load_digits',
  'named_columns',
]
