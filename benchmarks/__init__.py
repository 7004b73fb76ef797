"""Measurements: `verify` checks every claim, `report` writes MODEL_ZOO.md."""
