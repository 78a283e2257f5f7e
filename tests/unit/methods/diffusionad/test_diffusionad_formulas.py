"""DiffusionAD's noise, reconstructions, losses and scores, against the formulas of its specification."""

import numpy as np
import pytest
import torch

from exdd_ray.methods.diffusionad.diffusion import (
    alpha_bars,
    denoised,
    guided_noise,
    noised,
    reconstruct,
    reconstruct_ddim,
    reconstruct_single,
)
from exdd_ray.methods.diffusionad.inference import image_scores
from exdd_ray.methods.diffusionad.losses import noise_loss, segmentation_loss
from exdd_ray.methods.segmentation import focal_loss


def abar(t: int) -> float:
    product = 1.0
    for step in range(t + 1):
        product *= 1.0 - (1e-4 + (0.02 - 1e-4) * step / 999)
    return product


def arrays(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def test_schedule_is_linear_and_has_the_values_of_the_specification():
    assert alpha_bars().numpy() == pytest.approx([abar(t) for t in range(1000)], rel=2e-4)
    for t, value in ((200, 0.656), (300, 0.394), (400, 0.194), (600, 0.026)):
        assert float(alpha_bars()[t]) == pytest.approx(value, abs=6e-4)


def test_one_step_prediction_is_the_published_formula():
    x, eps = 0.3 * arrays(0, 2, 3, 4, 4), 0.3 * arrays(1, 2, 3, 4, 4)
    t = [7, 250]
    got = denoised(torch.from_numpy(x), torch.from_numpy(eps), torch.tensor(t)).numpy()
    for b in range(2):
        a = abar(t[b])
        want = np.clip((x[b] - np.sqrt(1 - a) * eps[b]) / np.sqrt(a), -1, 1)
        assert got[b] == pytest.approx(want, abs=1e-4)
    assert denoised(torch.full((1, 3, 4, 4), 9.0), torch.zeros(1, 3, 4, 4), torch.tensor([5])).max() == 1


def test_noising_is_undone_by_the_true_noise():
    x, eps = torch.from_numpy(arrays(2, 2, 3, 4, 4)).clamp(-1, 1), torch.from_numpy(arrays(3, 2, 3, 4, 4))
    t = torch.tensor([40, 700])
    a = np.array([abar(40), abar(700)]).reshape(2, 1, 1, 1)
    assert noised(x, eps, t).numpy() == pytest.approx(np.sqrt(a) * x.numpy() + np.sqrt(1 - a) * eps.numpy(), abs=1e-4)
    assert denoised(noised(x, eps, t), eps, t).numpy() == pytest.approx(x.numpy(), abs=1e-6)


def test_guidance_renoises_with_the_predicted_weak_noise():
    x_t, eps, x_0 = (arrays(seed, 1, 3, 4, 4) for seed in (4, 5, 6))
    a, w = abar(200), 0.7
    renoised = np.sqrt(a) * x_0 + np.sqrt(1 - a) * eps
    want = eps - w * np.sqrt(1 - a) * (renoised - x_t)
    got = guided_noise(*(torch.from_numpy(v) for v in (x_t, eps, x_0)), torch.tensor([200]), w)
    assert got.numpy() == pytest.approx(want, abs=1e-4)


def bent(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """A denoiser that depends on image and step."""
    return 0.6 * x + 0.2 * np.sin(3 * x) + t.reshape(-1, 1, 1, 1) / 2000


def bent_denoiser(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(bent(x.numpy(), t.numpy()))


def test_reconstruction_is_the_whole_of_the_specification():
    x, noise = np.clip(0.5 * arrays(7, 2, 3, 8, 8), -1, 1), arrays(8, 2, 2, 3, 8, 8)
    t_s, t_b, w = np.array([120, 200]), np.array([400, 555]), 1.0
    found = reconstruct(
        bent_denoiser, torch.from_numpy(x), torch.from_numpy(noise), torch.from_numpy(t_s), torch.from_numpy(t_b), w
    )
    a_s, a_b = (np.array([abar(v) for v in t]).reshape(2, 1, 1, 1) for t in (t_s, t_b))
    x_s = np.sqrt(a_s) * x + np.sqrt(1 - a_s) * noise[0]
    x_b = np.sqrt(a_b) * x + np.sqrt(1 - a_b) * noise[1]
    e_s, e_b = bent(x_s, t_s), bent(x_b, t_b)
    x0_b = np.clip((x_b - np.sqrt(1 - a_b) * e_b) / np.sqrt(a_b), -1, 1)
    again = np.sqrt(a_s) * x0_b + np.sqrt(1 - a_s) * e_s
    e_hat = e_s - w * np.sqrt(1 - a_s) * (again - x_s)
    want = np.clip((x_s - np.sqrt(1 - a_s) * e_hat) / np.sqrt(a_s), -1, 1)
    assert found.image.numpy() == pytest.approx(want, abs=2e-4)
    assert found.errors[0].numpy() == pytest.approx(((e_s - noise[0]) ** 2).mean(axis=(1, 2, 3)), rel=1e-4)
    assert found.errors[1].numpy() == pytest.approx(((e_b - noise[1]) ** 2).mean(axis=(1, 2, 3)), rel=1e-4)
    single = reconstruct_single(bent_denoiser, torch.from_numpy(x), torch.from_numpy(noise[0]), torch.from_numpy(t_s))
    assert single.numpy() == pytest.approx(np.clip((x_s - np.sqrt(1 - a_s) * e_s) / np.sqrt(a_s), -1, 1), abs=2e-4)


def test_ddim_takes_equal_strides_from_the_start_down():
    x, noise, start, steps = np.clip(0.4 * arrays(9, 1, 3, 4, 4), -1, 1), arrays(10, 1, 3, 4, 4), 400, 5
    seen: list[int] = []

    def denoiser(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.append(int(t[0]))
        return bent_denoiser(x_t, t)

    got = reconstruct_ddim(denoiser, torch.from_numpy(x), torch.from_numpy(noise), start, steps)
    assert seen == [400, 320, 240, 160, 80]
    x_t = np.sqrt(abar(400)) * x + np.sqrt(1 - abar(400)) * noise
    for t in seen:
        eps = bent(x_t, np.array([t]))
        x_0 = np.clip((x_t - np.sqrt(1 - abar(t)) * eps) / np.sqrt(abar(t)), -1, 1)
        x_t = np.sqrt(abar(t - 80)) * x_0 + np.sqrt(1 - abar(t - 80)) * eps
    assert got.numpy() == pytest.approx(x_0, abs=5e-4)


def test_losses_are_the_published_ones():
    p = np.random.default_rng(11).uniform(0.05, 0.95, (2, 1, 4, 4))
    m = (np.random.default_rng(12).random((2, 1, 4, 4)) < 0.4).astype(float)
    right = np.where(m == 1, p, 1 - p)
    focal = (-0.5 * (1 - right) ** 4 * np.log(right)).mean()
    smooth = (0.5 * (p - m) ** 2).mean()  # every difference is below 1
    given = torch.from_numpy(p), torch.from_numpy(m)
    assert 0.5 * float(focal_loss(*given, gamma=4.0)) == pytest.approx(focal, rel=1e-6)
    assert float(segmentation_loss(*given)) == pytest.approx(smooth + 5 * focal, rel=1e-6)
    certain = torch.tensor([[[[0.0, 1.0]]]])
    assert torch.isfinite(focal_loss(certain, 1 - certain, gamma=4.0))
    errors = torch.tensor([[1.0, 2.0, 30.0], [4.0, 6.0, 70.0]])
    weights = torch.tensor([1.5, 1.5, 0.0])  # three samples, the last one anomalous
    assert float(noise_loss(errors, weights, "sum")) == pytest.approx((5 + 8) / 2)
    assert float(noise_loss(errors, weights, "mean")) == pytest.approx((5 + 8) / 4)
    assert float(noise_loss(errors, torch.zeros(3), "sum")) == 0


def test_image_score_is_the_mean_of_the_top_fifty_pixels():
    maps = np.random.default_rng(0).random((3, 20, 20), dtype=np.float32)
    want = [np.sort(one.ravel())[::-1][:50].mean() for one in maps]
    assert image_scores(maps) == pytest.approx(want, rel=1e-6)
