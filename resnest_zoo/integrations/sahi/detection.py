"""A detector as SAHI calls one: arrays in, its `ObjectPrediction`s out. Imports SAHI.

Slicing, merging and drawing are SAHI's. Interface: sahi/models/base.py of SAHI 0.12.8.

Legend: H and W height and width of a slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sahi.models.base import DetectionModel
from sahi.prediction import ObjectPrediction
from sahi.utils.compatibility import fix_full_shape_list, fix_shift_amount_list

from resnest_zoo.api import Predictor, usable_device
from resnest_zoo.categories import Categories
from resnest_zoo.errors import ConfigError, shown, some
from resnest_zoo.ops.outlines import trace_outlines
from resnest_zoo.structures import Instances

_Numbers = Sequence[int | float]
_CUT = 0.5  # of a mask's probabilities, as detectron2 cuts them


class ResNeStDetectionModel(DetectionModel):  # type: ignore[misc]  # of a package that need not be there
    """A detector of the zoo for SAHI's `get_prediction`, `get_sliced_prediction` and `predict`.

    Takes the arguments of SAHI's `DetectionModel`:

    - `model_path`: what `resnest_zoo.Predictor` takes: a name, a checkpoint, an address, an exported file.
    - `model`: one that `get` has built instead, which is moved to `device` if one is given.
    - `config_path`: a config file (.yaml) in detectron2's schema, whose checkpoint is `model_path` then.
    - `device`: by default a GPU if there is one. Unlike SAHI's own models this one hides no GPU from the
      rest of the process: CUDA_VISIBLE_DEVICES stays as it is.
    - `confidence_threshold`: detections of at least this score are kept, 0-1.
    - `image_size`: the longer side of what the model sees of a slice, in pixels; by default its config's.
    - `category_mapping`: other names, by category id as text: {"1": "person"}.
    - `category_remapping`: other ids, by category id as text; applied by SAHI.
    - `load_at_init`: False leaves loading to `load_model`.

    Category ids are those of the model's data set, with COCO's gaps, so that results fit its annotations.

    SAHI keeps masks as polygons and takes the boxes of instances from them. Here they go along the edges of
    pixels, so that boxes, areas and COCO's rows are those of the masks; SAHI's own models put corners on
    centres of pixels, by which an object of 10 x 10 pixels gets a box of 9 x 9. In its rows SAHI fills holes,
    and `mask.bool_mask`, which it draws with OpenCV, is one pixel wider and higher. An instance with an empty
    mask keeps the model's box, as all do where there are no masks.

    Raises:
        ConfigError: there is nothing to load, an argument is wrong, or a category has no name.
        ZooError: as `resnest_zoo.get` does.
    """

    category_mapping: dict[str, str] | None

    def set_device(self, device: str | torch.device | None = None) -> None:
        """Note where the model shall run, and leave the process's view of its GPUs alone."""
        self.device = device  # once there is a model, the one that it is on

    def load_model(self) -> None:
        """Build what `model_path` names.

        Raises:
            ConfigError: it names nothing, or an argument is wrong.
            ZooError: as `resnest_zoo.get` does.
        """
        if not self.model_path:
            raise ConfigError("model_path: expected what resnest_zoo.get takes, such as a model's name")
        options: dict[str, Any] = {"device": self.device}
        name = self.model_path
        if self.config_path:
            name, options["weights"] = self.config_path, self.model_path
        if self.image_size is not None:
            side = str(self.image_size)
            options["overrides"] = ["INPUT.MIN_SIZE_TEST", side, "INPUT.MAX_SIZE_TEST", side]
        self._accept(Predictor(name, **options).model)

    def set_model(self, model: Any, **kwargs: Any) -> None:
        """Take a model that `resnest_zoo.get` has built.

        Raises:
            ConfigError: it is no such model, there is no such device, or `image_size` was given, which is set
                when a model is built.
        """
        if self.image_size is not None:
            raise ConfigError(
                "image_size: expected none with a model already built; give model_path, or build the model "
                'with overrides of "INPUT.MIN_SIZE_TEST" and "INPUT.MAX_SIZE_TEST"'
            )
        if isinstance(model, str | Path):
            raise ConfigError(
                f"model: expected one that get has built, got {shown(model)}; a name is model_path"
            )
        Predictor(model)  # refuses what is none
        if self.device is not None:
            model = model.to(usable_device(self.device))
        self._accept(model)

    def _accept(self, model: Any) -> None:
        if self.mask_threshold != _CUT:
            raise ConfigError(
                f"mask_threshold: masks are cut at {_CUT} here, got {shown(self.mask_threshold)}"
            )
        categories: Categories = model.categories
        names = {str(k): name for k, name in zip(categories.thing_ids, categories.things, strict=True)}
        given = self.category_mapping
        if missing := [key for key in names if given is not None and key not in given]:
            raise ConfigError(f"category_mapping: has no name for the model's category {some(missing)}")
        self.category_mapping = names if given is None else given
        self.model, self.device = model, model.device

    @property
    def num_categories(self) -> int:
        """How many categories have names."""
        return len(self._names())

    @property
    def category_names(self) -> list[str]:
        """Their names."""
        return list(self._names().values())

    @property
    def has_mask(self) -> bool:
        """Whether results have masks."""
        model = self._loaded()
        if model.config is None:
            return model.roi_heads.mask_head is not None
        return bool(model.config.model.mask_on)

    def _names(self) -> dict[str, str]:
        return self.category_mapping or {}

    def _loaded(self) -> Any:
        if self.model is None:
            raise ConfigError("no model is loaded: call load_model")
        return self.model

    def perform_inference(self, image: np.ndarray[Any, Any]) -> None:
        """Detect in a picture, (H, W, 3) uint8 RGB or what else `read_picture` takes as an array."""
        self.perform_batch_inference([image])

    def perform_batch_inference(self, images: list[np.ndarray[Any, Any]]) -> None:
        """Detect in several pictures, those of one size together."""
        predict = Predictor(self._loaded(), score_threshold=self.confidence_threshold)
        found = predict.stream(images, batch_size=max(len(images), 1))
        self._original_predictions = [prediction.instances for prediction in found]

    def _create_object_prediction_list_from_original_predictions(
        self,
        shift_amount_list: _Numbers | Sequence[_Numbers] | None = None,
        full_shape_list: _Numbers | Sequence[_Numbers] | None = None,
    ) -> None:
        """What was found in each picture, as SAHI's predictions.

        Args:
            shift_amount_list: x and y of each slice in the whole picture, or of a single one.
            full_shape_list: height and width of the whole picture, likewise.
        """
        found: list[Instances] = self._original_predictions
        shifts = fix_shift_amount_list(shift_amount_list or [[0, 0]] * len(found))
        shapes = fix_full_shape_list(full_shape_list) or [
            [height + y, width + x] for (height, width), (x, y) in zip(_sizes(found), shifts, strict=True)
        ]
        self._object_prediction_list_per_image = [
            self._converted(instances, shift, shape)
            for instances, shift, shape in zip(found, shifts, shapes, strict=True)
        ]

    def _converted(self, found: Instances, shift: _Numbers, shape: _Numbers) -> list[Any]:
        boxes, scores, classes, masks = found.numpy()
        names = self._names()
        converted = []
        for index, place in enumerate(classes.tolist()):
            category_id = found.categories.thing_ids[place]
            rings = (
                []
                if masks is None
                else [ring for outline in trace_outlines(masks[index]) for ring in outline]
            )
            converted.append(
                ObjectPrediction(
                    bbox=boxes[index].tolist(),
                    segmentation=[[float(v) for corner in ring for v in corner] for ring in rings] or None,
                    category_id=category_id,
                    category_name=names[str(category_id)],
                    score=float(scores[index]),
                    shift_amount=list(shift),
                    full_shape=list(shape),
                )
            )
        return converted


def _sizes(found: Sequence[Instances]) -> list[tuple[int, int]]:
    return [instances.image_size for instances in found]
