"""The commands: `python -m tfp_flows.bin.train`, `evaluate`, `sample`, ..."""
