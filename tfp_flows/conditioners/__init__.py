"""Networks for coupling layers: Keras 3 layers, built at construction."""

from tfp_flows.conditioners.conv_net import ConvNet
from tfp_flows.conditioners.initializers import SeedStream
from tfp_flows.conditioners.mlp import MLP
from tfp_flows.conditioners.res_net import ResNet

__all__ = ['ConvNet', 'MLP', 'ResNet', 'SeedStream']
