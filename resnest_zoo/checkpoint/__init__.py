"""Weights in files: what a file is, what it holds, and how it fills a model.

`formats` reads bytes, `layouts` translates names, `Checkpoint` is a file that was opened once and knows both,
`loading` copies into a model, `writing` writes.
"""

from resnest_zoo.checkpoint.layouts import is_classifier
from resnest_zoo.checkpoint.loading import fits, load_checkpoint, require_finite
from resnest_zoo.checkpoint.opened import Checkpoint, read_safetensors_metadata, read_state_dict
from resnest_zoo.checkpoint.writing import model_metadata, write_safetensors

__all__ = [
    "Checkpoint",
    "fits",
    "is_classifier",
    "load_checkpoint",
    "model_metadata",
    "read_safetensors_metadata",
    "read_state_dict",
    "require_finite",
    "write_safetensors",
]
