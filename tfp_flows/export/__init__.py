"""Models for other programs: SavedModel and StableHLO."""

from tfp_flows.export.saved_model import export_saved_model
from tfp_flows.export.stablehlo import export_stablehlo
from tfp_flows.export.stablehlo import import_stablehlo
from tfp_flows.export.units import Units

__all__ = ['Units', 'export_saved_model', 'export_stablehlo', 'import_stablehlo']
