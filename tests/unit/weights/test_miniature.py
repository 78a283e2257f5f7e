import subprocess
import sys

import numpy as np
import pytest
import torch

from exdd_ray.data.masks import grown
from exdd_ray.data.procedural.defects import DEFECT_KINDS
from exdd_ray.weights.miniature.autoencoder import (
    AutoencoderRecipe,
    grain_strength,
    latent_moments,
    learning_rate,
    standardize_latents,
    to_tensor,
    train_autoencoder,
)
from exdd_ray.weights.miniature.captions import (
    COPPER,
    DEFECT_WORDS,
    MATERIAL_WORDS,
    NORMAL,
    corpus,
    make_caption,
    plain_words,
)
from exdd_ray.weights.miniature.colour_path import open_colour_path
from exdd_ray.weights.miniature.denoiser import DenoiserRecipe, DenoiserTrainer
from exdd_ray.weights.miniature.evaluate import PaintSettings, paint, spot_vectors
from exdd_ray.weights.miniature.latents import encode_samples, sample_latents
from exdd_ray.weights.miniature.masks import inpainting_mask, spot_around
from exdd_ray.weights.miniature.networks import (
    TOKENS,
    WEIGHTS,
    Parts,
    load_model,
    make_autoencoder,
    make_scheduler,
    make_text_encoder,
    make_tokenizer,
    make_unet,
    save_model,
)
from exdd_ray.weights.miniature.training_samples import LABELS, Samples, SampleSpec, draw_sample, draw_samples

SPEC = SampleSpec(count=24, side=32)


@pytest.fixture(scope="module")
def samples() -> Samples:
    return draw_samples(SPEC)


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


@pytest.fixture(scope="module")
def shipped():
    return load_model()


def test_captions_cover_all_kinds_and_vary():
    rng = np.random.default_rng(0)
    words = set(corpus())
    for kind in LABELS:
        captions = {make_caption(kind, material, rng) for material in MATERIAL_WORDS for _ in range(20)}
        assert len(captions) > 20
        assert plain_words(kind) in captions
        assert captions <= words | {f"clean {name}" for names in MATERIAL_WORDS.values() for name in names}
    assert set(DEFECT_WORDS) == {*DEFECT_KINDS, COPPER, NORMAL}


def test_a_sample_changes_nothing_but_its_mask():
    for number in range(16):
        sample = draw_sample(SampleSpec(seed=3), number)
        assert sample.image.shape == (64, 64, 3)
        assert np.array_equal(sample.image[~sample.mask], sample.clean[~sample.mask])
        assert not (sample.defect & ~sample.mask).any()
        assert (sample.kind == NORMAL) == (not sample.defect.any())
        if sample.kind != NORMAL:
            change = np.abs(sample.image.astype(int) - sample.clean).max(axis=2)
            assert change[sample.defect].mean() > 3
        assert 0 < sample.mask.mean() <= 1


def test_samples_are_the_same_from_other_processes(samples):
    spread = draw_samples(SPEC, workers=2)
    for name, array in vars(samples).items():
        assert np.array_equal(array, getattr(spread, name)), name


def test_defects_of_every_kind_stand_out():
    for first in range(len(DEFECT_KINDS)):
        strengths = []
        for number in range(first, 8 * len(DEFECT_KINDS), len(DEFECT_KINDS)):
            sample = draw_sample(SPEC, number)
            if sample.defect.any():
                change = np.abs(sample.image.astype(int) - sample.clean).max(axis=2)[sample.defect]
                strengths.append(np.quantile(change, 0.75))
        assert np.median(strengths) > 40


def test_samples_differ_and_show_every_kind(samples):
    assert len({image.tobytes() for image in samples.images}) == SPEC.count
    assert {LABELS[kind] for kind in samples.kinds} >= set(DEFECT_KINDS) - {"scratch"}
    assert not np.array_equal(draw_sample(SampleSpec(seed=1), 0).image, draw_sample(SampleSpec(seed=0), 0).image)


def test_masks_hold_the_defect_and_grow_by_their_radius():
    defect = np.zeros((40, 50), bool)
    defect[20, 10:30] = True
    assert grown(defect, 3).sum() > defect.sum()
    assert np.nonzero(grown(defect, 3).any(axis=1))[0].tolist() == list(range(17, 24))
    rng = np.random.default_rng(0)
    sizes = {int(inpainting_mask(defect, rng)[defect].sum()) for _ in range(30)}
    assert sizes == {20}
    assert len({int(spot_around(defect, rng).sum()) for _ in range(10)}) > 3


def test_any_word_has_tokens(tokenizer):
    for text in ("scratch", "zyxwvut Ünïcode 漢字!", ""):
        encoded = tokenizer(text, padding="max_length", max_length=TOKENS, truncation=True)
        assert len(encoded.input_ids) == TOKENS == tokenizer.model_max_length
        assert encoded.input_ids[0] == tokenizer.bos_token_id
        assert encoded.input_ids[-1] == tokenizer.eos_token_id == max(encoded.input_ids)
    assert len(tokenizer("copper metal scratches").input_ids) == 5
    assert tokenizer("xylophone").input_ids != tokenizer("zebra").input_ids
    assert max(len(tokenizer(text).input_ids) for text in list(corpus())[::97]) < TOKENS


def test_the_rate_warms_up_and_ends_low():
    rates = [learning_rate(step, 1000) for step in range(1000)]
    assert rates[0] == pytest.approx(0.02)
    assert rates[100] == rates[690] == 1
    assert rates[850] == pytest.approx(0.5, abs=0.01)
    assert rates[-1] <= 0.011


def test_grain_strength_sees_what_blur_takes_away():
    image = torch.rand(1, 3, 32, 32)
    flat = torch.nn.functional.avg_pool2d(image, 5, stride=1, padding=2)
    assert (grain_strength(image) > 2 * grain_strength(flat)).all()


def test_the_colour_path_carries_colours_from_the_start(samples):
    torch.manual_seed(0)
    vae = make_autoencoder()
    images = to_tensor(samples.images)
    open_colour_path(vae, images[:12])
    with torch.no_grad():
        latents = vae.encode(images[12:]).latent_dist.mean[:, :3]
        decoded = vae.decode(vae.encode(images[12:]).latent_dist.mean).sample
    for given, wanted in ((latents, torch.nn.functional.avg_pool2d(images[12:], 2)), (decoded, images[12:])):
        for colour in range(3):
            pair = torch.stack([given[:, colour].flatten(), wanted[:, colour].flatten()])
            assert torch.corrcoef(pair)[0, 1] > 0.8


def test_a_few_steps_teach_the_autoencoder(samples):
    torch.manual_seed(0)
    vae = make_autoencoder()
    open_colour_path(vae, to_tensor(samples.images[:12]))
    before = _distance(vae, samples.images)
    losses = [s.loss for s in train_autoencoder(vae, samples.images, AutoencoderRecipe(batch=4), steps=40)]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert _distance(vae, samples.images) < 0.8 * before


def test_standard_latents_decode_to_the_same_image(samples):
    torch.manual_seed(0)
    vae = make_autoencoder()
    given = to_tensor(samples.images[:4])
    with torch.no_grad():
        before = vae.encode(given).latent_dist
        decoded = vae.decode(before.mean).sample
        mean, deviation = latent_moments(vae, samples.images)
        standardize_latents(vae, mean, deviation)
        after = vae.encode(given).latent_dist
        assert torch.allclose(vae.decode(after.mean).sample, decoded, atol=1e-4)
    assert torch.allclose(after.std * deviation.view(1, -1, 1, 1), before.std, rtol=1e-3)
    mean, deviation = latent_moments(vae, samples.images)
    assert torch.allclose(mean, torch.zeros(4), atol=1e-3)
    assert torch.allclose(deviation, torch.ones(4), atol=1e-3)


@torch.no_grad()
def _distance(vae, images):
    given = to_tensor(images)
    return float((vae.decode(vae.encode(given).latent_dist.mean).sample - given).abs().mean())


def test_latents_are_those_of_the_pipeline(samples, shipped):
    latents = encode_samples(shipped.vae, samples)
    assert latents.images.shape == latents.surroundings.shape == (24, 8, 16, 16)
    masked_image = to_tensor(samples.images) * (torch.from_numpy(samples.masks)[:, None] < 0.5)
    mask, surroundings = shipped.prepare_mask_latents(
        torch.from_numpy(samples.masks)[:, None].float(),
        masked_image,
        24,
        32,
        32,
        torch.float32,
        torch.device("cpu"),
        torch.Generator().manual_seed(0),
        False,
    )
    scale = shipped.vae.config.scaling_factor
    own = scale * sample_latents(latents.surroundings, torch.Generator().manual_seed(0))
    assert torch.equal(mask, latents.masks.float())
    assert (own - surroundings).abs().max() < 0.02
    assert 0.8 < float((scale * latents.images[:, :4].float()).std()) < 1.25


def test_a_few_steps_teach_the_denoiser(samples, shipped, tokenizer):
    torch.manual_seed(0)
    latents = encode_samples(shipped.vae, samples)
    parts = Parts(tokenizer, make_text_encoder(tokenizer), shipped.vae, make_unet())
    trainer = DenoiserTrainer(parts, latents, DenoiserRecipe(batch=8, rate=2e-3))
    untrained = torch.nn.utils.parameters_to_vector(trainer.averaged().text_encoder.parameters())
    losses = [state.loss for state in trainer.run(steps=40)]
    assert np.mean(losses[-8:]) < 0.9 * np.mean(losses[:3])
    averaged = trainer.averaged()
    assert not torch.equal(torch.nn.utils.parameters_to_vector(averaged.text_encoder.parameters()), untrained)
    assert averaged.unet is not parts.unet


def test_the_shipped_model_is_an_ordinary_inpainting_model(shipped):
    from diffusers import AutoPipelineForInpainting, StableDiffusionInpaintPipeline

    pipeline = AutoPipelineForInpainting.from_pretrained(WEIGHTS, local_files_only=True)
    assert type(pipeline) is StableDiffusionInpaintPipeline
    assert pipeline.unet.config.in_channels == 9
    assert pipeline.unet.config.out_channels == pipeline.vae.config.latent_channels == 4
    assert pipeline.unet.config.cross_attention_dim == pipeline.text_encoder.config.hidden_size
    assert pipeline.tokenizer.model_max_length == pipeline.text_encoder.config.max_position_embeddings == TOKENS
    assert pipeline.scheduler.config.prediction_type == make_scheduler().config.prediction_type
    assert {p.dtype for p in pipeline.unet.parameters()} == {torch.float32}
    assert all(torch.isfinite(weights).all() for weights in pipeline.unet.parameters())
    assert sum(file.stat().st_size for file in WEIGHTS.rglob("*") if file.is_file()) < 24e6


def test_the_shipped_model_paints_inside_the_mask_only_and_follows_the_prompt(shipped):
    sample = draw_sample(SampleSpec(seed=5), 1)
    images, masks = np.stack([sample.clean] * 2), np.stack([sample.mask] * 2)
    settings = PaintSettings(steps=4)
    painted = paint(shipped, images, masks, ["hole", "white marks"], settings)
    assert np.array_equal(painted[~masks], images[~masks])
    assert (painted[0] != images[0])[sample.mask].any()
    assert not np.array_equal(painted[0], painted[1])
    again = paint(shipped, images, masks, ["hole", "white marks"], settings)
    assert np.array_equal(painted, again)


def test_a_prompted_hole_is_darker_than_white_marks(shipped):
    drawn = [draw_sample(SampleSpec(seed=6), number) for number in range(1, 33, 8)]
    images, masks = np.stack([s.clean for s in drawn]), np.stack([s.mask for s in drawn])
    settings = PaintSettings(steps=10)
    dark, bright = (paint(shipped, images, masks, [prompt] * 4, settings) for prompt in ("hole", "white marks"))
    assert dark[masks].mean() < bright[masks].mean() - 5


def test_other_sizes_than_the_native_one(shipped):
    from PIL import Image

    image, mask = Image.new("RGB", (128, 96), "gray"), Image.new("L", (128, 96))
    mask.paste(255, (40, 20, 90, 60))
    painted = shipped(
        prompt="a scratch", image=image, mask_image=mask, height=96, width=128, num_inference_steps=2
    ).images[0]
    assert painted.size == (128, 96)


def test_a_saved_model_loads_as_it_was(tmp_path, shipped):
    parts = Parts(shipped.tokenizer, shipped.text_encoder, shipped.vae, shipped.unet)
    save_model(parts, tmp_path / "model")
    save_model(parts, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    for name, weights in shipped.unet.state_dict().items():
        assert torch.equal(loaded.unet.state_dict()[name], weights)
    text = "white marks on xylophone"
    assert loaded.tokenizer(text).input_ids == shipped.tokenizer(text).input_ids


def test_the_judge_sees_the_spot():
    from exdd_ray.features.backbone import load_backbone
    from exdd_ray.features.config import FeaturesConfig

    sample = draw_sample(SampleSpec(seed=7), 1)
    backbone = load_backbone(FeaturesConfig(layers=("layer1", "layer2")))
    pair, spots = np.stack([sample.clean, sample.image]), np.stack([sample.mask] * 2)
    clean, defective = spot_vectors(backbone, pair, spots)
    assert clean.shape == (3 * (64 + 128),)
    assert np.abs(clean - defective).max() > 0.1


def test_the_command_refuses_no_time(tmp_path):
    command = [sys.executable, "-m", "exdd_ray.weights.miniature", "--minutes", "0", "--out", str(tmp_path / "m")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == "error: --minutes: the training needs more than no time"
