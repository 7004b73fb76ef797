"""The configuration of a detector: detectron2's YAML schema, read into frozen, typed dataclasses.

    schema        every key that has an effect here: its name, type, range and default
    differences   keys that detectron2 has and this package not, and the other way round
    keys          the same keys seen flat ("MODEL.RPN.NMS_THRESH"), and the conversion of values
    checks        what must hold between keys before a model can be built
    loading       YAML files, `_BASE_` chains, the packaged configs

`MODEL.RPN.NMS_THRESH` of a file is `config.model.rpn.nms_thresh`. Nothing here imports torch.
"""

from resnest_zoo.config.loading import load_config, parse_config, resolve_path
from resnest_zoo.config.schema import (
    AMP,
    FPN,
    RPN,
    AnchorGenerator,
    Augmentation,
    Backbone,
    ClipGradients,
    Combine,
    Config,
    Crop,
    DataLoader,
    Datasets,
    Evaluation,
    Input,
    Model,
    PanopticFPN,
    PreciseBN,
    ProposalGenerator,
    ResNets,
    ROIBoxCascadeHead,
    ROIBoxHead,
    ROIHeads,
    ROIMaskHead,
    SemSegHead,
    Solver,
)

__all__ = [
    "AMP",
    "FPN",
    "RPN",
    "AnchorGenerator",
    "Augmentation",
    "Backbone",
    "ClipGradients",
    "Combine",
    "Config",
    "Crop",
    "DataLoader",
    "Datasets",
    "Evaluation",
    "Input",
    "Model",
    "PanopticFPN",
    "PreciseBN",
    "ProposalGenerator",
    "ROIBoxCascadeHead",
    "ROIBoxHead",
    "ROIHeads",
    "ROIMaskHead",
    "ResNets",
    "SemSegHead",
    "Solver",
    "load_config",
    "parse_config",
    "resolve_path",
]
