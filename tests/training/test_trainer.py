"""The loop: learning, resuming bit for bit, stopping, and what it never does to good checkpoints."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from resnest_zoo.checkpoint import Checkpoint, read_safetensors_metadata, read_state_dict
from resnest_zoo.data.loading import build_training_loader
from resnest_zoo.distributed import World
from resnest_zoo.errors import ConfigError, TrainingError, ZooError
from resnest_zoo.training import trainer
from resnest_zoo.training.recorder import Recorder
from resnest_zoo.training.trainer import Options
from tests.training.small_run import (
    MASKS,
    PANOPTIC,
    run,
    small_config,
    small_data,
    small_model,
    write_pictures,
)

# Everything that has a state: momentum, average, precise norms, evaluations, two schedules.
EVERYTHING = {"TEST.EVAL_PERIOD": 2, "TEST.PRECISE_BN.ENABLED": True, "TEST.PRECISE_BN.NUM_ITER": 1}


def rows(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def signal_at(monkeypatch: pytest.MonkeyPatch, iteration: int, number: signal.Signals) -> None:
    """Let this process get a signal while it works on an iteration."""
    step = Recorder.step

    def with_signal(self: Recorder, done: int, *values: Any) -> None:
        if done == iteration:
            os.kill(os.getpid(), number)
        step(self, done, *values)

    monkeypatch.setattr(Recorder, "step", with_signal)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_run_stopped_by_a_signal_and_resumed_ends_as_the_unbroken_one_bit_for_bit(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    config = small_config({**EVERYTHING, **PANOPTIC})
    options = {"validate": True, "ema_decay": 0.9, "log_period": 1}
    run(pictures, tmp_path / "whole", config, **options)
    with monkeypatch.context() as patch:
        signal_at(patch, 3, number)
        _, outcome = run(pictures, tmp_path / "parts", config, **options)
    assert (outcome.iteration, outcome.signal) == (3, number)
    _, outcome = run(pictures, tmp_path / "parts", config, resume=True, **options)
    assert (outcome.iteration, outcome.signal) == (6, None)
    for name in ("state", "last", "best"):
        one, other = ((tmp_path / part / f"{name}.safetensors").read_bytes() for part in ("whole", "parts"))
        assert one == other, name
    times = ("seconds", "data_seconds", "memory_mb")
    whole, parts = (
        [{k: v for k, v in row.items() if k not in times} for row in rows(tmp_path / part)]
        for part in ("whole", "parts")
    )
    assert whole == parts


class Killed(BaseException):
    pass


def killed_before(monkeypatch: pytest.MonkeyPatch, place: int) -> list[str]:
    """Let the run die before it writes its file number `place`; what was to be written until then."""
    names: list[str] = []

    def count(write: Any) -> Any:
        def written(one: object, path: Path, *more: Any) -> None:
            names.append(path.name)
            if len(names) == place:
                raise Killed
            write(one, path, *more)

        return written

    monkeypatch.setattr(trainer, "save_model", count(trainer.save_model))
    monkeypatch.setattr(trainer.TrainingState, "save", count(trainer.TrainingState.save))
    return names


@pytest.mark.slow
def test_whichever_file_a_kill_leaves_out_the_resumed_run_has_them_all_bit_for_bit(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config({**EVERYTHING, "SOLVER.MAX_ITER": 4, "SOLVER.CHECKPOINT_PERIOD": 3})
    with monkeypatch.context() as patch:
        names = killed_before(patch, 0)
        run(pictures, tmp_path / "whole", config, validate=True)
    assert {"best.safetensors", "model_0000003.safetensors"} < set(names)
    for place in range(1, len(names) + 1):
        output = tmp_path / f"killed before {place}"
        with monkeypatch.context() as patch:
            killed_before(patch, place)
            with pytest.raises(Killed):
                run(pictures, output, config, validate=True)
        run(pictures, output, config, resume=True, validate=True)
        for path in (tmp_path / "whole").glob("*.safetensors"):
            assert (output / path.name).read_bytes() == path.read_bytes(), (place, path.name)


def test_a_signal_during_an_evaluation_gives_it_up_and_the_resumed_run_makes_it(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(EVERYTHING)
    run(pictures, tmp_path / "whole", config, validate=True)
    with monkeypatch.context() as patch:
        signal_at(patch, 4, signal.SIGTERM)
        _, outcome = run(pictures, tmp_path / "parts", config, validate=True)
    assert outcome.iteration == 4
    assert [row["iteration"] for row in rows(tmp_path / "parts")] == [2]
    run(pictures, tmp_path / "parts", config, validate=True, resume=True)
    assert [r["iteration"] for r in rows(tmp_path / "parts") if "bbox/AP" in r] == [2, 4, 6]
    one, other = ((tmp_path / part / "state.safetensors").read_bytes() for part in ("whole", "parts"))
    assert one == other


@pytest.mark.parametrize("precise", [True, False])
def test_a_failed_evaluation_costs_no_iteration_and_the_error_says_how_to_go_on(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precise: bool
) -> None:
    config = small_config({**EVERYTHING, "TEST.EVAL_PERIOD": 4, "TEST.PRECISE_BN.ENABLED": precise})
    run(pictures, tmp_path / "whole", config, validate=True)

    def fail(*_: Any, **__: Any) -> None:
        raise ZooError("val/7.png: cannot be read")

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "evaluate_all", fail)
        with pytest.raises(TrainingError, match=r"val/7\.png: .*\n.* iteration 4 .*parts .*--resume"):
            run(pictures, tmp_path / "parts", config, validate=True)
    assert read_safetensors_metadata(tmp_path / "parts" / "last.safetensors")["iteration"] == "4"
    run(pictures, tmp_path / "parts", config, validate=True, resume=True)
    assert [r["iteration"] for r in rows(tmp_path / "parts") if "bbox/AP" in r] == [4, 6]
    one, other = ((tmp_path / part / "state.safetensors").read_bytes() for part in ("whole", "parts"))
    assert one == other


def test_the_seed_decides_everything(pictures: Path, tmp_path: Path) -> None:
    ends = []
    for k, seed in enumerate((5, 5, 6)):
        run(pictures, tmp_path / str(k), small_config({"SEED": seed, "SOLVER.MAX_ITER": 2}))
        ends.append(read_state_dict(tmp_path / str(k) / "last.safetensors"))
    name = "backbone.bottom_up.res5.0.conv3.weight"
    assert torch.equal(ends[0][name], ends[1][name])
    assert not torch.equal(ends[0][name], ends[2][name])


def test_a_seed_of_minus_one_is_drawn_and_kept_for_the_resumed_run(pictures: Path, tmp_path: Path) -> None:
    seeds = []
    for iterations in (1, 2):
        config = small_config({"SEED": -1, "SOLVER.MAX_ITER": iterations})
        run(pictures, tmp_path, config, resume=True)
        content = json.loads(read_safetensors_metadata(tmp_path / "state.safetensors")["training"])
        seeds.append(content["progress"]["seed"])
    assert seeds[0] == seeds[1] >= 0


def test_the_losses_fall(tmp_path: Path) -> None:
    write_pictures(tmp_path / "two", 2)
    changes = {"SOLVER.MAX_ITER": 40, "SOLVER.STEPS": (), "SOLVER.BASE_LR": 0.05, "SOLVER.WARMUP_ITERS": 10}
    run(tmp_path / "two", tmp_path, small_config(changes), log_period=10)
    first, *_, last = (row for row in rows(tmp_path) if "loss" in row)
    assert last["loss_rpn_cls"] < 0.7 * first["loss_rpn_cls"]
    assert last["loss_cls"] < 0.75 * first["loss_cls"]  # it swings, as the proposals improve under it


def test_what_is_written_and_when(pictures: Path, tmp_path: Path) -> None:
    config = small_config({"SOLVER.CHECKPOINT_PERIOD": 4})
    model, outcome = run(pictures, tmp_path, config, log_period=2, started_from="mask_rcnn_resnest50")
    assert (outcome.iteration, outcome.metrics, outcome.signal) == (6, None, None)
    written = {path.name for path in tmp_path.glob("*.safetensors")}
    assert written == {"last.safetensors", "state.safetensors", "model_0000004.safetensors"}
    metadata = read_safetensors_metadata(tmp_path / "last.safetensors")
    assert (metadata["iteration"], metadata["started_from"]) == ("6", "mask_rcnn_resnest50")
    last = Checkpoint.open(tmp_path / "last.safetensors")
    assert (last.config, last.categories) == (config.dump(), model.categories)
    assert all(torch.equal(last[key], value) for key, value in model.state_dict().items())
    assert [row["iteration"] for row in rows(tmp_path)] == [2, 4, 6]
    names = {"loss", "loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"}
    assert set(rows(tmp_path)[0]) == names | {"iteration", "lr", "seconds", "data_seconds", "memory_mb"}
    assert rows(tmp_path)[0]["lr"] == pytest.approx(0.02 * (0.001 + 0.999 / 2))


def test_masks_and_semantics_have_losses_of_their_own(pictures: Path, tmp_path: Path) -> None:
    run(pictures, tmp_path, small_config({**PANOPTIC, "SOLVER.MAX_ITER": 1}), log_period=1)
    assert {"loss_mask", "loss_sem_seg"} <= set(rows(tmp_path)[0])


def test_the_best_model_is_kept(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([10.0, 30.0, None, 20.0, 30.0, 29.0])
    monkeypatch.setattr(trainer, "evaluate_all", lambda *_, **__: {"bbox/AP": next(scores), "bbox/AP50": 1.0})
    _, outcome = run(pictures, tmp_path, small_config({"TEST.EVAL_PERIOD": 1}), validate=True)
    assert outcome.metrics == {"bbox/AP": 29.0, "bbox/AP50": 1.0}
    metadata = read_safetensors_metadata(tmp_path / "best.safetensors")
    assert metadata["iteration"] == "2"
    assert json.loads(metadata["metrics"]) == {"bbox/AP": 30.0, "bbox/AP50": 1.0}


def test_with_an_average_this_is_what_is_evaluated_and_kept(pictures: Path, tmp_path: Path) -> None:
    model, _ = run(pictures, tmp_path, small_config(EVERYTHING), validate=True, ema_decay=0.5)
    state, last = (read_state_dict(tmp_path / f"{name}.safetensors") for name in ("state", "last"))
    for key, value in model.state_dict().items():
        assert torch.equal(state[f"model/{key}"], value)
        assert torch.equal(state[f"ema/{key}"], last[key])
    assert not torch.equal(
        last["roi_heads.box_head.fc1.weight"], state["model/roi_heads.box_head.fc1.weight"]
    )


@pytest.fixture
def started(pictures: Path, tmp_path: Path) -> dict[str, bytes]:
    """A run of two iterations in `tmp_path`, and its checkpoints."""
    run(pictures, tmp_path, small_config({"SOLVER.MAX_ITER": 2}))
    return {path.name: path.read_bytes() for path in tmp_path.glob("*.safetensors")}


@pytest.mark.parametrize("what", ["loss", "proposals"])
def test_losses_that_are_not_finite_end_the_run_with_names_and_leave_checkpoints_alone(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: dict[str, bytes], what: str
) -> None:
    build = trainer.distribute

    def broken(model: Any, world: World) -> Any:
        layer = "roi_heads.box_predictor.bbox_pred" if what == "loss" else "proposal_generator.rpn_head.conv"
        infinite = lambda _, __, output: output * float("inf")  # noqa: E731
        model.get_submodule(layer).register_forward_hook(infinite)
        return build(model, world)

    monkeypatch.setattr(trainer, "distribute", broken)
    with pytest.raises(TrainingError) as caught:
        run(pictures, tmp_path, small_config(), resume=True)
    message = str(caught.value)
    assert "iteration 2" in message
    assert "pictures" in message
    if what == "loss":
        assert "loss_box_reg nan" in message or "loss_box_reg inf" in message
    # An id alone may stand for several pictures: data sets are trained on together.
    names = [f"{sample.image_id} ({pictures / f'{sample.image_id}.png'})" for sample in third_batch(pictures)]
    assert str(names) in message
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.safetensors")} == started


def third_batch(pictures: Path) -> Any:
    config = small_config()
    return next(iter(build_training_loader(config, small_data(pictures, config), 5, first_iteration=2)))


@pytest.mark.parametrize("spoilt", [0, -1])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
def test_a_weight_that_a_step_breaks_ends_the_run_at_once_with_names_and_leaves_checkpoints_alone(
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    started: dict[str, bytes],
    spoilt: int,
    value: float,
) -> None:
    def spoil(parameters: list[torch.Tensor], _: object) -> None:
        gradient = parameters[spoilt].grad
        assert gradient is not None
        gradient.fill_(value)  # the largest of these is finite, and its step is not

    monkeypatch.setattr(trainer, "clip_gradients", spoil)
    changes = {"SOLVER.CHECKPOINT_PERIOD": 5, "SOLVER.BASE_LR": 1e3, "SOLVER.WARMUP_ITERS": 0}
    with pytest.raises(TrainingError, match=r"iteration 2: .* holds NaN") as caught:
        run(pictures, tmp_path, small_config(changes), resume=True)
    names = [f"{sample.image_id} ({pictures / f'{sample.image_id}.png'})" for sample in third_batch(pictures)]
    assert str(names) in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.safetensors")} == started


def test_broken_statistics_are_never_saved(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: dict[str, bytes]
) -> None:
    step = trainer.set_learning_rate

    def spoil(optimizer: torch.optim.Optimizer, factor: float) -> None:
        step(optimizer, factor)
        model.backbone.bottom_up.res4[0].conv1.norm.running_var[1] = float("inf")

    config = small_config({"SOLVER.MAX_ITER": 3})
    data = small_data(pictures, config)
    model = small_model(config, data)
    monkeypatch.setattr(trainer, "set_learning_rate", spoil)
    with pytest.raises(TrainingError, match=r"iteration 3: .*running_var holds NaN"):
        trainer.train(model, data, {}, Options(tmp_path, resume=True), World())
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.safetensors")} == started


def test_offsets_that_are_not_finite_end_the_run_with_names_before_the_operator(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config({"MODEL.RESNETS.DEFORM_ON_PER_STAGE": (False, False, True, True)})
    data = small_data(pictures, config)
    model = small_model(config, data)
    broken = model.backbone.bottom_up.res4[0].conv2_offset
    broken.register_forward_hook(lambda _, __, output: output * float("nan"))
    monkeypatch.setattr("resnest_zoo.ops.operators.deform_conv2d", None)  # which must not be called
    with pytest.raises(TrainingError, match=r"iteration 0, pictures \['\d .*res4\.0\.conv2.*: its offsets"):
        trainer.train(model, data, {}, Options(tmp_path), World())
    assert not list(tmp_path.glob("*.safetensors"))


def late_picture(pictures: Path) -> int:
    """The id of a picture that the first batch does not hold."""
    config = small_config()
    loader = build_training_loader(config, small_data(pictures, config), 5)
    early, late = ({sample.image_id for sample in next(loader)} for _ in range(2))
    return min(int(image_id) for image_id in late - early)


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_picture_that_cannot_be_read_ends_the_run_in_one_line_with_everything_saved(
    tmp_path: Path, workers: int
) -> None:
    write_pictures(tmp_path / "set", 4)
    broken = tmp_path / "set" / f"{late_picture(tmp_path / 'set')}.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    config = small_config({"SOLVER.MAX_ITER": 3, "DATALOADER.NUM_WORKERS": workers})
    with pytest.raises(
        TrainingError, match=r"iteration 1: picture .* cannot be read.* --resume goes"
    ) as caught:
        run(tmp_path / "set", tmp_path / "out", config)
    assert str(broken) in str(caught.value)
    assert "\n" not in str(caught.value)
    broken.write_bytes(whole)
    _, outcome = run(tmp_path / "set", tmp_path / "out", config, resume=True)
    assert outcome.iteration == 3
    run(tmp_path / "set", tmp_path / "unbroken", config)
    one, other = ((tmp_path / name / "state.safetensors").read_bytes() for name in ("out", "unbroken"))
    assert one == other


def test_a_worker_that_the_system_ends_is_named_after_everything_was_saved(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Recorder.step

    def kill(self: Recorder, done: int, *values: Any) -> None:
        if done == 2:
            (worker,) = multiprocessing.active_children()
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
        step(self, done, *values)

    config = small_config({"SOLVER.MAX_ITER": 4, "DATALOADER.NUM_WORKERS": 1})
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "step", kill)
        ended = r"\(pid \d+\) was ended by SIGKILL.*; iteration (2|3|4) is saved in .*, --resume goes on$"
        with pytest.raises(TrainingError, match=ended) as caught:
            run(pictures, tmp_path / "out", config)
    assert "\n" not in str(caught.value)
    run(pictures, tmp_path / "out", config, resume=True)
    run(pictures, tmp_path / "unbroken", config)
    one, other = ((tmp_path / name / "state.safetensors").read_bytes() for name in ("out", "unbroken"))
    assert one == other


def test_a_second_ctrl_c_ends_at_once(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Recorder.step

    def twice(self: Recorder, *values: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        step(self, *values)

    monkeypatch.setattr(Recorder, "step", twice)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(pictures, tmp_path, small_config())
    assert signal.getsignal(signal.SIGINT) is before


def test_a_complete_run_that_is_resumed_does_nothing(
    pictures: Path, tmp_path: Path, started: dict[str, bytes]
) -> None:
    _, outcome = run(pictures, tmp_path, small_config({"SOLVER.MAX_ITER": 2}), resume=True)
    assert outcome.iteration == 2
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.safetensors")} == started


def test_a_batch_of_one_picture_is_refused_where_norms_could_not_work(pictures: Path, tmp_path: Path) -> None:
    single = {"SOLVER.IMS_PER_BATCH": 1, "SOLVER.MAX_ITER": 1}
    with pytest.raises(ConfigError, match=r"need at least two pictures at once; .* FrozenBN"):
        run(pictures, tmp_path, small_config(single))
    run(pictures, tmp_path, small_config({**single, "MODEL.RESNETS.NORM": "FrozenBN"}))


def test_frozen_stages_stay_as_they_were(pictures: Path, tmp_path: Path) -> None:
    config = small_config({"MODEL.BACKBONE.FREEZE_AT": 3})
    before = small_model(config, small_data(pictures, config)).state_dict()
    model, _ = run(pictures, tmp_path, config)
    for key, value in model.state_dict().items():
        frozen = key.startswith(tuple(f"backbone.bottom_up.{name}." for name in ("stem", "res2", "res3")))
        if frozen:
            assert torch.equal(value, before[key]), key
    assert not torch.equal(
        model.backbone.bottom_up.res4[0].conv1.weight, before["backbone.bottom_up.res4.0.conv1.weight"]
    )


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "bfloat16"},
        pytest.param({"precision": "float16"}, marks=pytest.mark.slow),
        {"channels_last": True},
    ],
)
def test_faster_arithmetic_gives_nearly_the_same_losses(
    pictures: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    config = small_config({**MASKS, "SOLVER.MAX_ITER": 2})
    run(pictures, tmp_path / "plain", config, log_period=1)
    model, _ = run(pictures, tmp_path / "fast", config, log_period=1, **options)
    assert next(model.parameters()).dtype == torch.float32
    one, other = rows(tmp_path / "plain")[0], rows(tmp_path / "fast")[0]
    assert other["loss"] == pytest.approx(one["loss"], rel=1e-5 if "channels_last" in options else 0.05)
    if "precision" in options:
        assert other["loss"] != one["loss"]


def test_scaled_losses_are_resumed_with_their_scale(pictures: Path, tmp_path: Path) -> None:
    config = small_config({"SOLVER.MAX_ITER": 2})
    run(pictures, tmp_path, config, precision="float16")
    content = json.loads(read_safetensors_metadata(tmp_path / "state.safetensors")["training"])
    assert content["scaler"]["scale"] >= 1
    run(pictures, tmp_path, small_config({"SOLVER.MAX_ITER": 3}), precision="float16", resume=True)


def test_the_options_default_to_plain_training() -> None:
    assert Options(Path("out")) == Options(Path("out"), "", "float32", False, 0.0, 20, False)
