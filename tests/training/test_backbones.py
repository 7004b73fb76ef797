"""Backbones of other hands: their own modules and ours, filled from their files, give equal features."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from resnest_zoo.api.start import Start, find_start
from resnest_zoo.cli import main
from resnest_zoo.cli import train_net as script
from resnest_zoo.config import Config, load_config
from resnest_zoo.errors import ConfigError
from resnest_zoo.models import GeneralizedRCNN, build_model
from resnest_zoo.registry import info
from resnest_zoo.training.initial import load_initial
from tests.training.small_run import SMALL, write_pictures
from tests.training.test_initial import caffe2_name

# timm scripts functions as it is imported, which torch 2.13 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

RGB = {
    "INPUT.FORMAT": "RGB",
    "MODEL.PIXEL_MEAN": (123.675, 116.28, 103.53),
    "MODEL.PIXEL_STD": (58.395, 57.12, 57.375),
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
}


def resnet_config(depth: int) -> Config:
    return load_config("Base-RCNN-FPN.yaml", {**RGB, "MODEL.RESNETS.DEPTH": depth})


def resnest_config(depth: int) -> Config:
    return load_config("Base-ResNeSt-FPN.yaml", {"MODEL.RESNETS.DEPTH": depth})


def shake(module: nn.Module) -> nn.Module:
    """Statistics and scales as after training: at their initial values many a mistake would not show."""
    torch.manual_seed(0)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.weight.uniform_(0.8, 1.2)
                part.bias.uniform_(-0.1, 0.1)
                part.running_mean.uniform_(-0.1, 0.1)  # type: ignore[union-attr, operator]
                part.running_var.uniform_(0.8, 1.2)  # type: ignore[union-attr, operator]
    return module.double().eval()


@torch.no_grad()
def features(module: nn.Module, picture: Tensor) -> list[Tensor]:
    """What timm's and torchvision's networks compute, stage by stage."""
    found = picture
    for name in ("conv1", "bn1", "act1" if hasattr(module, "act1") else "relu", "maxpool"):
        found = getattr(module, name)(found)
    stages = []
    for name in ("layer1", "layer2", "layer3", "layer4"):
        found = getattr(module, name)(found)
        stages.append(found)
    return stages


def check(module: nn.Module, config: Config, folder: Path) -> None:
    shake(module)
    torch.save(module.state_dict(), folder / "theirs.pth")
    model: GeneralizedRCNN = build_model(config).double().eval()
    load_initial(model, folder / "theirs.pth")
    picture = torch.rand(2, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        ours = model.backbone.bottom_up(picture)
    for stage, expected in zip(ours.values(), features(module, picture), strict=True):
        assert expected.abs().max() > 0.01
        torch.testing.assert_close(stage, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("resnest14d", 14),
        pytest.param("resnest50d", 50, marks=pytest.mark.slow),
        pytest.param("resnest101e", 101, marks=pytest.mark.slow),
        pytest.param("resnest200e", 200, marks=pytest.mark.slow),
    ],
)
def test_a_resnest_of_timm_gives_the_same_features_here(name: str, depth: int, tmp_path: Path) -> None:
    import timm

    check(timm.create_model(name), resnest_config(depth), tmp_path)


@pytest.mark.parametrize("depth", [pytest.param(depth, marks=pytest.mark.slow) for depth in (50, 101)])
def test_a_resnet_of_torchvision_gives_the_same_features_here(depth: int, tmp_path: Path) -> None:
    check(getattr(torchvision.models, f"resnet{depth}")(), resnet_config(depth), tmp_path)


def test_a_small_resnet_of_torchvision_gives_the_same_features_here(tmp_path: Path) -> None:
    from torchvision.models.resnet import Bottleneck, ResNet

    check(ResNet(Bottleneck, [1, 1, 1, 1]), resnet_config(14), tmp_path)


def test_strides_that_are_elsewhere_are_refused_by_key_also_of_an_unknown_file(tmp_path: Path) -> None:
    from torchvision.models.resnet import Bottleneck, ResNet

    torch.save(ResNet(Bottleneck, [1, 1, 1, 1]).state_dict(), tmp_path / "own.pth")
    model = build_model(resnet_config(14).override({"MODEL.RESNETS.STRIDE_IN_1X1": True}))
    with pytest.raises(
        ConfigError, match=r"MODEL\.RESNETS\.STRIDE_IN_1X1: .*own\.pth has torchvision's names"
    ):
        load_initial(model, tmp_path / "own.pth")


def test_a_backbone_of_another_depth_is_refused(tmp_path: Path) -> None:
    from torchvision.models.resnet import Bottleneck, ResNet

    from resnest_zoo.errors import CheckpointError

    torch.save(ResNet(Bottleneck, [1, 1, 2, 1]).state_dict(), tmp_path / "own.pth")
    with pytest.raises(CheckpointError, match=r"not the backbone of this model:\s+\d+ left over: res4\.1"):
        load_initial(build_model(resnet_config(14)), tmp_path / "own.pth")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("INPUT.FORMAT", "BGR"),
        ("MODEL.PIXEL_MEAN", (103.53, 116.28, 123.675)),
        ("MODEL.PIXEL_STD", (1.0, 1.0, 1.0)),
        ("MODEL.RESNETS.STRIDE_IN_1X1", True),
    ],
)
@pytest.mark.parametrize("weights", ["resnet50_torchvision", "a path"])
def test_input_and_strides_of_a_backbone_and_of_the_config_must_agree(
    tmp_path: Path, key: str, value: object, weights: str
) -> None:
    """Before anything is fetched, and also for a copy that lies here under its published name."""
    path = tmp_path / "resnet50-0676ba61.pth"
    path.touch()
    name = str(path) if weights == "a path" else weights
    with pytest.raises(ConfigError, match=f"{key}: resnet50_torchvision was trained with .* set {key} to"):
        find_start(name, resnet_config(50).override({key: value}))
    assert find_start(str(path), resnet_config(50)) == Start(path, info("resnet50_torchvision"))


def test_the_configs_of_this_zoo_agree_with_the_authors_and_timms_backbones(tmp_path: Path) -> None:
    """Whose mean and standard deviation are rounded in another place."""
    for name in ("resnest50-528c19ca.pth", "timm-resnest50d.in1k.safetensors"):
        (tmp_path / name).touch()
        found = find_start(str(tmp_path / name), load_config(info("faster_rcnn_resnest50").config or ""))
        assert found is not None


def write_timm(folder: Path) -> Path:
    import timm
    from safetensors.torch import save_file

    save_file(timm.create_model("resnest14d").state_dict(), folder / "model.safetensors")
    return folder / "model.safetensors"


def write_authors(folder: Path) -> Path:
    """timm's names, but for those of the classifier, and a pickle."""
    import timm

    torch.save(timm.create_model("resnest14d").state_dict(), folder / "resnest14.pth")
    return folder / "resnest14.pth"


def write_detectron2(folder: Path) -> Path:
    state = build_model(resnest_config(14)).backbone.bottom_up.state_dict()
    torch.save({"model": {**state, "stem.fc.weight": torch.zeros(1000, 2048)}}, folder / "d2.pth")
    return folder / "d2.pth"


def write_torchvision(folder: Path) -> Path:
    from torchvision.models.resnet import Bottleneck, ResNet

    torch.save(ResNet(Bottleneck, [1, 1, 1, 1]).state_dict(), folder / "own.pth")
    return folder / "own.pth"


def write_caffe2(folder: Path) -> Path:
    state = build_model(resnet_config(14)).backbone.bottom_up.state_dict()
    kept = {k: v.numpy() for k, v in state.items() if not k.endswith("num_batches_tracked")}
    (folder / "R-14.pkl").write_bytes(pickle.dumps({caffe2_name(key): value for key, value in kept.items()}))
    return folder / "R-14.pkl"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "train_net"])
@pytest.mark.parametrize(
    "write", [write_timm, write_authors, write_detectron2, write_torchvision, write_caffe2]
)
def test_two_iterations_start_from_each_layout(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, write: Callable[[Path], Path], command: str
) -> None:
    write_pictures(tmp_path / "data")
    widths = ("MODEL.RESNETS.WIDTH", "MODEL.RESNETS.RES2", "MODEL.RESNETS.RADIX")
    small = {key: value for key, value in SMALL.items() if not key.startswith(widths)}
    radix = {"MODEL.RESNETS.RADIX": 1 if write in (write_torchvision, write_caffe2) else 2}
    file = tmp_path / "small.yaml"
    file.write_text(load_config("Base-RCNN-FPN.yaml", {**small, **radix, "SOLVER.MAX_ITER": 2}).dump())
    weights, out = str(write(tmp_path)), tmp_path / "out"
    pictures = ["--train-json", str(tmp_path / "data" / "annotations.json")]
    pictures += ["--train-images", str(tmp_path / "data")]
    caplog.set_level(logging.INFO, "resnest_zoo")
    if command == "train":
        given = ["--model", str(file), "--weights", weights, "--output", str(out), "--device", "cpu"]
        assert main(["train", *pictures, *given, "SOLVER.MAX_ITER", "2"]) == 0
    else:
        given = ["MODEL.WEIGHTS", weights, "OUTPUT_DIR", str(out), "MODEL.DEVICE", "cpu"]
        assert script.main(["--config-file", str(file), *pictures, *given]) == 0
    assert f"{weights}: " in caplog.text
    assert "tensors of the backbone loaded" in caplog.text
    assert (out / "last.safetensors").is_file()
