"""The detectors: ResNet and ResNeSt, FPN, RPN, R-CNN heads, panoptic FPN.

`build_model` is the one door. Attribute names of the modules are the keys of the published checkpoints.
"""

from resnest_zoo.models.build import build_model
from resnest_zoo.models.rcnn import GeneralizedRCNN

__all__ = ["GeneralizedRCNN", "build_model"]
