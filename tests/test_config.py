"""The config: facts of the 21 published models, detectron2's file format, and refusals."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml

from resnest_zoo.config import Config, load_config, parse_config, resolve_path
from resnest_zoo.config.differences import FIXED, IGNORED, OWN
from resnest_zoo.config.schema import KEYS
from resnest_zoo.errors import ConfigError
from resnest_zoo.registry import SHIPPED, info

# Every key of detectron2 with its default, and what each published model sets, by the config's name.
FACTS = json.loads((Path(__file__).parent / "golden" / "configs.json").read_text())
BASE = "Base-RCNN-FPN.yaml"
RESNEST = "COCO-Detection/faster_rcnn_ResNeSt_50_FPN_syncbn_range-scale_1x.yaml"
CASCADE = "COCO-InstanceSegmentation/mask_cascade_rcnn_R_50_FPN_syncbn_1x.yaml"
PANOPTIC = "COCO-PanopticSegmentation/panoptic_ResNeSt_200_FPN_syncBN_tricks_3x.yaml"
IMPLIED_BY_RADIX = {"MODEL.RESNETS.DEEP_STEM", "MODEL.RESNETS.AVD", "MODEL.RESNETS.AVG_DOWN"}

# What a complete dump of detectron2 holds beyond FACTS.
REST_OF_A_DUMP = {
    "VERSION": 2,
    "MODEL.LOAD_PROPOSALS": False,
    "MODEL.KEYPOINT_ON": False,
    "MODEL.RETINANET.NUM_CLASSES": 80,
    "MODEL.RETINANET.IN_FEATURES": ["p3", "p4", "p5", "p6", "p7"],
    "MODEL.ROI_KEYPOINT_HEAD.NAME": "KRCNNConvDeconvUpsampleHead",
    "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS": [512] * 8,
    "DATASETS.TRAIN": ["coco_2017_train"],
    "DATASETS.TEST": ["coco_2017_val"],
    "DATASETS.PROPOSAL_FILES_TRAIN": [],
    "DATASETS.PROPOSAL_FILES_TEST": [],
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN": 2000,
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST": 1000,
    "TEST.KEYPOINT_OKS_SIGMAS": [],
    "CUDNN_BENCHMARK": False,
    "FLOAT32_PRECISION": "",
    "VIS_PERIOD": 0,
    "GLOBAL.HACK": 1.0,
}


def value_of(config: Config, key: str) -> Any:
    """The value under a full key, with lists for tuples as JSON has them."""
    section: Any = config.to_dict()
    for name in key.split("."):
        section = section[name]
    return section


def nest(flat: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, name = key.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return tree


def write(folder: Path, text: str, name: str = "model.yaml") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def on_base(folder: Path, text: str) -> Path:
    return write(folder, f"_BASE_: {resolve_path(BASE)}\n{text}")


# --- the published models -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", FACTS["models"])
def test_published_config_holds_exactly_the_published_values(name: str) -> None:
    config = load_config(name)
    expected = {**FACTS["defaults"], **FACTS["models"][name]}
    if config.model.resnets.radix > 1:
        expected |= dict.fromkeys(IMPLIED_BY_RADIX, True)
    keys = KEYS.typed.keys() - OWN
    assert {key: value_of(config, key) for key in keys} == {key: expected[key] for key in keys}


def test_every_key_a_published_model_sets_is_typed() -> None:
    assert {key for changes in FACTS["models"].values() for key in changes} <= set(KEYS.typed)


def test_every_packaged_file_loads_and_is_a_model_or_a_base() -> None:
    root = resolve_path(BASE).parent
    names = {file.relative_to(root).as_posix() for file in root.rglob("*.yaml")}
    shipped = {info(name).config for name in SHIPPED}
    theirs = {name for name in names if name.startswith("MMDetection/")}
    assert {name for name in names - theirs if not name.startswith("Base-")} == set(FACTS["models"]) | shipped
    assert len(theirs) == 8 + 4 * 2  # the published ones; four methods in two styles
    for name in names:
        load_config(name)


def test_defaults_are_those_of_detectron2() -> None:
    expected = {**FACTS["defaults"], "DATASETS.TRAIN": [], "DATASETS.TEST": []}
    keys = KEYS.typed.keys() - OWN
    assert {key: value_of(Config(), key) for key in keys} == {key: expected[key] for key in keys}
    assert KEYS.typed.keys() >= OWN
    assert not OWN & FACTS["defaults"].keys()


def test_every_key_of_detectron2_is_typed_or_fixed_or_ignored_and_never_two_of_them() -> None:
    for key in {**FACTS["defaults"], **REST_OF_A_DUMP}:
        ignored = any(key == name or key.startswith(f"{name}.") for name in IGNORED)
        assert (key in KEYS.typed) + (key in FIXED) + ignored == 1, key


def test_radix_above_one_implies_the_parts_of_resnest() -> None:
    resnets = load_config(RESNEST).model.resnets
    assert (resnets.radix, resnets.deep_stem, resnets.avd, resnets.avg_down) == (2, True, True, True)
    assert not load_config(BASE).model.resnets.deep_stem


def test_values_are_frozen_and_sequences_are_tuples() -> None:
    config = load_config(RESNEST)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.model.mask_on = True  # type: ignore[misc]
    assert config.input.min_size_train == (640, 800)
    assert config.model.anchor_generator.sizes == ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,))
    assert hash(config) == hash(load_config(RESNEST))


def test_importing_the_config_does_not_import_torch() -> None:
    code = "import sys, resnest_zoo.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- files --------------------------------------------------------------------------------------------


def test_packaged_config_wins_over_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "MODEL: {}", BASE)
    monkeypatch.chdir(tmp_path)
    assert load_config(BASE) == load_config(resolve_path(BASE))
    assert "absolute path" in caplog.text
    with pytest.raises(ConfigError, match="no detector can be built"):
        load_config(tmp_path / BASE)


def test_relative_path_of_an_own_file_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_base(tmp_path, "MODEL:\n  ROI_HEADS:\n    NUM_CLASSES: 3\n")
    monkeypatch.chdir(tmp_path)
    assert load_config("model.yaml").model.roi_heads.num_classes == 3


def test_path_upwards_is_an_own_file_even_where_a_packaged_one_stands_in_the_same_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("configs", "work"):
        (tmp_path / folder).mkdir()
    text = f"_BASE_: {resolve_path(BASE)}\nMODEL: {{ROI_HEADS: {{NUM_CLASSES: 3}}}}"
    write(tmp_path / "configs", text, BASE)
    monkeypatch.chdir(tmp_path / "work")
    assert load_config(f"../configs/{BASE}").model.roi_heads.num_classes == 3
    with pytest.raises(ConfigError, match="no packaged config"):
        resolve_path(f"../configs/{BASE}")


def test_base_is_found_beside_the_file_that_names_it_and_yields_to_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    on_base(tmp_path, "SOLVER: {BASE_LR: 0.5, GAMMA: 0.5}")
    child = write(tmp_path / "sub", "_BASE_: ../model.yaml\nSOLVER: {BASE_LR: 0.25}")
    solver = load_config(child).solver
    assert (solver.base_lr, solver.gamma, solver.max_iter) == (0.25, 0.5, 90000)


def test_base_that_leads_back_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "_BASE_: b.yaml", "a.yaml")
    write(tmp_path, "_BASE_: a.yaml", "b.yaml")
    with pytest.raises(ConfigError, match=r"circle: .*a\.yaml -> .*b\.yaml -> .*a\.yaml"):
        load_config(tmp_path / "a.yaml")


@pytest.mark.parametrize("base", ["[a.yaml, b.yaml]", "gone.yaml"])
def test_base_that_is_missing_or_not_one_path_is_refused(tmp_path: Path, base: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.yaml: _BASE_: "):
        load_config(write(tmp_path, f"_BASE_: {base}"))


@pytest.mark.parametrize("load", [load_config, resolve_path])
def test_missing_config_suggests_the_nearest_packaged_one(load: Any) -> None:
    with pytest.raises(ConfigError, match=r"nearest is COCO-Detection/faster_rcnn_R_50_FPN_syncbn"):
        load("COCO-Detection/faster_rcnn_R_50_FPN_syncbn_1x.yaml")


def test_resolve_path_takes_no_absolute_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no packaged config"):
        resolve_path(write(tmp_path, ""))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds nothing"),
        (b"- a\n- b\n", "holds a list"),
        (b"just text", "holds a str"),
        (b"MODEL: [1, 2", "not YAML"),
        (b"MODEL:\n\tMASK_ON: true", "not YAML"),
        (b"\x80\x02}q\x00(X\x05\x00", "not YAML"),
        (b"MODEL: \x00\x01", "not YAML"),
        (b"MODEL: !!bool maybe", "not YAML"),
        (b"? [a]\n: 1", "not YAML"),
        (b"[" * 100_000, "not YAML"),
        (b"MODEL: {MASK_ON: true, MASK_ON: false}", r"repeated keys \['MASK_ON'\]"),
        (b"MODEL: {}\nMODEL: {}", r"repeated keys \['MODEL'\]"),
        (b"MODEL: {RPN: {NMS_THRESH: 1, NMS_THRESH: 1}}", r"repeated keys \['NMS_THRESH'\]"),
        (b"MODEL: &a {RPN: *a}", "unknown key MODEL.RPN.RPN"),
    ],
)
def test_malformed_file_is_one_clear_error(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"(?s)bad\.yaml: .*{message}"):
        load_config(file)


def test_a_merged_key_may_be_set_anew_in_whatever_order_the_mappings_are_read(tmp_path: Path) -> None:
    text = """
      SOLVER: {AMP: &on {ENABLED: true}}
      MODEL: {PANOPTIC_FPN: {COMBINE: &off {<<: *on, ENABLED: false}}}  # read after the shallower AUG
      TEST: {AUG: {<<: *off, MAX_SIZE: 9}}
    """
    config = load_config(on_base(tmp_path, text.replace("\n      ", "\n")))
    assert config.solver.amp.enabled
    assert (config.test.aug.enabled, config.test.aug.max_size) == (False, 9)


def test_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path)


# --- what detectron2 writes ---------------------------------------------------------------------------


def test_complete_dump_of_detectron2_loads(tmp_path: Path) -> None:
    name = "COCO-Detection/faster_rcnn_R_50_FPN_syncbn_range-scale_1x.yaml"
    everything = {**FACTS["defaults"], **REST_OF_A_DUMP, **FACTS["models"][name]}
    assert load_config(write(tmp_path, yaml.safe_dump(nest(everything)))) == load_config(name)


@pytest.mark.parametrize(
    "node", ["detectron2.config.config.CfgNode", "fvcore.common.config.CfgNode", "yacs.config.CfgNode"]
)
def test_cfg_nodes_of_a_dump_are_read_as_mappings(tmp_path: Path, node: str) -> None:
    text = f"""
      SOLVER: !!python/object/new:{node}
        dictitems:
          STEPS: !!python/tuple [10, 20]
          AMP: !!python/object/new:{node}
            dictitems: {{ENABLED: true}}
            state: {{__immutable__: true}}
        state:
          __deprecated_keys__: !!set {{}}
          __immutable__: false
    """
    solver = load_config(on_base(tmp_path, text.replace("\n      ", "\n"))).solver
    assert solver.steps == (10, 20)
    assert solver.amp.enabled


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch {}']",
        "!!python/object/new:os.system ['touch {}']",
        "!!python/object/apply:yacs.config.CfgNode ['{}']",
        "!!python/object/new:yacs.config.CfgNode ['{}']",
        "!!python/name:os.system",
        "!!python/module:os",
        "!Custom {{}}",
    ],
)
def test_other_tags_are_refused_and_nothing_runs(tmp_path: Path, tag: str) -> None:
    trace = tmp_path / "trace"
    with pytest.raises(ConfigError, match="not YAML"):
        load_config(on_base(tmp_path, f"MODEL: {tag.format(trace)}"))
    with pytest.raises(ConfigError):
        load_config(BASE, ["MODEL.MASK_ON", tag.format(trace)])
    assert not trace.exists()


@pytest.mark.parametrize("key", sorted(FIXED))
def test_key_with_one_supported_value_refuses_others(key: str) -> None:
    supported = {**FACTS["defaults"], **REST_OF_A_DUMP}[key]
    base = load_config(BASE)
    assert base.override({key: supported}) == base
    with pytest.raises(ConfigError, match=f"{key}: expected .* builds no other variant"):
        base.override({key: [3, 3]})


def test_key_without_effect_is_dropped_and_an_override_of_it_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert load_config(BASE, ["VIS_PERIOD", "5", "MODEL.RETINANET.NORM", "BN"]) == load_config(BASE)
    assert "VIS_PERIOD has no effect" in caplog.text
    assert "MODEL.RETINANET.NORM has no effect" in caplog.text


@pytest.mark.parametrize("name", [BASE, *FACTS["models"]])
def test_dump_loads_back_as_an_equal_config(tmp_path: Path, name: str) -> None:
    config = load_config(name, ["SOLVER.BASE_LR", "1e-5", "SOLVER.WEIGHT_DECAY_BIAS", "0"])
    text = config.dump()
    assert load_config(write(tmp_path, text)) == config
    tree = config.to_dict()
    for key in OWN:  # at their defaults
        *sections, last = key.split(".")
        del reduce(lambda part, section: part[section], sections, tree)[last]
    assert yaml.safe_load(text) == {"VERSION": 2, **tree}


def test_a_key_that_detectron2_lacks_is_dumped_where_it_is_set(tmp_path: Path) -> None:
    config = load_config("MMDetection/cascade-mask-rcnn_r50_fpn_1x_coco.yaml")
    text = config.dump()
    tree = yaml.safe_load(text)["MODEL"]
    assert tree["BBOX_REG_CLAMP"] == "both"
    assert tree["ROI_BOX_CASCADE_HEAD"]["AVERAGE"] == "logits"
    assert tree["ROI_MASK_HEAD"]["PER_STAGE"] is True
    assert load_config(write(tmp_path, text)) == config


# --- values and overrides -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("INPUT.MIN_SIZE_TRAIN", "(640, 800)", [640, 800]),
        ("INPUT.MIN_SIZE_TRAIN", "[640, 800]", [640, 800]),
        ("INPUT.MIN_SIZE_TRAIN", "(640,)", [640]),
        ("DATASETS.TRAIN", "('mine',)", ["mine"]),
        ("DATASETS.TRAIN", "[mine, yours]", ["mine", "yours"]),
        ("SOLVER.BASE_LR", "1e-4", 0.0001),
        ("SOLVER.BASE_LR", "1", 1.0),
        ("SOLVER.WEIGHT_DECAY_BIAS", "None", None),
        ("SOLVER.WEIGHT_DECAY_BIAS", "null", None),
        ("SOLVER.WEIGHT_DECAY_BIAS", "0.5", 0.5),
        ("MODEL.MASK_ON", "True", True),
        ("MODEL.MASK_ON", "true", True),
        ("MODEL.WEIGHTS", "123", "123"),
        ("MODEL.WEIGHTS", "a: b", "a: b"),
        ("MODEL.FPN.NORM", "", ""),
        ("MODEL.PIXEL_STD", "[1, 2.5, 1e1]", [1.0, 2.5, 10.0]),
    ],
)
def test_override_text_is_read_for_the_type_of_its_key(key: str, text: str, value: object) -> None:
    found = value_of(load_config(BASE, [key, text]), key)
    assert found == value
    assert type(found) is type(value)


def test_exponent_without_a_dot_is_a_number_in_files_too(tmp_path: Path) -> None:
    config = load_config(on_base(tmp_path, "SOLVER: {WEIGHT_DECAY: 1e-4}\nMODEL: {PIXEL_STD: [1e1, 1, 2]}"))
    assert config.solver.weight_decay == 1e-4
    assert config.model.pixel_std == (10.0, 1.0, 2.0)


def test_override_gives_a_new_config_and_the_last_of_a_key_counts() -> None:
    base = load_config(BASE)
    changed = base.override(["SOLVER.GAMMA", "0.2", "SOLVER.GAMMA", "0.3"])
    assert (base.solver.gamma, changed.solver.gamma) == (0.1, 0.3)
    assert base.override({"SOLVER.GAMMA": 0.3, "INPUT.MIN_SIZE_TRAIN": [800]}).input.min_size_train == (800,)
    assert base.override([]) == base


@pytest.mark.parametrize(
    "opts", [["SOLVER.GAMMA"], "SOLVER.GAMMA 0.5", "ab", b"ab", "", 5, None, {"SOLVER.GAMMA", "0.5"}]
)
def test_overrides_that_are_not_pairs_are_refused(opts: Any) -> None:
    for accept in (load_config(BASE).override, lambda opts: load_config(BASE, opts)):
        with pytest.raises(
            ConfigError, match=r"^overrides: expected pairs KEY VALUE in a list, or a mapping"
        ):
            accept(opts)


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        ([5, "1"], "unknown key 5"),
        ({None: "1"}, "unknown key None"),
        ({("SOLVER", "GAMMA"): 1}, "unknown key "),
        ({"SOLVER": {"GAMMA": 0.5}}, r"SOLVER is a section: name one of its keys, such as SOLVER\."),
        ({"MODEL.RPN": 1}, r"MODEL\.RPN is a section: name one of its keys, such as MODEL\.RPN\."),
    ],
)
def test_override_of_something_else_than_a_key_is_refused(opts: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^overrides: {message}"):
        load_config(BASE).override(opts)


def test_load_config_takes_a_mapping_as_override_does() -> None:
    changes = {"SOLVER.GAMMA": 0.3, "INPUT.MIN_SIZE_TRAIN": [800]}
    assert load_config(BASE, changes) == load_config(BASE).override(changes)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("MODEL.RPN.NMS_TRESH", "MODEL.RPN.NMS_THRESH"),
        ("MODEL.WEIGHT", "MODEL.WEIGHTS"),
        ("MODEL.KEYPOINTS_ON", "MODEL.KEYPOINT_ON"),
        ("solver", "SOLVER"),
    ],
)
def test_unknown_key_is_refused_with_the_nearest(tmp_path: Path, key: str, nearest: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"model\.yaml: unknown key {key}; the nearest known key is {nearest}"
    ):
        load_config(write(tmp_path, yaml.safe_dump(nest({key: 1}))))
    with pytest.raises(ConfigError, match=f"overrides: unknown key {key}"):
        load_config(BASE, [key, "1"])


@pytest.mark.parametrize(
    "text", ["POLICY: 1", "MODEL: {5: 1}", "MODEL: {NEW: {}}", "MODEL: {RPN: {NEW: {A: 1}}}"]
)
def test_unknown_section_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="unknown key"):
        load_config(write(tmp_path, text))


@pytest.mark.parametrize("text", ["MODEL: 3", "MODEL:", "MODEL: {RPN: [1]}"])
def test_value_in_place_of_a_section_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"MODEL(\.RPN)?: expected a section"):
        load_config(write(tmp_path, text))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("MODEL.MASK_ON", 1, "True or False"),
        ("MODEL.MASK_ON", "maybe", "True or False"),
        ("MODEL.RESNETS.RADIX", True, "an integer from 1 to 65536"),
        ("MODEL.RESNETS.RADIX", 2.0, "an integer from 1 to 65536"),
        ("MODEL.RESNETS.RADIX", 0, "an integer from 1 to 65536"),
        ("MODEL.RESNETS.DEPTH", 34, "14 or 50 or 101 or 152 or 200 or 269"),
        ("MODEL.RESNETS.NORM", "LN", "'' or 'BN' or 'SyncBN' or 'FrozenBN' or 'GN'"),
        (
            "MODEL.RESNETS.DEFORM_ON_PER_STAGE",
            [True, True, True],
            "a list of length 4, each item True or False",
        ),
        ("MODEL.RESNETS.DEFORM_ON_PER_STAGE", [0, 1, 1, 1], "a list of length 4"),
        ("MODEL.META_ARCHITECTURE", "RetinaNet", "'GeneralizedRCNN' or 'PanopticFPN'"),
        ("MODEL.ROI_HEADS.NAME", "MyHeads", "'StandardROIHeads' or 'CascadeROIHeads'"),
        ("MODEL.ROI_HEADS.NMS_THRESH_TEST", 1.5, "a number from 0 to 1"),
        ("MODEL.ROI_HEADS.NMS_THRESH_TEST", False, "a number from 0 to 1"),
        ("MODEL.ROI_HEADS.NMS_THRESH_TEST", float("nan"), "a number from 0 to 1"),
        ("MODEL.RPN.IOU_LABELS", [0, 2, 1], "a list, each item -1 or 0 or 1"),
        ("MODEL.PIXEL_STD", [1, 0, 1], "a list of length 3, each item a number of at least"),
        ("MODEL.PIXEL_MEAN", 5, "a list of length 3"),
        ("MODEL.BBOX_REG_CLAMP", "shrink", "'growth' or 'both'"),
        ("MODEL.ROI_BOX_CASCADE_HEAD.AVERAGE", "scores", "'probabilities' or 'logits'"),
        ("MODEL.ROI_MASK_HEAD.PER_STAGE", 3, "True or False"),
        ("MODEL.WEIGHTS", None, "a string"),
        ("MODEL.WEIGHTS", 5, "a string"),
        ("MODEL.ANCHOR_GENERATOR.SIZES", [32, 64], "a list, each item a list, each item a number"),
        ("INPUT.FORMAT", "YUV", "'RGB' or 'BGR'"),
        ("INPUT.MIN_SIZE_TRAIN", 800, "a list, each item an integer from 1 to 2147483647"),
        ("INPUT.MIN_SIZE_TRAIN", "(640, 'x')", "a list, each item an integer from 1 to 2147483647"),
        ("INPUT.MIN_SIZE_TRAIN", {640: 800}, "a list"),
        ("DATASETS.TRAIN", "mine", "a list, each item a string"),
        ("SOLVER.BASE_LR", "fast", "a number of at least 0"),
        ("SOLVER.BASE_LR", 10**400, "a number of at least 0"),
        ("SOLVER.BASE_LR", "(" * 100_000, "a number of at least 0"),
        ("SOLVER.WEIGHT_DECAY_BIAS", "x", "a number of at least 0 or None"),
    ],
)
def test_wrong_value_is_refused_with_key_and_expectation(key: str, value: object, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(BASE).override({key: value})
    assert str(caught.value).startswith(f"overrides: {key}: expected ")
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 300


def test_wrong_value_in_a_base_names_the_base_file(tmp_path: Path) -> None:
    write(tmp_path, "SOLVER: {GAMMA: high}", "base.yaml")
    with pytest.raises(
        ConfigError, match=r"base\.yaml: SOLVER\.GAMMA: expected a number of at least 0, got 'high'"
    ):
        load_config(write(tmp_path, "_BASE_: base.yaml"))


# --- rules between keys -------------------------------------------------------------------------------


def test_detectron2s_c4_defaults_are_refused_with_everything_to_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, "MODEL: {MASK_ON: true}"))
    for key in ("BACKBONE.NAME", "ROI_HEADS.NAME", "ROI_BOX_HEAD.NAME", "FPN.IN_FEATURES"):
        assert f"\n  MODEL.{key}: set " in str(caught.value)
    assert "Base-RCNN-FPN.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "changes", "key"),
    [
        (BASE, {"MODEL.ROI_BOX_HEAD.NUM_FC": 0}, "MODEL.ROI_BOX_HEAD.NUM_CONV and NUM_FC"),
        (BASE, {"MODEL.RESNETS.RADIX": 2}, "MODEL.RESNETS.STRIDE_IN_1X1"),
        (BASE, {"MODEL.FPN.IN_FEATURES": ["res2", "res3", "res5"]}, "MODEL.FPN.IN_FEATURES"),
        (BASE, {"MODEL.RESNETS.OUT_FEATURES": ["res4", "res5"]}, "MODEL.RESNETS.OUT_FEATURES"),
        (BASE, {"MODEL.RPN.IN_FEATURES": ["p2", "p7"]}, "MODEL.RPN.IN_FEATURES"),
        (BASE, {"MODEL.ROI_HEADS.IN_FEATURES": []}, "MODEL.ROI_HEADS.IN_FEATURES"),
        (BASE, {"MODEL.RPN.IN_FEATURES": ["p2", "p3"]}, "MODEL.ANCHOR_GENERATOR.SIZES"),
        (BASE, {"MODEL.ANCHOR_GENERATOR.SIZES": []}, "MODEL.ANCHOR_GENERATOR.SIZES"),
        (BASE, {"MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[]]}, "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"),
        (BASE, {"MODEL.RPN.IOU_THRESHOLDS": [0.7, 0.3]}, "MODEL.RPN.IOU_THRESHOLDS"),
        (BASE, {"MODEL.ROI_HEADS.IOU_LABELS": [0, -1, 1]}, "MODEL.ROI_HEADS.IOU_LABELS"),
        (CASCADE, {"MODEL.ROI_BOX_CASCADE_HEAD.IOUS": [0.5, 0.6]}, "MODEL.ROI_BOX_CASCADE_HEAD"),
        (CASCADE, {"MODEL.ROI_HEADS.IOU_THRESHOLDS": [0.4]}, "MODEL.ROI_HEADS.IOU_THRESHOLDS"),
        (
            CASCADE,
            {"MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": False},
            "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG",
        ),
        (BASE, {"MODEL.ROI_MASK_HEAD.PER_STAGE": True}, "MODEL.ROI_MASK_HEAD.PER_STAGE"),
        (PANOPTIC, {"MODEL.SEM_SEG_HEAD.IN_FEATURES": ["res2"]}, "MODEL.SEM_SEG_HEAD.IN_FEATURES"),
        (BASE, {"MODEL.ROI_HEADS.IN_FEATURES": ["p3", "p5"]}, "MODEL.ROI_HEADS.IN_FEATURES"),
        (BASE, {"MODEL.ROI_HEADS.IN_FEATURES": ["p5", "p4"]}, "MODEL.ROI_HEADS.IN_FEATURES"),
        (BASE, {"MODEL.ROI_HEADS.IN_FEATURES": ["p4", "p4"]}, "MODEL.ROI_HEADS.IN_FEATURES"),
        (BASE, {"MODEL.RPN.IN_FEATURES": ["p6", "p5", "p4", "p3", "p2"]}, "MODEL.RPN.IN_FEATURES"),
        (PANOPTIC, {"MODEL.SEM_SEG_HEAD.IN_FEATURES": ["p2", "p2"]}, "MODEL.SEM_SEG_HEAD.IN_FEATURES"),
        (PANOPTIC, {"MODEL.SEM_SEG_HEAD.IN_FEATURES": ["p5", "p6"]}, "MODEL.SEM_SEG_HEAD.IN_FEATURES"),
        (PANOPTIC, {"MODEL.SEM_SEG_HEAD.COMMON_STRIDE": 8}, "MODEL.SEM_SEG_HEAD.COMMON_STRIDE"),
        (PANOPTIC, {"MODEL.SEM_SEG_HEAD.COMMON_STRIDE": 3}, "MODEL.SEM_SEG_HEAD.COMMON_STRIDE"),
        (BASE, {"MODEL.FPN.NORM": "GN", "MODEL.FPN.OUT_CHANNELS": 48}, "MODEL.FPN.OUT_CHANNELS"),
        (
            BASE,
            {"MODEL.RESNETS.NORM": "GN", "MODEL.RESNETS.STEM_OUT_CHANNELS": 8},
            "MODEL.RESNETS.STEM_OUT_CHANNELS",
        ),
        (
            BASE,
            {"MODEL.RESNETS.NORM": "GN", "MODEL.RESNETS.RES2_OUT_CHANNELS": 16},
            "MODEL.RESNETS.RES2_OUT_CHANNELS",
        ),
        (
            BASE,
            {"MODEL.RESNETS.NORM": "GN", "MODEL.RESNETS.WIDTH_PER_GROUP": 16},
            r"MODEL.RESNETS.WIDTH_PER_GROUP \(.*\)",
        ),
        (
            RESNEST,
            {"MODEL.RESNETS.NORM": "GN", "MODEL.RESNETS.RADIX": 3, "MODEL.RESNETS.WIDTH_PER_GROUP": 32},
            r"MODEL.RESNETS.RADIX \(.*\)",
        ),
        (
            BASE,
            {
                "MODEL.ROI_BOX_HEAD.NORM": "GN",
                "MODEL.ROI_BOX_HEAD.NUM_CONV": 1,
                "MODEL.ROI_BOX_HEAD.CONV_DIM": 8,
            },
            "MODEL.ROI_BOX_HEAD.CONV_DIM",
        ),
        (
            PANOPTIC,
            {"MODEL.ROI_MASK_HEAD.NORM": "GN", "MODEL.ROI_MASK_HEAD.CONV_DIM": 8},
            "MODEL.ROI_MASK_HEAD.CONV_DIM",
        ),
        (
            PANOPTIC,
            {"MODEL.SEM_SEG_HEAD.NORM": "GN", "MODEL.SEM_SEG_HEAD.CONVS_DIM": 8},
            "MODEL.SEM_SEG_HEAD.CONVS_DIM",
        ),
        (PANOPTIC, {"MODEL.MASK_ON": False}, "MODEL.MASK_ON"),
        (BASE, {"INPUT.MIN_SIZE_TRAIN": []}, "INPUT.MIN_SIZE_TRAIN"),
        (RESNEST, {"INPUT.MIN_SIZE_TRAIN": [640]}, "INPUT.MIN_SIZE_TRAIN"),
        (RESNEST, {"INPUT.MIN_SIZE_TRAIN": [800, 640]}, "INPUT.MIN_SIZE_TRAIN"),
        (BASE, {"INPUT.CROP.SIZE": [384, 600]}, "INPUT.CROP.SIZE"),
        (BASE, {"INPUT.CROP.TYPE": "absolute"}, "INPUT.CROP.SIZE"),
        (BASE, {"SOLVER.STEPS": [20, 10]}, "SOLVER.STEPS"),
        (BASE, {"SOLVER.BASE_LR_END": 1}, "SOLVER.BASE_LR_END"),
        (BASE, {"TEST.AUG.MIN_SIZES": []}, "TEST.AUG.MIN_SIZES"),
    ],
)
def test_combination_that_cannot_be_built_is_refused(name: str, changes: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^overrides: no detector can be built(?s:.*)\n  {key}: "):
        load_config(name).override(changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"INPUT.CROP.TYPE": "absolute", "INPUT.CROP.SIZE": [384, 600]},
        {"MODEL.ANCHOR_GENERATOR.SIZES": [[32, 64]], "MODEL.RPN.IN_FEATURES": ["p3", "p6"]},
        {"MODEL.RESNETS.RADIX": 2, "MODEL.RESNETS.STRIDE_IN_1X1": False, "MODEL.RESNETS.DEPTH": 14},
        {"MODEL.ROI_HEADS.NAME": "CascadeROIHeads", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True},
        {"SOLVER.STEPS": []},
        {"MODEL.ROI_HEADS.IN_FEATURES": ["p4"]},
        {"MODEL.ROI_HEADS.IN_FEATURES": ["p4", "p5", "p6"]},
        {"MODEL.SEM_SEG_HEAD.CONVS_DIM": 8, "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": 3},  # no such head here
    ],
)
def test_combination_that_can_be_built_is_accepted(changes: dict[str, Any]) -> None:
    load_config(BASE).override(changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"MODEL.SEM_SEG_HEAD.COMMON_STRIDE": 8, "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["p3", "p5"]},
        {"MODEL.SEM_SEG_HEAD.COMMON_STRIDE": 1},
        {"MODEL.RESNETS.NORM": "GN", "MODEL.RESNETS.STEM_OUT_CHANNELS": 8},  # a deep stem has its own widths
        {"MODEL.ROI_BOX_HEAD.NORM": "GN", "MODEL.ROI_BOX_HEAD.CONV_DIM": 8, "MODEL.ROI_BOX_HEAD.NUM_CONV": 0},
    ],
)
def test_combination_that_can_be_built_for_panoptic_is_accepted(changes: dict[str, Any]) -> None:
    load_config(PANOPTIC).override(changes)


# --- keys of training runs ----------------------------------------------------------------------------


def test_output_folder_and_seed_are_keys_of_a_run() -> None:
    config = load_config(BASE, ["OUTPUT_DIR", "out", "SEED", "7"])
    assert (config.output_dir, config.seed) == ("out", 7)
    with pytest.raises(
        ConfigError, match="SEED: expected an integer from -1 to 9223372036854775807, got '-2'"
    ):
        load_config(BASE, ["SEED", "-2"])


def test_a_dump_is_parsed_back_without_a_file() -> None:
    config = load_config(RESNEST, ["SEED", "7"])
    assert parse_config(config.dump(), "best.safetensors") == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1", "x: expected sections such as MODEL, found a list"),
        ("MODEL: {NOPE: 1}", r"x: unknown key MODEL\.NOPE"),
        ("{", "x: not YAML"),
        ("MODEL: {}", "x: "),
    ],
)
def test_text_that_is_no_config_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(text, "x")
