"""Data sets, as `tf.data.Dataset`s."""

from tfp_flows.data.datasets import TABLES
from tfp_flows.data.datasets import Data
from tfp_flows.data.datasets import load
from tfp_flows.data.images import digits as load_digits
from tfp_flows.data.toy import TOYS

__all__ = ['TABLES', 'Data', 'TOYS', 'load', 'load_digits']
