from __future__ import annotations

import numpy as np
import pytest
import torch

from resnest_zoo.errors import ImageError
from resnest_zoo.models.preprocess import Preprocessing, check_image
from tests.models.tiny import picture

BGR = Preprocessing("BGR", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0), 800, 1333, 32)
RGB = Preprocessing("RGB", (123.68, 116.779, 103.939), (58.393, 57.12, 57.375), 800, 1333, 32)
DOUBLE = torch.empty(0, dtype=torch.float64)


@pytest.mark.parametrize("preprocessing", [BGR, RGB])
def test_pixels_are_normalised_and_the_rest_is_zero(preprocessing):
    images = [picture(33, 50, 1), picture(60, 20, 2)]
    batch = preprocessing.batch(images, DOUBLE)
    assert batch.tensor.shape == (2, 3, 64, 64)
    assert batch.image_sizes == ((33, 50), (60, 20))
    for tensor, image in zip(batch.tensor, images, strict=True):
        _, height, width = image.shape
        for channel in range(3):
            source = 2 - channel if preprocessing.channel_order == "BGR" else channel
            mean = np.float32(preprocessing.pixel_mean[channel]).astype(np.float64)
            std = np.float32(preprocessing.pixel_std[channel]).astype(np.float64)
            expected = (image[source].numpy().astype(np.float64) - mean) / std
            assert np.array_equal(tensor[channel, :height, :width].numpy(), expected)
        assert not tensor[:, height:].any()
        assert not tensor[:, :, width:].any()


@pytest.mark.parametrize(
    ("height", "width", "padded"),
    [(32, 64, (32, 64)), (33, 64, (64, 64)), (1, 1, (32, 32)), (31, 97, (32, 128))],
)
def test_padding_reaches_the_next_multiples(height, width, padded):
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    assert RGB.padded_size(tuple(image.shape[1:])) == padded
    assert RGB.batch([image], DOUBLE).tensor.shape[2:] == padded


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_batch_has_the_models_dtype(dtype):
    assert RGB.batch([picture(5, 5)], torch.empty(0, dtype=dtype)).tensor.dtype == dtype


def test_the_callers_picture_is_not_changed():
    image = picture(20, 30)
    before = image.clone()
    BGR.batch([BGR.resize(image), image], DOUBLE)
    assert torch.equal(image, before)


def test_resizing_follows_the_size_rule():
    assert RGB.resize(picture(40, 80)).shape == (3, 667, 1333)
    as_it_is = Preprocessing("RGB", (0.0,) * 3, (1.0,) * 3, 0, 1333, 32)
    image = picture(40, 2000)
    assert as_it_is.resize(image) is image


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        (torch.rand(3, 4, 5), r"image 7: expected uint8 pixels 0-255, got torch.float32; .* \* 255"),
        (torch.zeros(3, 4, 5, dtype=torch.int64), "image 7: expected uint8"),
        (torch.zeros(4, 5, dtype=torch.uint8), r"image 7: expected \(3, H, W\) .* got shape \(4, 5\)"),
        (torch.zeros(1, 4, 5, dtype=torch.uint8), r"got shape \(1, 4, 5\)"),
        (torch.zeros(4, 4, 5, dtype=torch.uint8), r"got shape \(4, 4, 5\)"),
        (torch.zeros(4, 5, 3, dtype=torch.uint8), r"got shape \(4, 5, 3\)"),
        (torch.zeros(2, 3, 4, 5, dtype=torch.uint8), r"got shape \(2, 3, 4, 5\)"),
        (torch.zeros(3, 0, 5, dtype=torch.uint8), "image 7: has no pixels"),
        (np.zeros((4, 5, 3), np.uint8), "got ndarray; .* use resnest_zoo.Predictor"),
        ("photo.jpg", "got str; for files"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_picture_is_refused_by_name_and_number(image, complaint):
    with pytest.raises(ImageError, match=complaint):
        check_image(image, 7)


def test_a_picture_passes_as_it_is():
    image = picture(1, 1)
    assert check_image(image, 0) is image
