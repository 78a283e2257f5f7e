"""Blended painting, against regions drawn by hand and the noise of the schedule."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from dual_inputs import dual_config
from PIL import Image
from tuning_inputs import make_inputs, tuned

from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.dualanodiff.adapter import FILE
from exdd_ray.synthesizers.dualanodiff.blend import blended, part_region
from exdd_ray.synthesizers.dualanodiff.config import BlendConfig
from exdd_ray.synthesizers.dualanodiff.paint import PairScene, pair_painter
from exdd_ray.synthesizers.dualanodiff.pairs import centred
from exdd_ray.synthesizers.painting.denoiser import clean_of, target_of

CONFIG = BlendConfig(share=0.5, least=0.5, margin=1)


def test_the_region_is_where_a_part_differs_by_a_share_of_its_most_with_a_margin():
    backdrop = torch.full((3, 4, 8, 8), 0.3)
    part = backdrop.clone()
    part[0, :, 4, 4] += 2.0
    part[0, :, 0, 7] += 1.1
    part[0, :, 7, 0] += 0.9  # less than half of the most
    part[1, :, 4, 4] -= 0.6
    part[2, :, 4, 4] += 0.4  # nothing is there
    expected = torch.zeros(3, 1, 8, 8, dtype=torch.bool)
    expected[:2, :, 3:6, 3:6] = True
    expected[0, :, :2, 6:] = True
    assert torch.equal(part_region(part, backdrop, CONFIG), expected)


@pytest.mark.parametrize("left", [0, 2])
def test_around_the_part_an_image_is_its_background_with_the_noise_of_the_time(left):
    schedule, source = DDIMScheduler(), torch.Generator().manual_seed(0)
    latents, there, noise = (torch.randn(2, 4, 8, 8, generator=source) for _ in range(3))
    foreseen = there.clone()
    foreseen[1, :, 2, 2] += 3.0
    later = torch.tensor([500, 100])[:left]
    found = blended(latents, foreseen, there, noise, later, schedule, CONFIG)
    signal = schedule.alphas_cumprod[500] if left else torch.tensor(1.0)
    expected = latents.clone()
    expected[0] = signal.sqrt() * there[0] + (1 - signal).sqrt() * noise[0]
    expected[0, :, 1:4, 1:4] = latents[0, :, 1:4, 1:4]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("schedules", [DDIMScheduler, EulerDiscreteScheduler])
def test_what_is_foreseen_of_a_right_prediction_is_the_clean_image(kind, schedules):
    plain, source = DDIMScheduler(prediction_type=kind), torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(2, 4, 8, 8, generator=source) for _ in range(2))
    schedule = schedules.from_config(plain.config)
    schedule.set_timesteps(10)
    time = schedule.timesteps[3]
    schedule.set_begin_index(3) if hasattr(schedule, "set_begin_index") else None
    noisy = schedule.scale_model_input(schedule.add_noise(clean, noise, time.repeat(2)), time)
    predicted = target_of(plain, clean, noise, time.long().repeat(2))
    torch.testing.assert_close(clean_of(schedule, noisy, predicted, time), clean, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scheduler", ["model", "euler", "dpm"])
def test_where_nothing_is_foreseen_the_background_stays(scheduler, tmp_path):
    model, normal, defects = make_inputs(tmp_path / "inputs")
    config = dual_config(model, scheduler=scheduler)
    adapter = tuned(config, normal, defects, Store(tmp_path / "store")).file(FILE)
    scene = PairScene(np.full((*config.size, 3), (110, 90, 90), np.uint8), np.ones(config.size, dtype=bool), 3)

    def whole_of(blend: BlendConfig | None) -> np.ndarray:
        painter = pair_painter(config.model_copy(update={"blend": blend}), adapter, "key")
        return next(painter.paint([scene]))[0][0][0]

    kept = whole_of(BlendConfig(start=0, least=1e6))
    pipeline = pair_painter(config, adapter, "key").pipeline
    with torch.no_grad():
        mean = pipeline.vae.encode(torch.from_numpy(centred(scene.background)).permute(2, 0, 1)[None]).latent_dist.mean
        decoded = pipeline.vae.decode(mean).sample
    expected = pipeline.image_processor.postprocess(decoded, output_type="np")[0] * 255
    assert np.abs(kept - expected).max() <= 1
    assert np.abs(whole_of(None) - expected).max() > 5


def test_what_is_painted_on_a_grey_background_is_grey(tmp_path):
    model, normal, defects = make_inputs(tmp_path / "inputs")
    config = dual_config(model)
    adapter = tuned(config, normal, defects, Store(tmp_path / "store")).file(FILE)
    box = np.ones(config.size, dtype=bool)
    grey = PairScene(np.full((*config.size, 3), 90, np.uint8), box, 3)
    warm = PairScene(np.full((*config.size, 3), (110, 90, 90), np.uint8), box, 3)

    def painted(colours: str, scene: PairScene) -> np.ndarray:
        painter = pair_painter(config.model_copy(update={"colours": colours}), adapter, "key")
        return next(painter.paint([scene]))[0][0]

    coloured, found = painted("model", grey), painted("canvas", grey)
    luma = np.asarray(Image.fromarray(coloured[0].astype(np.uint8)).convert("L"))
    assert np.ptp(coloured[0], axis=2).max() > 0
    assert np.abs(found[0] - luma[..., None]).max() <= 1
    np.testing.assert_array_equal(found[1], coloured[1])
    np.testing.assert_array_equal(painted("canvas", warm), painted("model", warm))
