"""Painting scenes with a small random model of the miniature's kind."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from inpaint_inputs import make_random_model, scenes_of
from PIL import Image

from exdd_ray.errors import ConfigError, UserError
from exdd_ray.synthesizers.painting.paint import Painter, in_batches


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return make_random_model(tmp_path_factory.mktemp("model") / "random")


def test_a_batch_of_any_scenes_is_what_the_pipeline_paints_one_by_one(config):
    from diffusers import AutoPipelineForInpainting

    scenes = scenes_of(3)
    pipeline = AutoPipelineForInpainting.from_pretrained(config.model, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    painted = Painter(config).paint(scenes)
    for scene, image in zip(scenes, painted, strict=True):
        alone = pipeline(
            prompt=scene.prompt,
            negative_prompt="",
            image=Image.fromarray(scene.canvas),
            mask_image=Image.fromarray(scene.mask.astype(np.uint8) * 255),
            height=32,
            width=32,
            padding_mask_crop=config.crop_padding,
            strength=config.strength,
            guidance_scale=config.guidance,
            num_inference_steps=config.steps,
            generator=torch.Generator().manual_seed(scene.seed),
        ).images[0]
        assert np.abs(image.astype(int) - np.asarray(alone)).max() <= 1
        np.testing.assert_array_equal(image[~scene.mask], scene.canvas[~scene.mask])
        assert np.abs(image.astype(int) - scene.canvas)[scene.mask].mean() > 5


@pytest.mark.parametrize("crop_padding", [None, 4])
def test_the_batch_does_not_change_a_sample_by_more_than_a_grey_level(config, crop_padding):
    scenes = scenes_of(4)
    config = config.model_copy(update={"crop_padding": crop_padding, "steps": 20})
    one, four = (
        Painter(config.model_copy(update={"run": config.run.model_copy(update={"batch": batch})})).paint(scenes)
        for batch in (1, 4)
    )
    for a, b in zip(one, four, strict=True):
        assert np.abs(a.astype(int) - b).max() <= 1


def test_a_grey_canvas_is_painted_in_grey_where_its_colours_are_kept(config):
    (scene,) = scenes_of(1)
    grey = replace(scene, canvas=np.repeat(scene.canvas[..., :1], 3, axis=2))
    kept = config.model_copy(update={"colours": "canvas"})
    tinted, (painted,), (coloured,) = (
        Painter(config).paint([grey, scene]),
        *(Painter(kept).paint([s]) for s in (grey, scene)),
    )
    inside = grey.mask
    assert (tinted[0][inside] != tinted[0][inside][:, :1]).any()
    assert (painted == painted[..., :1]).all()
    assert np.abs(painted.astype(int) - grey.canvas)[inside].mean() > 5
    assert np.abs(coloured.astype(int) - tinted[1]).max() <= 1


def test_composite_is_the_choice_where_all_is_painted(config):
    (scene,) = scenes_of(1)
    kept, painted = (
        Painter(config.model_copy(update={"crop_padding": None, "composite": composite})).paint([scene])[0]
        for composite in (True, False)
    )
    np.testing.assert_array_equal(kept[~scene.mask], scene.canvas[~scene.mask])
    np.testing.assert_array_equal(kept[scene.mask], painted[scene.mask])
    assert np.abs(painted.astype(int) - scene.canvas)[~scene.mask].mean() > 1


def test_a_scene_that_the_pipeline_refuses_does_not_lose_the_others(config):
    scenes = scenes_of(3)
    scenes[1] = replace(scenes[1], mask=np.zeros_like(scenes[1].mask))
    first, refused, last = Painter(config).paint(scenes)
    assert refused.startswith("the model refused it: ")
    alone = Painter(config).paint([scenes[0], scenes[2]])
    for one, other in zip((first, last), alone, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1


def test_what_a_cpu_cannot_do_is_refused(config):
    for settings, words in (
        ({"precision": "float16"}, "float16 is for GPUs"),
        ({"memory": "offload"}, "there is none"),
    ):
        with pytest.raises(ConfigError, match=words):
            Painter(config.model_copy(update={"run": config.run.model_copy(update={"device": "cpu", **settings})}))


def allocate(most):
    def paint(scenes):
        if len(scenes) > most:
            torch.empty(1 << 60, dtype=torch.uint8)
        return list(scenes)

    return paint


def test_out_of_memory_halves_the_batch_and_says_so(caplog):
    found = list(in_batches(allocate(2), list(range(11)), 10))
    assert [part for parts, _ in found for part in parts] == list(range(11))
    assert found[-1][1] == 2
    assert "batches of 2 from now on" in caplog.text
    with pytest.raises(UserError, match="out of memory with one image"):
        list(in_batches(allocate(0), [1], 4))
