"""resnest_zoo."""

__version__ = "0.1.0"
