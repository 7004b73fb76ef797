"""Detectors at work on photographs: prediction, test-time augmentation, drawing."""

from resnest_zoo.inference.pipeline import Failure
from resnest_zoo.inference.prediction import Prediction
from resnest_zoo.inference.predictor import PicturePredictor
from resnest_zoo.inference.tta import TTA

__all__ = ["TTA", "Failure", "PicturePredictor", "Prediction"]
