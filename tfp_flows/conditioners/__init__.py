"""Networks for the layers of flows: Keras 3 layers, built at construction."""

from tfp_flows.conditioners.conv_net import ConvNet
from tfp_flows.conditioners.field_conv_net import FieldConvNet
from tfp_flows.conditioners.field_mlp import FieldMLP
from tfp_flows.conditioners.initializers import SeedStream
from tfp_flows.conditioners.lipschitz_activations import lipschitz_activation
from tfp_flows.conditioners.lipschitz_layers import LipschitzConv2D
from tfp_flows.conditioners.lipschitz_layers import LipschitzDense
from tfp_flows.conditioners.lipschitz_networks import LipschitzConvNet
from tfp_flows.conditioners.lipschitz_networks import LipschitzMLP
from tfp_flows.conditioners.made import MADE
from tfp_flows.conditioners.mlp import MLP
from tfp_flows.conditioners.neural_ode import NeuralODE
from tfp_flows.conditioners.res_net import ResNet

__all__ = [
  'ConvNet',
  'FieldConvNet',
  'FieldMLP',
  'LipschitzConv2D',
  'LipschitzConvNet',
  'LipschitzDense',
  'LipschitzMLP',
  'MADE',
  'MLP',
  'NeuralODE',
  'ResNet',
  'SeedStream',
  'lipschitz_activation',
]
