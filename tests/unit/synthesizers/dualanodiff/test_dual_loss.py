"""The loss of pairs, against its formula: one time, noises of their own, nested prompts, both branches alike."""

import numpy as np
import pytest
import torch
from dual_inputs import dual_config, make_text_to_image
from tuning_inputs import make_inputs

from exdd_ray.data.catalog import catalog_rows
from exdd_ray.data.masks import read_pair
from exdd_ray.synthesizers.dualanodiff.config import DualTuningConfig
from exdd_ray.synthesizers.dualanodiff.loss import DrawnPair, pair_loss
from exdd_ray.synthesizers.dualanodiff.network import add_branches
from exdd_ray.synthesizers.dualanodiff.pairs import background_of, latent_pairs, mask_at, resized, views_of
from exdd_ray.synthesizers.dualanodiff.tune import branch_prompts
from exdd_ray.synthesizers.painting.denoiser import encode_prompts, pipeline_to_train


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    model, normal, defects = make_inputs(folder)
    return make_text_to_image(model, folder / "sd"), normal, defects


def latents_of(pipeline, image: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation [C x h x w], scaled, of an image of -1..1 [H x W x 3]."""
    found = pipeline.vae.encode(torch.from_numpy(image).permute(2, 0, 1)[None]).latent_dist
    scale = pipeline.vae.config.scaling_factor
    return found.mean[0] * scale, found.std[0] * scale


@pytest.mark.parametrize("background", [None, {"scaled": False, "foreground": {"level": 90}}])
@torch.no_grad()
def test_the_loss_is_the_mean_error_of_both_branches_at_one_time(background, inputs):
    model, _, defects = inputs
    learnt = {"background": background, "repeats": 1, "flips": False, "saim": "off"}
    config = dual_config(model, learnt, window=None, box=None)
    tuning, pipeline = config.tuning, pipeline_to_train(config, config.tuning.training)
    pipeline.vae.register_to_config(scaling_factor=0.5)
    row = catalog_rows(defects)[0]
    (pair,) = latent_pairs([row], config, tuning, pipeline, 0)
    image, mask = read_pair(row)
    inside = mask_at(mask, config.size)
    whole, part, *behind = views_of(resized(image, config.size), inside, tuning)
    assert inside.mean() == pytest.approx(mask.mean(), rel=0.3)
    assert not part[~inside].any()  # mid-grey around the part
    np.testing.assert_array_equal(part[inside], whole[inside])
    assert image.mean() / 127.5 - 1 == pytest.approx(whole.mean(), abs=0.05)

    prompts = encode_prompts(pipeline, ["a vfx with sks", "sks"], 0)
    expected, seeds = [], [5, 6]
    for seed in seeds:
        source = torch.Generator().manual_seed(seed)
        means, deviations = zip(*(latents_of(pipeline, one) for one in (whole, part, *behind)), strict=True)
        means, deviations = torch.stack(means), torch.stack(deviations)
        if behind:  # the published code leaves them unscaled
            means[2] /= 0.5
            deviations[2] /= 0.5
        clean = means + deviations * torch.randn(means.shape, generator=source)
        noise = torch.randn(clean.shape, generator=source)
        time = torch.randint(1000, (), generator=source)
        signal = pipeline.scheduler.alphas_cumprod[time]
        for branch in (0, 1):
            given = signal.sqrt() * clean[branch] + (1 - signal).sqrt() * noise[branch]
            velocity = signal.sqrt() * noise[branch] - (1 - signal).sqrt() * clean[branch]
            text = prompts[branch].embedding[None]
            predicted = pipeline.unet(given[None], time, encoder_hidden_states=text).sample[0]
            expected.append((predicted - velocity).square().mean())
    layers = add_branches(pipeline, tuning, 0)  # which start as nothing, but for gamma
    for processor in layers.processors.values():
        processor.mix = None
    drawn = [DrawnPair(pair, seed) for seed in seeds]
    found = pair_loss(drawn, encode_prompts(pipeline, branch_prompts(tuning), 0), pipeline)
    torch.testing.assert_close(found, torch.stack(expected).mean(), rtol=1e-4, atol=1e-5)


def test_prompts_are_nested_and_encoded_together(inputs):
    model, _, defects = inputs
    assert branch_prompts(DualTuningConfig()) == ["a vfx with sks", "sks"]
    with pytest.raises(ValueError, match="whole_prompt='a vfx' must hold tuning.part_prompt='sks'"):
        DualTuningConfig(whole_prompt="a vfx")
    config = dual_config(model, {"text_rank": None}, window=None, box=None)
    pipeline = pipeline_to_train(config, config.tuning.training)
    add_branches(pipeline, config.tuning, 0)
    pairs = latent_pairs(catalog_rows(defects), config, config.tuning, pipeline, 0)
    seen = []
    pipeline.unet.register_forward_pre_hook(lambda _, args, how: seen.append((*args, how)), with_kwargs=True)
    conditions = encode_prompts(pipeline, branch_prompts(config.tuning), 0)
    pair_loss([DrawnPair(pairs[0], 1), DrawnPair(pairs[1], 2)], conditions, pipeline)
    ((_, times, how),) = seen
    assert torch.equal(times[:2], times[2:])
    assert times[0] != times[1]
    alone = [pipeline.encode_prompt(prompt, "cpu", 1, False)[0][0] for prompt in ("a vfx with sks", "sks")]
    for row, prompt in enumerate((0, 0, 1, 1)):
        torch.testing.assert_close(how["encoder_hidden_states"][row], alone[prompt], rtol=1e-4, atol=1e-5)


def test_a_background_is_the_image_without_its_foreground():
    image = np.full((12, 12, 3), 30, dtype=np.uint8)
    image[3:9, 3:9] = 200
    image[5, 5] = 30  # a dark spot on the part
    how = {"foreground": {"kind": "threshold", "level": 100}, "closing": 1}
    config = DualTuningConfig(background=how).background
    assert config is not None
    found = background_of(image, config)
    assert not found[3:9, 3:9].any()
    np.testing.assert_allclose(found[0], 30 / 127.5 - 1, rtol=1e-6)
