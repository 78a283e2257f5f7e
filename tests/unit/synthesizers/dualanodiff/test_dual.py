"""DualAnoDiff from images to pairs: presets, adapters, kinds, resuming; and what is refused."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from dual_inputs import dual_config, make_text_to_image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from segmentation_inputs import Brighter, LeftHalf, export
from tuning_inputs import cut_off, first_job, make_inputs, tune_for, tuned

from exdd_ray.data.catalog import build_catalog, catalog_rows
from exdd_ray.data.images import read_image
from exdd_ray.data.masks import read_pair
from exdd_ray.errors import ConfigError, DataError, UserError
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.dualanodiff.adapter import FILE
from exdd_ray.synthesizers.dualanodiff.boxes import box_around, drawn_box, learnt_boxes
from exdd_ray.synthesizers.dualanodiff.config import DualConfig
from exdd_ray.synthesizers.dualanodiff.pairs import mask_at, window_around
from exdd_ray.synthesizers.painting.adapter import BASE, BASE_NAME
from exdd_ray.synthesizers.synthesize import synthesize


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def text_to_image(inputs, tmp_path_factory):
    return make_text_to_image(inputs[0], tmp_path_factory.mktemp("model") / "sd")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def artifact(inputs, store):
    model, normal, defects = inputs
    return tuned(dual_config(model), normal, defects, store)


def pairs_of(config, normal, defects, store):
    return [read_pair(sample.row) for sample in synthesize(config, normal, defects, 0, store).samples]


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_presets_take_the_same_path_with_any_base(preset, inputs, text_to_image, tmp_path):
    _, normal, defects = inputs
    small = {"rank": 2, "text_rank": 2, "repeats": 1, "steps": 2, "training": {"batch": 2, "checkpoint_every": 1}}
    config = DualConfig.model_validate(
        {
            "preset": preset,
            "model": text_to_image,
            "size": (32, 32),
            "steps": 2,
            "count": 2,
            "mask": {"level": 40, "closing": 0},
            "tuning": {**small, "background": {"foreground": {"level": 90}}},
        }
    )
    assert config.tuning is not None
    assert config.tuning.background is not None
    assert config.tuning.background.scaled == (preset == "paper")
    pairs = pairs_of(config, normal, defects, Store(tmp_path))
    assert [image.shape for image, _ in pairs] == [(72, 96, 3)] * 2  # whole images, as large as real ones
    layers = load_file(tuned(config, normal, defects, Store(tmp_path)).file(FILE))
    gammas = [value for name, value in layers.items() if name.endswith("mix.gamma")]
    assert gammas
    assert all(value != (0.1 if preset == "paper" else 0) for value in gammas)  # learnt from where they begin


def test_a_pair_differs_from_its_background_within_the_mask_alone(inputs, store, artifact):
    model, normal, defects = inputs
    for sample in synthesize(dual_config(model), normal, defects, 0, store).samples:
        (image, mask), background = read_pair(sample.row), read_image(sample.background)
        np.testing.assert_array_equal(image[~mask], background[~mask])
        assert (image[mask] != background[mask]).any()


def test_an_adapter_that_was_trained_before_paints_the_same_pairs(inputs, store, artifact, tmp_path):
    model, normal, defects = inputs
    again = dual_config(model, adapter=str(artifact.file(FILE)), tuning=None)
    assert again.tuning is None
    trained = pairs_of(dual_config(model), normal, defects, store)
    taken = pairs_of(again, normal, defects.slice(0, 0), Store(tmp_path))
    for one, other in zip(trained, taken, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def test_a_sample_depends_on_its_seed_and_number_whatever_the_batch(inputs, store, artifact, tmp_path):
    model, normal, defects = inputs
    one = pairs_of(dual_config(model), normal, defects, store)
    (tmp_path / "store").mkdir()
    other = Store(tmp_path / "store")
    tuned(dual_config(model), normal, defects, other)
    alone = pairs_of(dual_config(model, run={"batch": 1}), normal, defects, other)
    for (image, mask), (its, its_mask) in zip(one, alone, strict=True):
        assert np.abs(image.astype(int) - its)[mask & its_mask].max() <= 2
        assert (mask != its_mask).mean() < 0.01


def test_segmentation_models_find_foreground_and_mask_wherever_they_lie_later(inputs, tmp_path):
    model, normal, defects = inputs
    store = Store(tmp_path / "store")
    first, moved = (export(LeftHalf(), tmp_path / "first.pt2"), tmp_path / "moved.pt2")
    how = {"window": None, "blend": None, "box": None, "composite": False, "mask": {"covers": 0, "model": first}}

    def config(foreground, **given):
        learnt = {"background": {"foreground": {"kind": "model", "model": foreground}}}
        return dual_config(model, learnt, **{**how, **given})

    done = tuned(config(first), normal, defects, store)
    file, settings = done.file(FILE), {"tuning": None, "adapter": done.file(FILE)}
    by_adapter = first_job(config(first).model_copy(update=settings), normal, defects).recipe.key
    first.rename(moved)
    later = config(moved, mask={"covers": 0, "model": moved})
    assert tuned(later, normal, defects, store).file(FILE) == file
    pairs = pairs_of(later, normal, defects, store)
    assert len(pairs) == later.count
    for image, mask in pairs:
        half = np.arange(image.shape[1]) < image.shape[1] / 2
        np.testing.assert_array_equal(mask, np.broadcast_to(half, image.shape[:2]))
    painted_alone = later.model_copy(update=settings)
    with pytest.raises(UserError, match=r"first\.pt2: a segmentation model that cannot be read"):
        first_job(painted_alone, normal, defects)
    export(Brighter(0.5), first)
    assert first_job(painted_alone, normal, defects).recipe.key != by_adapter
    moved.replace(first)
    assert first_job(config(first).model_copy(update=settings), normal, defects).recipe.key == by_adapter


def test_each_kind_is_learnt_by_itself_and_they_take_turns(inputs, tmp_path):
    model, normal, defects = inputs
    rows = [
        replace(row, id=f"{row.id} {kind}", defect=kind) for kind in ("hole", "dent") for row in catalog_rows(defects)
    ]
    config = dual_config(model, kinds=("hole", "dent"), count=4)
    synthesis = synthesize(config, normal, build_catalog(rows), 0, Store(tmp_path))
    assert [sample.row.defect for sample in synthesis.samples] == ["hole", "dent"] * 2
    adapters = list((tmp_path).glob(f"**/{FILE}"))
    assert len(adapters) == 1  # the images are the same ones here
    other = replace(rows[3], image=rows[2].image, mask=rows[2].mask)
    synthesize(config, normal, build_catalog([*rows[:3], other]), 0, Store(tmp_path))
    assert len(list((tmp_path).glob(f"**/{FILE}"))) == 2


def test_a_killed_run_goes_on_to_the_bits_of_an_uninterrupted_one(inputs, tmp_path):
    model, normal, defects = inputs
    config = dual_config(model, {"training": {"batch": 2, "checkpoint_every": 2}})
    store = Store(tmp_path / "killed")
    whole = tuned(config, normal, defects, Store(tmp_path / "whole"))

    with pytest.raises(KeyboardInterrupt):
        tune_for(first_job(config, normal, defects), store, cut_off(3))
    assert [folder.name for folder in (store.root / "unfinished").glob("pairs-*/step-*")] == ["step-00000002"]
    resumed = tuned(config, normal, defects, store)
    one, other = (load_file(made.file(FILE)) for made in (resumed, whole))
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_pairs_that_are_of_no_use_are_counted_and_others_made_instead(inputs, store, artifact, monkeypatch):
    model, normal, defects = inputs
    strict = dual_config(model, mask={"level": 200})
    with pytest.raises(DataError, match="no synthetic sample is usable: 6 times: the mask is empty: no anomalous part"):
        synthesize(strict, normal, defects, 0, store)


def test_too_few_images_and_those_without_mask_are_named(inputs, tmp_path):
    model, normal, defects = inputs
    rows = catalog_rows(defects)
    for config, given, message in (
        (dual_config(model), rows[:1], r"1 training defects of any kind, at least 2 are needed \(there: spot\)"),
        (dual_config(model, kinds=("dent",)), rows, r"0 training defects of kind 'dent', .* \(there: spot\)"),
        (
            dual_config(model),
            [rows[0], replace(rows[1], mask=None)],
            f"{re.escape(rows[1].image)}: the anomalous part of an image is learnt by its mask, and this one has none",
        ),
    ):
        with pytest.raises(DataError, match=message) as caught:
            synthesize(config, normal, build_catalog(given), 0, Store(tmp_path))
        assert "\n" not in str(caught.value)


def test_adapters_of_another_base_pickles_and_boxes_for_whole_images_are_refused(
    inputs, text_to_image, artifact, tmp_path
):
    model, normal, defects = inputs
    own, store = artifact.file(FILE), Store(tmp_path / "store")

    def refused(file, message, base="miniature", **given) -> None:
        config = dual_config(base, adapter=str(file), tuning=None, **given)
        with pytest.raises(UserError, match=message) as caught:
            synthesize(config, normal, defects, 0, store)
        assert "\n" not in str(caught.value)

    refused(own, f"an adapter of {re.escape(model)}, not of miniature")
    pickled, strange, small, early = (
        tmp_path / f"{name}.safetensors" for name in ("pickled", "strange", "small", "early")
    )
    torch.save(load_file(own), pickled)
    refused(pickled, "pickled.safetensors: not a safetensors file; .*pickles, are refused")
    save_file({"weight": torch.zeros(2)}, strange)
    refused(strange, "strange.safetensors: not an adapter of synthesizer.kind=dualanodiff")
    with safe_open(own, "pt") as opened:
        known = opened.metadata()
    save_file(load_file(own), early, {name: value for name, value in known.items() if name != "exdd_boxes"})
    refused(early, "does not say in which boxes it has learnt to paint: train it again", base=model)
    metadata = {**known, BASE: "another", BASE_NAME: "another"}
    narrow = {name: value[..., :1].contiguous() for name, value in load_file(own).items() if value.dim()}
    save_file(narrow, small, metadata)
    refused(small, "small.safetensors: an adapter of a base of another size than .*: its .* is ", base=model)
    refused(own, "paints whole images, and no boxes in them: set synthesizer.box=null", base=text_to_image)
    with pytest.raises(ConfigError, match="set synthesizer.box=null"):
        synthesize(dual_config(text_to_image), normal, defects, 0, store)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tuning": None}, "tuning makes an adapter, and adapter names one: give one of them"),
        ({"kinds": ("hole", "hole")}, "a kind is named twice: hole, hole"),
        ({"adapter": "a.safetensors", "kinds": ("hole", "dent")}, "an adapter has learnt one kind of defect"),
        ({"composite": False, "filters": None}, "composite=false keeps nothing of the background: unset window"),
        ({"composite": False, "window": None}, "composite=false keeps nothing of the background: unset filters"),
        ({"box": (0.9, 0.3)}, "box: the least and the largest side"),
        ({"tuning": {"backdrop": (2, 0, 0)}}, "tuning.backdrop: red, green and blue are of -1..1"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        DualConfig.model_validate(given)


def test_windows_and_boxes_hold_the_defect():
    for seed in range(50):
        rng = np.random.default_rng(seed)
        mask = np.zeros((40, 60), dtype=bool)
        top, left = rng.integers(0, 36), rng.integers(0, 56)
        mask[top : top + 4, left : left + 4] = True
        within = mask[window_around(mask, (20, 20), rng)]
        assert within.shape == (20, 20)
        assert within.sum() == 16
        box = box_around(within, (0.3, 0.6), rng)
        assert (box & within).sum() == 16
        assert all(6 <= side <= 12 for side in (box.any(axis=1).sum(), box.any(axis=0).sum()))
        large = np.ones((40, 60), dtype=bool)
        assert large[window_around(large, (50, 20), rng)].shape == (40, 20)
    thin = np.zeros((64, 64), dtype=bool)
    thin[:, 30] = True
    assert mask_at(thin, (16, 16)).sum() == 16


def test_boxes_are_painted_as_they_were_learnt():
    known = [(slice(2, 6), slice(0, 3)), (slice(5, 8), slice(4, 8))]
    seen = torch.zeros(2, 2, 5, 8, 8)
    for one, box in zip(seen, known, strict=True):
        one[:, 0][(slice(None), *box)] = 1
    boxes, drawn = learnt_boxes(list(seen)), set()
    for seed in range(20):
        box = drawn_box(boxes, (16, 16), np.random.default_rng(seed))
        drawn |= {number for number, one in enumerate(seen) if (box == np.kron(one[0, 0], np.ones((2, 2)))).all()}
    assert drawn == {0, 1}
    assert learnt_boxes([None]) == []
    assert drawn_box([], (4, 6), np.random.default_rng(0)).all()
