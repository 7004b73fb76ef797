"""Several processes: synchronised norms, and two processes that together are one."""

from __future__ import annotations

import json
import sys
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from resnest_zoo.checkpoint import read_safetensors_metadata
from resnest_zoo.data.loading import build_training_loader
from resnest_zoo.distributed import World
from resnest_zoo.training.launch import Machines, launch
from resnest_zoo.training.parallel import SyncedBatchNorm2d, distribute, synchronize
from tests.training import two_processes
from tests.training.small_run import small_config, small_data, small_model, write_pictures

REPOSITORY = Path(__file__).parent.parent.parent


def norms(channels: int = 3) -> tuple[nn.BatchNorm2d, SyncedBatchNorm2d]:
    plain, synced = nn.BatchNorm2d(channels).double(), SyncedBatchNorm2d(channels).double()
    with torch.no_grad():
        plain.weight.uniform_(0.5, 1.5)
        plain.bias.uniform_(-1, 1)
    synced.load_state_dict(plain.state_dict())
    return plain, synced


def pictures(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(*shape, generator=generator, dtype=torch.float64) * 5 - 1


@pytest.mark.parametrize("training", [True, False])
def test_alone_a_synchronised_norm_is_a_plain_one(training: bool) -> None:
    plain, synced = (norm.train(training) for norm in norms())
    for n in (2, 5):
        x = pictures(n, 3, 4, 7).requires_grad_()
        y = x.detach().clone().requires_grad_()
        one, other = plain(x), synced(y)
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-12)
        weights = pictures(*one.shape)
        (one * weights).sum().backward()
        (other * weights).sum().backward()
        torch.testing.assert_close(y.grad, x.grad, rtol=1e-11, atol=1e-11)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(synced.state_dict()[name], value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(synced.weight.grad, plain.weight.grad, rtol=1e-11, atol=1e-11)


def test_its_gradient_is_right() -> None:
    _, synced = norms(2)
    x = pictures(2, 2, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(synced, (x,))


def test_without_any_input_nothing_is_tracked_and_gradients_are_zero() -> None:
    _, synced = norms()
    x = pictures(0, 3, 4, 4).requires_grad_()
    synced(x).sum().backward()
    assert synced.running_mean.tolist() == [0, 0, 0]
    assert synced.weight.grad.tolist() == [0, 0, 0]


def test_half_precision_comes_back_and_sums_are_made_in_float32() -> None:
    synced = SyncedBatchNorm2d(1)
    x = torch.full((1, 1, 64, 64), 1000.0, dtype=torch.bfloat16)
    x[0, 0, 0, 0] = 1008
    assert synced(x).dtype == torch.bfloat16
    assert float(synced.running_mean) == pytest.approx(0.1 * (1000 + 8 / 4096), rel=1e-6)


def test_norms_called_syncbn_are_replaced_and_keep_everything(pictures: Path) -> None:
    config = small_config({"MODEL.FPN.NORM": "BN"})
    model = small_model(config, small_data(pictures, config))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    parameters = dict(model.named_parameters())
    synchronize(model, World(size=2))
    kinds = {type(m) for m in model.modules() if isinstance(m, nn.BatchNorm2d)}
    assert kinds == {nn.BatchNorm2d, SyncedBatchNorm2d}
    assert type(model.backbone.fpn_output2.norm) is nn.BatchNorm2d
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert {k: id(v) for k, v in model.named_parameters()} == {k: id(v) for k, v in parameters.items()}


def test_one_process_changes_nothing(pictures: Path) -> None:
    config = small_config()
    model = small_model(config, small_data(pictures, config))
    assert synchronize(model, World()) is model
    assert distribute(model, World()) is model
    assert not any(isinstance(m, SyncedBatchNorm2d) for m in model.modules())


@pytest.mark.slow
def test_two_processes_with_half_the_batch_each_are_one(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, statistics and momentum after three steps in float64, and metrics with precise norms.

    1e-9 relative to the largest value of a tensor: sums over processes round otherwise than one sum. Biases
    before a norm have no gradient but rounding, so that their momentum is compared absolutely.
    """
    from safetensors.torch import load_file

    monkeypatch.chdir(REPOSITORY)
    two_processes.main(pictures, tmp_path / "one")
    command = [sys.executable, "-m", two_processes.__name__, str(pictures), str(tmp_path / "two")]
    assert launch(command, Machines(2)) == 0
    one, two = (load_file(tmp_path / name / "state.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for key, value in one.items():
        scale = float(value.abs().max()) + 1e-9
        torch.testing.assert_close(two[key], value, rtol=0, atol=1e-9 * scale, msg=key)
    moved = one["model/roi_heads.box_head.fc1.weight"] - one["momentum/roi_heads.box_head.fc1.weight"]
    assert moved.abs().max() > 1e-3
    outcomes = [json.loads((tmp_path / name / "outcome.json").read_text()) for name in ("one", "two")]
    assert outcomes[0][0] == 3
    assert outcomes[0] == outcomes[1]


@pytest.mark.slow
def test_a_broken_picture_of_one_process_ends_both_with_everything_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, output = tmp_path / "set", tmp_path / "two"
    write_pictures(folder)
    config = small_config(two_processes.OVERRIDES)
    share = build_training_loader(config, small_data(folder, config), 5, rank=1, world_size=2)
    late = list(islice(share, 2))[1][0].file
    late.write_bytes(late.read_bytes()[:-200])
    monkeypatch.chdir(REPOSITORY)
    command = [sys.executable, "-m", two_processes.__name__, str(folder), str(output)]
    assert launch(command, Machines(2)) != 0
    assert f"iteration 1: picture {late.stem} ({late})" in capfd.readouterr().err
    content = json.loads(read_safetensors_metadata(output / "state.safetensors")["training"])
    assert content["progress"]["iteration"] == 1
