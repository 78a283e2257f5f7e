"""What is in a key: all that changes a result, nothing else; for every field of every config."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inpaint_inputs import make_ceramic
from PIL import Image

from exdd_ray.banks.config import CoresetConfig
from exdd_ray.banks.memory_bank import Points, make_bank
from exdd_ray.banks.vectors import VectorBlocks
from exdd_ray.config.base import identity, without
from exdd_ray.config.keys import list_keys
from exdd_ray.data.catalog import build_catalog, catalog_rows
from exdd_ray.experiment.assign import assign
from exdd_ray.experiment.backend import Backend
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.load import apply_changes
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.stored import trial_recipe
from exdd_ray.features.backbone import weights_file
from exdd_ray.features.slices import plan_slices
from exdd_ray.methods.table import methods
from exdd_ray.progress import silent
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.config import SynthesizerConfig
from exdd_ray.synthesizers.dualanodiff.config import DualConfig
from exdd_ray.synthesizers.inpaint.config import InpaintConfig
from exdd_ray.synthesizers.lora.config import LoraConfig
from exdd_ray.synthesizers.painting.config import MaskConfig
from exdd_ray.synthesizers.per_region.config import PerRegionConfig
from exdd_ray.synthesizers.plan import plan_chunks
from exdd_ray.synthesizers.table import synthesizers
from exdd_ray.training.config import TrainConfig
from exdd_ray.training.stored import training_recipe

DUAL = {"kind": "patch_bank", "system": "exdd"}
MERGED = {**DUAL, "bank": {"negative": {"method": "merge_reduce"}, "positive": {"method": "merge_reduce"}}}
VIT = {
    "backbone": "timm/vit_tiny_patch16_224",
    "final_norm": True,
    "unit_length": True,
    "foreground": True,
    "layers_apart": True,
    "tiles": {"size": 112},
    "pad": True,
}
CLASSIFIER = {"kind": "classifier"}
DIFFUSION = {"kind": "diffusionad", "preset": "released"}
INPAINT = {"kind": "inpaint"}
GROUND = {"kind": "threshold"}
MIXTURE = {"kind": "mixture", "parts": [{"synthesizer": {"kind": "per_region"}}]}

# experiments in which every key is used in one or another
EXPERIMENTS: list[dict[str, Any]] = [
    {"detector": {**MERGED, "preset": "best"}, "synthesizer": {"kind": "per_region", "foreground": GROUND}},
    {"detector": {**MERGED, "preset": "paper"}, "synthesizer": {"kind": "cutpaste", "foreground": GROUND}},
    {"detector": {"kind": "patch_bank", "system": "patchcore", "preset": "paper"}},
    {"detector": {"kind": "patch_bank", "scoring": {"fusion": "bonus"}}},
    {"detector": {"system": "patchcore", "features": VIT, "scoring": {"neighbours": 0, "top": 0.01}}},
    {"detector": {"system": "patchcore", "bank": {"rotations": [90]}}},
    {"detector": CLASSIFIER, "synthesizer": {"kind": "pasted", "blend": "feathered"}},
    {"detector": CLASSIFIER, "synthesizer": {**INPAINT, "crop_padding": None, "masks": {"foreground": GROUND}}},
    {"detector": CLASSIFIER, "synthesizer": {**INPAINT, "run": {"memory": "slicing"}}},
    {"detector": CLASSIFIER, "synthesizer": MIXTURE},
    {"detector": {**DIFFUSION, "anomalies": {"foreground": GROUND}}},
    {"detector": CLASSIFIER, "synthesizer": {"kind": "lora", "tuning": {"prior_weight": 1.0}}},
    {"detector": CLASSIFIER, "synthesizer": {"kind": "dualanodiff", "tuning": {"background": {"closing": 1}}}},
    {"detector": {"kind": "diffusionad", "inference": {"mode": "ddim"}, "steps": 10}},
    {"detector": {"kind": "localiser"}, "dataset": {"split": {"draw": "first_third"}}},
    {"detector": {"kind": "supersimplenet"}},
]

# Keys that are in no trial's key, and why.
OUTSIDE = {
    # found by them, known one by one
    "dataset.root", "dataset.category", "dataset.weak_labels",
    "dataset.procedural.size", "dataset.procedural.materials", "dataset.procedural.kinds",
    "dataset.procedural.normal_train", "dataset.procedural.normal_test", "dataset.procedural.defects_per_kind",
    "dataset.procedural.seed",
    # known by content
    "detector.features.weights", "detector.anomalies.textures", "synthesizer.textures", "synthesizer.masks.folder",
    "synthesizer.model", "synthesizer.revision", "synthesizer.variant", "synthesizer.adapter",
    "detector.anomalies.foreground.model", "synthesizer.foreground.model", "synthesizer.masks.foreground.model",
    "synthesizer.tuning.background.foreground.model", "synthesizer.mask.model",
    # time and memory alone
    "detector.search.precision", "detector.search.memory_mib", "detector.training.checkpoint_every",
    "detector.training.cpus", "detector.training.gpus",
    "synthesizer.run.batch", "synthesizer.run.gpus",
    "synthesizer.tuning.gradient_checkpointing", "synthesizer.tuning.training.checkpoint_every",
    "synthesizer.tuning.training.cpus", "synthesizer.tuning.training.gpus",
    # named as what they come to: where, and in which precision, it is computed
    "detector.training.device", "synthesizer.run.device", "synthesizer.run.precision",
    "synthesizer.tuning.training.device",
    # fill other values
    "detector.system", "detector.scale",
}  # fmt: skip


def dotted(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict):
            yield from dotted(value, f"{prefix}{name}.")


def test_every_key_of_an_experiment_is_in_or_is_listed_here():
    known = {key.path for key in list_keys(ExperimentConfig)}
    defaults = [{"detector": CLASSIFIER, "synthesizer": {"kind": kind}} for kind in synthesizers() if kind != "mixture"]
    defaults += [{"detector": {"kind": kind}} for kind in methods()]
    inside = {key for raw in EXPERIMENTS + defaults for key in dotted(identity(ExperimentConfig.model_validate(raw)))}
    assert known >= OUTSIDE
    assert {key for key in known if key not in inside} == OUTSIDE


def test_parts_of_a_mixture_are_in_a_key_as_they_are_alone():
    alone = PerRegionConfig(textures="somewhere")
    mixture = synthesizers()["mixture"].config(parts=[{"synthesizer": alone}, {"share": 2, "synthesizer": INPAINT}])
    first, second = identity(mixture)["parts"]
    assert "textures" not in first["synthesizer"]
    assert first["synthesizer"] == without(identity(alone), "count")
    assert second == {"share": 2, "synthesizer": without(identity(InpaintConfig()), "count")}


@pytest.mark.parametrize(
    ("detector", "unused"),
    [
        (
            {"system": "patchcore"},
            "positives evidence scoring.epsilon scoring.pairing scoring.bonus scoring.calibration scoring.scale"
            " scoring.own_term bank.negative.chunk",
        ),
        ({"preset": "paper"}, "evidence positives.purify scoring.squared scoring.bonus scoring.calibration"),
        (
            {"preset": "best"},
            "positives.padding positives.contours positives.min_area positives.crop_size scoring.epsilon"
            " scoring.pairing scoring.neighbours scoring.squared scoring.bonus",
        ),
        ({"bank": {"negative": {"method": "random"}}}, "bank.negative.projection bank.negative.chunk"),
        ({"kind": "classifier", "preset": "diag"}, "holdout training.validate_every features.aggregator"),
        (
            {"kind": "diffusionad", "checkpoint": "last", "steps": 5},
            "held_out epochs validate_epochs training.validate_every inference.ddim_steps",
        ),
        ({"kind": "localiser", "checkpoint": "last"}, "scale holdout validate_epochs training.validate_every"),
    ],
)
def test_what_a_detector_does_not_use_is_outside(detector, unused):
    kept = set(dotted(identity(ExperimentConfig.model_validate({"detector": detector}))["detector"]))
    assert kept.isdisjoint(unused.split())


def test_a_synthesizer_that_is_not_used_is_outside():
    single = {"detector": {"system": "patchcore"}}
    both = [identity(ExperimentConfig.model_validate({**single, **more})) for more in ({}, {"synthesizer": INPAINT})]
    assert both[0].get("synthesizer") == both[1].get("synthesizer") is None


# trials


@pytest.fixture
def base(tmp_path) -> dict[str, Any]:
    made = {"size": [64, 64], "materials": ["wood"], "normal_train": 6, "normal_test": 3, "defects_per_kind": 2}
    return {
        "dataset": {"procedural": {**made, "kinds": ["hole", "stain"]}, "split": {"defects": 2}},
        "synthesizer": {"kind": "per_region", "count": 3},
        "detector": {"system": "exdd", "features": {"resize": [64, 64]}},
    }


def trial_key(raw: dict[str, Any], folder: Path, device: str | None = None, **session: Any) -> str:
    shop = Session(Store(folder / "store"), backend=Backend(device=device), **session)
    config = ExperimentConfig.model_validate(raw)
    (universe,) = shop.categories(config.dataset).values()
    return trial_recipe(config, universe, assign(config, universe).train, shop).key


@pytest.mark.parametrize(
    "change",
    [
        {"detector.search.memory_mib": 3},
        {"detector.search.precision": "bfloat16"},
        {"detector.positives.crop_size": [32, 32]},
        {"detector.positives.padding": 5},
        {"detector.scoring.epsilon": 0.5},
        {"dataset.category": "wood"},
    ],
)
def test_what_changes_no_number_leaves_a_trials_key(base, tmp_path, change):
    assert trial_key(apply_changes(base, change), tmp_path) == trial_key(base, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"detector.search.index": "flat"},
        {"detector.positives.purify": 0.5},
        {"detector.scoring.calibration": 5},
        {"dataset.max_unreadable": 0.5},
        {"evaluation.fpr_limit": 0.1},
        {"synthesizer.count": 4},
        {"synthesizer.filters": None},
        {"seed": 1},
    ],
)
def test_what_changes_a_number_changes_a_trials_key(base, tmp_path, change):
    assert trial_key(apply_changes(base, change), tmp_path) != trial_key(base, tmp_path)


def test_weights_are_known_by_what_is_in_them(base, tmp_path):
    keys = set()
    for name in ("one", "two"):
        copy = tmp_path / f"{name}.safetensors"
        shutil.copy(weights_file(ExperimentConfig.model_validate(base).detector.features), copy)
        keys.add(trial_key(apply_changes(base, {"detector.features.weights": copy}), tmp_path))
    assert keys == {trial_key(base, tmp_path)}


def test_a_trial_names_the_device_that_its_stages_name(base, tmp_path, monkeypatch):
    trained = apply_changes(base, {"detector": {"kind": "classifier", "features": {"resize": [64, 64]}}})
    here = trial_key(trained, tmp_path)
    assert trial_key(apply_changes(trained, {"detector.training.device": "cpu"}), tmp_path) == here
    on_cuda = trial_key(apply_changes(trained, {"detector.training.device": "cuda"}), tmp_path)
    assert on_cuda != here
    assert trial_key(trained, tmp_path, device="cuda") == on_cuda
    assert trial_key(base, tmp_path, device="cuda") != trial_key(base, tmp_path)


def test_a_trial_names_the_device_that_its_samples_are_painted_on(base, tmp_path):
    """By a cluster that this process plans for, as the worker does that the trial runs on."""
    painted = apply_changes(base, {"synthesizer": {"kind": "inpaint", "count": 3}})
    painted["detector"] = {"kind": "classifier", "features": {"resize": [64, 64]}, "training": {"device": "cpu"}}
    there = trial_key(painted, tmp_path, device="cuda")
    assert there != trial_key(painted, tmp_path)
    assert there == trial_key(apply_changes(painted, {"synthesizer.run.device": "cuda"}), tmp_path)


def test_what_is_random_is_served_within_a_run_alone(base, tmp_path):
    raw = {"dataset": base["dataset"], "detector": {"kind": "diffusionad", "scale": "small"}}
    assert trial_key(raw, tmp_path, token="a") == trial_key(raw, tmp_path, token="b")
    drawn = apply_changes(raw, {"detector.inference.noise": "random"})
    assert trial_key(drawn, tmp_path) != trial_key(drawn, tmp_path)
    assert trial_key(drawn, tmp_path, token="a") == trial_key(drawn, tmp_path, token="a")


# chunks


@pytest.fixture
def catalogs(tmp_path):
    normal = make_ceramic(tmp_path)
    mask = tmp_path / "mask.png"
    Image.new("L", (64, 64), 90).save(mask)
    positives = [replace(row, id=f"p{i}", label=1, mask=str(mask)) for i, row in enumerate(catalog_rows(normal))]
    return normal, positives


def chunk_key(config, catalogs, **changes: Any) -> str:
    normal, positives = catalogs
    return plan_chunks(config, normal, build_catalog([replace(row, **changes) for row in positives]), 0)[0].recipe.key


def test_the_threshold_of_masks_is_part_of_what_is_painted_in_them(catalogs):
    config = InpaintConfig(masks=MaskConfig(source="positives"))
    assert chunk_key(config, catalogs, mask_threshold=0) != chunk_key(config, catalogs, mask_threshold=80)
    drawn = InpaintConfig()
    assert chunk_key(drawn, catalogs, mask_threshold=0) == chunk_key(drawn, catalogs, mask_threshold=80)


@pytest.mark.parametrize(
    ("change", "pixels"),
    [
        ({"run": {"memory": "slicing"}}, True),
        ({"run": {"compile": True}}, True),
        ({"run": {"precision": "bfloat16"}}, True),
        ({"variant": "fp16"}, True),
        ({"steps": 5}, True),
        ({"run": {"batch": 3, "gpus": 0.5}}, False),
        ({"run": {"device": "cpu"}}, False),
        ({"run": {"precision": "float32"}}, False),
        ({"masks": {"foreground": {"level": 3}}}, False),
        ({"composite": False}, False),
        ({"count": 3, "filters": None}, False),
    ],
)
def test_all_that_changes_a_pixel_is_in_a_chunks_key(catalogs, change, pixels):
    assert (chunk_key(InpaintConfig.model_validate(change), catalogs) != chunk_key(InpaintConfig(), catalogs)) == pixels


def test_textures_are_known_by_what_is_in_them(catalogs, tmp_path):
    keys = []
    for name, level in (("one", 9), ("two", 9), ("three", 10)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (32, 32), (level, 0, 0)).save(tmp_path / name / "a.png")
        keys.append(chunk_key(PerRegionConfig(textures=tmp_path / name), catalogs))
    assert keys[0] == keys[1] != keys[2]
    assert chunk_key(PerRegionConfig(), catalogs) not in keys


def segmented(model: Path) -> list[SynthesizerConfig]:
    """Every place of a segmentation model in a chunk's config."""
    ground = {"kind": "model", "model": model}
    return [
        PerRegionConfig.model_validate({"foreground": ground}),
        InpaintConfig.model_validate({"masks": {"foreground": ground}}),
        LoraConfig.model_validate({"tuning": {"images": "normal"}, "masks": {"foreground": ground}}),
        DualConfig.model_validate({"mask": {"model": model}}),
        DualConfig.model_validate({"tuning": {"background": {"foreground": ground}}}),
    ]


def test_segmentation_models_are_known_by_what_is_in_them(catalogs, tmp_path):
    """Which they are is asked when a sample is made, so any bytes do here."""
    (tmp_path / "folder").mkdir()
    files = [tmp_path / "one.pt2", tmp_path / "folder" / "two.pt2", tmp_path / "three.pt2"]
    for file, data in zip(files, (b"a", b"a", b"b"), strict=True):
        file.write_bytes(data)
    keys = [[chunk_key(config, catalogs) for config in segmented(file)] for file in files]
    assert keys[0] == keys[1]
    assert not set(keys[0]) & set(keys[2])
    bare = [PerRegionConfig(), InpaintConfig(), DualConfig()]
    assert not {chunk_key(config, catalogs) for config in bare} & {key for each in keys for key in each}


def test_what_is_learnt_is_named_by_the_segmentation_model_that_it_is_learnt_with(catalogs, tmp_path):
    file = tmp_path / "model.pt2"
    trainings: list[list[str]] = []
    for data in (b"a", b"b"):
        file.write_bytes(data)
        jobs = [plan_chunks(config, catalogs[0], build_catalog(catalogs[1]), 0)[0] for config in segmented(file)[2:]]
        trainings.append([job.training.key for job in jobs if job.training is not None])
    (lora, whole, background), (other_lora, same, other_background) = trainings
    assert lora != other_lora
    assert whole == same  # the mask of a pair is cut when it is painted
    assert background != other_background


def test_a_trial_names_the_segmentation_model_of_its_detector(base, tmp_path):
    file = tmp_path / "model.pt2"
    ground = {"kind": "model", "model": str(file)}
    raw = {"dataset": base["dataset"], "detector": {**DIFFUSION, "anomalies": {"foreground": ground}}}
    keys = set()
    for data in (b"a", b"b"):
        file.write_bytes(data)
        keys.add(trial_key(raw, tmp_path, token="a"))
    assert len(keys) == 2


# detectors


def test_an_embedding_is_named_without_the_place_of_its_weights(catalogs, tmp_path):
    features = ExperimentConfig().detector.features
    copy = tmp_path / "copy.safetensors"
    shutil.copy(weights_file(features), copy)
    moved = features.model_copy(update={"weights": copy})
    assert plan_slices(catalogs[0], moved)[0].recipe.key == plan_slices(catalogs[0], features)[0].recipe.key


def test_a_training_is_named_without_what_does_not_change_it():
    plain = training_recipe(TrainConfig())
    assert training_recipe(TrainConfig(checkpoint_every=7, device="cpu")) == plain
    for change in ({"micro_batch": 2}, {"workers": 2}, {"ema": 0.9}, {"precision": "bfloat16"}):
        assert training_recipe(TrainConfig.model_validate(change)) != plain


def test_a_bank_is_named_by_what_its_method_uses(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    points = Points(lambda: VectorBlocks([vectors]), 50, ("key",), "features", "normal")

    def key(**how: Any) -> str:
        return make_bank(points, CoresetConfig(rate=0.2, **how), 0, Store(tmp_path), silent).key

    assert key(chunk=7) == key() != key(projection=4)
    assert key(method="random", projection=4) == key(method="random")
    assert key(method="merge_reduce", chunk=7) != key(method="merge_reduce")
    assert key(minimum=3) == key()
