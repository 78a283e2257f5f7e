"""The same path for every base: SDXL's two encoders, a denoiser that takes no mask; and the loss's arithmetic."""

import weakref
from collections import Counter

import pytest
import torch
from dual_inputs import make_text_to_image
from lora_inputs import quick_config
from safetensors.torch import load_file
from sdxl_inputs import make_sdxl
from tuning_inputs import make_inputs, tuned

from exdd_ray.data.images import read_image
from exdd_ray.errors import ConfigError
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.lora.instances import Instance, bucket_of
from exdd_ray.synthesizers.lora.latents import LatentInstance, encoded
from exdd_ray.synthesizers.lora.loss import Drawn, denoising_loss, snr_weights
from exdd_ray.synthesizers.lora.tune import epoch_folder
from exdd_ray.synthesizers.painting.adapter import LORA
from exdd_ray.synthesizers.painting.denoiser import Condition, encode_nothing
from exdd_ray.synthesizers.painting.model import fresh_pipeline
from exdd_ray.synthesizers.synthesize import synthesize
from exdd_ray.weights.miniature.networks import load_model, make_scheduler


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def without_mask(inputs, tmp_path_factory) -> str:
    return make_text_to_image(inputs[0], tmp_path_factory.mktemp("model") / "sd")


@pytest.mark.parametrize("base", ["inpainting", "text_to_image"])
@pytest.mark.parametrize("kind", ["sdxl", "sd"])
def test_a_base_is_tuned_and_paints(kind, base, inputs, without_mask, tmp_path):
    _, normal, defects = inputs
    model = make_sdxl(tmp_path / "sdxl") if kind == "sdxl" else without_mask
    size = (64, 64) if kind == "sdxl" else (32, 32)
    config = quick_config(model, {"epochs": 1, "text_encoder": True}, base=base, size=size, count=1)
    store = Store(tmp_path / "store")
    lora = load_file(epoch_folder(tuned(config, normal, defects, store).folder, 1) / LORA)
    parts = {"unet", "text_encoder", "text_encoder_2"} if kind == "sdxl" else {"unet", "text_encoder"}
    assert {name.partition(".")[0] for name in lora} == parts
    with_it, without = (
        read_image(synthesize(one, normal, defects, 0, store).samples[0].row.image)
        for one in (config, config.model_copy(update={"merge": 0.0}))
    )
    assert with_it.shape == without.shape
    assert (with_it != without).any()


@pytest.mark.parametrize(
    ("prediction", "weights"),
    [("epsilon", [1.0, 0.5, 1.0]), ("v_prediction", [2 / 3, 5 / 11, 0.0]), ("sample", [2.0, 5.0, 0.0])],
)
def test_weights_of_min_snr(prediction, weights):
    schedule = make_scheduler()
    schedule.register_to_config(prediction_type=prediction)
    schedule.alphas_cumprod = torch.tensor([2 / 3, 10 / 11, 0.0])  # signal to noise 2, 10 and 0
    torch.testing.assert_close(snr_weights(schedule, torch.tensor([0, 1, 2]), 5.0), torch.tensor(weights))
    assert snr_weights(schedule, torch.tensor([0, 1]), None).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("image", "bucket"),
    [((512, 512), (512, 512)), ((630, 230), (768, 320)), ((230, 630), (320, 768)), ((900, 90), (1024, 256))],
)
def test_a_bucket_has_about_the_aspect_and_at_most_the_area(image, bucket):
    assert bucket_of(image, (512, 512), 64) == bucket
    with pytest.raises(ConfigError, match="aspect=bucket needs a synthesizer.size of at least 64 x 64"):
        bucket_of(image, (32, 64), 64)


def test_no_prompt_is_what_guidance_compares_with(inputs, tmp_path):
    sdxl = fresh_pipeline(quick_config(make_sdxl(tmp_path / "sdxl")))
    nothing = encode_nothing(sdxl, 0)
    assert (nothing.embedding.abs().max(), nothing.pooled.abs().max()) == (0, 0)
    assert encode_nothing(fresh_pipeline(quick_config(inputs[0])), 0).embedding.abs().max() > 0


def test_half_precision_is_that_of_the_forward_pass_alone(inputs, tmp_path):
    model, normal, defects = inputs
    config = quick_config(model, {"epochs": 1, "text_encoder": True, "training": {"precision": "bfloat16"}})
    folder = epoch_folder(tuned(config, normal, defects, Store(tmp_path)).folder, 1)
    assert {value.dtype for value in load_file(folder / LORA).values()} == {torch.float32}


def test_activations_of_unet_and_encoder_are_computed_anew_to_the_same_bits(inputs, tmp_path):
    model, normal, defects = inputs
    ran, found = Counter[str](), {}

    def count(module, *_):
        if torch.is_grad_enabled():
            ran[type(module).__name__] += 1

    for anew in (False, True):
        ran.clear()
        config = quick_config(model, {"epochs": 1, "text_encoder": True, "gradient_checkpointing": anew})
        hook = torch.nn.modules.module.register_module_forward_pre_hook(count)
        try:
            artifact = tuned(config, normal, defects, Store(tmp_path / str(anew)))
        finally:
            hook.remove()
        found[anew] = load_file(epoch_folder(artifact.folder, 1) / LORA), ran["CLIPMLP"], ran["ResnetBlock2D"]
    (kept, encoder, unet), (made, encoder_anew, unet_anew) = found[False], found[True]
    assert encoder_anew == 2 * encoder
    assert unet_anew > unet
    assert all(torch.equal(value, made[name]) for name, value in kept.items())


def test_the_loss_beyond_the_mask_counts_its_share_and_a_regularisation_image_its_weight(inputs):
    pipeline = load_model(inputs[0])
    mask = torch.zeros(1, 16, 16)
    mask[:, :4] = 1
    image = LatentInstance(torch.randn(8, 16, 16).abs(), mask, torch.zeros(4, 16, 16), "skt", 1.0)
    conditions = {"skt": Condition(torch.zeros(32, 128), None)}

    def loss(outside, **changed):
        one = LatentInstance(**{**vars(image), **changed})
        with torch.no_grad():
            return denoising_loss([Drawn(one, "skt", 3)], conditions, pipeline, min_snr=None, outside=outside)

    inside, everywhere, half = (loss(outside) for outside in (0.0, 1.0, 0.5))
    # the mean with weights 1 on a quarter and `outside` on the rest
    beyond = (everywhere - inside / 4) * 4 / 3
    torch.testing.assert_close(half, (inside / 4 + beyond * 0.5 * 3 / 4) / (1 / 4 + 0.5 * 3 / 4))
    torch.testing.assert_close(loss(0.0, weight=0.25), inside / 4)


def test_images_are_encoded_once_each_and_stay_in_order(inputs):
    pipeline = load_model(inputs[0])
    sizes = [(32, 32), (16, 64), (32, 32)]
    one, wide, other = (
        Instance(torch.full((1, 3, *size), level), torch.ones(1, 1, *size), str(level), 1.0)
        for size, level in zip(sizes, (-0.5, 0.0, 0.5), strict=True)
    )
    images = [one, wide, wide, wide, other, one, one]
    found = encoded(iter(images), pipeline)
    assert [latent.prompt for latent in found] == [image.prompt for image in images]
    assert found[1] is found[3]
    assert len({id(latent) for latent in found}) == 4


def test_pixels_of_a_few_images_are_held_while_they_are_encoded(inputs):
    pipeline, given = load_model(inputs[0]), []

    def made():
        for _ in range(40):
            one = Instance(torch.zeros(1, 3, 32, 32), torch.ones(1, 1, 32, 32), "", 1.0)
            given.append(weakref.ref(one.image))
            assert sum(image() is not None for image in given) <= 12
            yield one

    assert len(encoded(made(), pipeline)) == 40
