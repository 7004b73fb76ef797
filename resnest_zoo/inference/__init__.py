"""Detectors at work on photographs: prediction, test-time augmentation, drawing."""

from resnest_zoo.inference.predictor import PicturePredictor, Prediction
from resnest_zoo.inference.tta import TTA

__all__ = ["TTA", "PicturePredictor", "Prediction"]
