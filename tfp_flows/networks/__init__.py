"""Networks for the layers of flows: Keras 3 layers, built at construction."""

from tfp_flows.networks.conv_net import ConvNet
from tfp_flows.networks.field_conv_net import FieldConvNet
from tfp_flows.networks.field_mlp import FieldMLP
from tfp_flows.networks.i_rev_net import IRevNet
from tfp_flows.networks.initializers import SeedStream
from tfp_flows.networks.lipschitz_activations import lipschitz_activation
from tfp_flows.networks.lipschitz_layers import LipschitzConv2D
from tfp_flows.networks.lipschitz_layers import LipschitzDense
from tfp_flows.networks.lipschitz_networks import LipschitzConvNet
from tfp_flows.networks.lipschitz_networks import LipschitzMLP
from tfp_flows.networks.made import MADE
from tfp_flows.networks.mlp import MLP
from tfp_flows.networks.neural_ode import NeuralODE
from tfp_flows.networks.res_net import ResNet
from tfp_flows.networks.rev_net import RevNet

__all__ = [
  'ConvNet',
  'FieldConvNet',
  'FieldMLP',
  'IRevNet',
  'LipschitzConv2D',
  'LipschitzConvNet',
  'LipschitzDense',
  'LipschitzMLP',
  'MADE',
  'MLP',
  'NeuralODE',
  'ResNet',
  'RevNet',
  'SeedStream',
  'lipschitz_activation',
]
