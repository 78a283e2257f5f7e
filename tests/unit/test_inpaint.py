"""The real pipeline on a small model of random weights: what it paints is noise, where and how often is what counts."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from exdd_ray.config.synthesis import InpaintConfig
from exdd_ray.data.catalog import CatalogRow, build_catalog, catalog_rows
from exdd_ray.data.images import read_image, read_mask
from exdd_ray.errors import ConfigError, DataError, UserError
from exdd_ray.miniature.networks import (
    Parts,
    make_autoencoder,
    make_text_encoder,
    make_tokenizer,
    make_unet,
    save_model,
)
from exdd_ray.procedural.surfaces import make_surface
from exdd_ray.store.artifact import Store
from exdd_ray.synthesis.chunk import CHUNK, INDEX, make_chunk
from exdd_ray.synthesis.masks import draw_mask
from exdd_ray.synthesis.paint import Painter, Scene, in_batches
from exdd_ray.synthesis.synthesize import plan_chunks, run_on_threads, synthesize

SIZE = (72, 96)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    folder = tmp_path_factory.mktemp("model") / "random"
    save_model(Parts(tokenizer, make_text_encoder(tokenizer), make_autoencoder(), make_unet()), folder)
    return folder


@pytest.fixture(scope="module")
def normal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("normal")
    rows = []
    for i in range(3):
        path = folder / f"{i}.png"
        Image.fromarray(make_surface("ceramic", SIZE, np.random.default_rng(i))).save(path)
        rows.append(
            CatalogRow(id=str(i), dataset="d", category="c", split="train", label=0, defect="good", image=str(path))
        )
    return build_catalog(rows)


@pytest.fixture
def config(model):
    return InpaintConfig(model=str(model), prompts=("scratch", "hole"), count=4, steps=2, size=(32, 32), filters=None)


def scenes_of(count):
    found = []
    for i in range(count):
        rng = np.random.default_rng(i)
        found.append(
            Scene(make_surface("wood", SIZE, rng), draw_mask("blob", SIZE, rng), ("scratch", "a hole")[i % 2], i)
        )
    return found


def made(config, normal, store, seed=0, **how):
    return synthesize(config, normal, normal.slice(0, 0), seed, store, **how)


def test_a_batch_of_any_scenes_is_what_the_pipeline_paints_one_by_one(model, config):
    from diffusers import AutoPipelineForInpainting

    scenes = scenes_of(3)
    pipeline = AutoPipelineForInpainting.from_pretrained(model, dtype=torch.float32)
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
    config = config.model_copy(update={"crop_padding": crop_padding})
    one, four = (
        Painter(config.model_copy(update={"run": config.run.model_copy(update={"batch": batch})})).paint(scenes)
        for batch in (1, 4)
    )
    for a, b in zip(one, four, strict=True):
        assert np.abs(a.astype(int) - b).max() <= 1


def test_composite_is_the_choice_where_all_is_painted(config):
    (scene,) = scenes_of(1)
    kept, painted = (
        Painter(config.model_copy(update={"crop_padding": None, "composite": composite})).paint([scene])[0]
        for composite in (True, False)
    )
    np.testing.assert_array_equal(kept[~scene.mask], scene.canvas[~scene.mask])
    np.testing.assert_array_equal(kept[scene.mask], painted[scene.mask])
    assert np.abs(painted.astype(int) - scene.canvas)[~scene.mask].mean() > 1


def test_fewer_are_a_prefix_of_more_and_a_killed_run_makes_only_what_is_missing(config, normal, tmp_path):
    config = config.model_copy(update={"count": CHUNK + 5})
    whole = made(config, normal, Store(tmp_path / "a"))

    def killed(store, jobs, advance):
        run_on_threads(store, jobs[:3], advance)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(config, normal, Store(tmp_path / "b"), run=killed)
    store = Store(tmp_path / "b")
    again = made(config, normal, store)
    assert (len(store.made), again.fresh, whole.fresh) == (1, CHUNK, 4 * CHUNK)
    few = made(config.model_copy(update={"count": 3}), normal, store)
    assert [s.row.id for s in few.samples] == [f"inpaint/{p}/{i:06d}" for p in config.prompts for i in range(3)]
    by_id = {sample.row.id: sample for sample in whole.samples}
    assert len(by_id) == 2 * config.count
    for sample in (*again.samples, *few.samples):
        twin = by_id[sample.row.id]
        np.testing.assert_array_equal(read_image(sample.row.image), read_image(twin.row.image))
        assert (sample.seed, sample.prompt) == (twin.seed, twin.prompt)
    assert len({sample.seed for sample in whole.samples}) == 2 * config.count
    other = made(config.model_copy(update={"count": 1}), normal, Store(tmp_path / "c"), seed=1)
    assert not np.array_equal(read_image(other.samples[0].row.image), read_image(few.samples[0].row.image))


def test_masks_backgrounds_and_index_belong_to_the_image(config, normal, tmp_path):
    synthesis = made(config.model_copy(update={"output": (36, 48)}), normal, Store(tmp_path))
    for sample in synthesis.samples:
        image, mask = read_image(sample.row.image), read_mask(sample.row.mask, sample.row.mask_threshold)
        assert image.shape == (36, 48, 3)
        background = np.asarray(Image.open(sample.background).resize((48, 36), Image.Resampling.BILINEAR))
        far = ~np.asarray(Image.fromarray(mask).convert("L").resize((48, 36)), dtype=bool)
        assert np.abs(image.astype(int) - background)[far].mean() < np.abs(image.astype(int) - background)[mask].mean()
    job = plan_chunks(config, normal, normal.slice(0, 0), 0)[0]
    artifact = make_chunk(Store(tmp_path / "other"), job)
    index = pq.read_table(artifact.file(INDEX))
    assert index.column_names == ["number", "prompt", "seed", "background", "fault", "fingerprint"]
    assert {"torch", "diffusers"} <= set(artifact.metadata["versions"])


def test_masks_of_positives_need_one(config, normal, tmp_path):
    config = InpaintConfig.model_validate({**config.model_dump(), "masks": {"source": "positives"}})
    with pytest.raises(DataError, match="needs a training defect that has a mask"):
        made(config, normal, Store(tmp_path))
    mask = tmp_path / "mask.png"
    Image.fromarray(np.pad(np.full((10, 20), 255, dtype=np.uint8), ((20, 42), (30, 46)))).save(mask)
    row = catalog_rows(normal)[0]
    defect = CatalogRow(
        id="d", dataset="d", category="c", split="train", label=1, defect="x", image=row.image, mask=str(mask)
    )
    found = synthesize(config, normal, build_catalog([defect]), 0, Store(tmp_path / "s"))
    for sample in found.samples:
        drawn = read_mask(sample.row.mask, sample.row.mask_threshold)
        np.testing.assert_array_equal(np.flatnonzero(drawn.any(axis=0)), np.arange(30, 50))


def test_one_sample_that_fails_does_not_lose_the_others(config, normal, tmp_path):
    row = catalog_rows(normal)[1]
    copy = tmp_path / "broken.png"
    copy.write_bytes(b"not an image")
    paths = [str(copy) if path == row.image else path for path in normal["image"].to_pylist()]
    broken = build_catalog(
        [r.__class__(**{**r.__dict__, "image": path}) for r, path in zip(catalog_rows(normal), paths, strict=True)]
    )
    config = config.model_copy(update={"count": CHUNK})
    synthesis = made(config, broken, Store(tmp_path / "s"))
    assert 0 < sum(synthesis.dropped.values()) < 2 * CHUNK
    assert len(synthesis.samples) + sum(synthesis.dropped.values()) == 2 * CHUNK
    assert all("broken.png" in reason for reason in synthesis.dropped)
    assert "synthetic samples dropped" in synthesis.remark[0]


def test_samples_of_nan_are_dropped_and_counted(model, config, normal, tmp_path):
    from safetensors.torch import load_file, save_file

    sick = tmp_path / "sick"
    shutil.copytree(model, sick)
    file = sick / "vae" / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    state["decoder.conv_out.bias"] = torch.full_like(state["decoder.conv_out.bias"], torch.nan)
    save_file(state, file)
    with pytest.raises(DataError, match="no synthetic sample is usable: 8 times: the model made NaN values"):
        made(config.model_copy(update={"model": str(sick)}), normal, Store(tmp_path / "s"))


def test_a_prompt_that_the_encoder_would_cut_is_refused(config, normal, tmp_path):
    config = config.model_copy(update={"prompts": ("a very long scratch " * 20,)})
    with pytest.raises(ConfigError, match="tokens, the model's encoder takes 32"):
        made(config, normal, Store(tmp_path))


def test_a_missing_model_is_one_error_that_names_the_ways(config, normal, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no such folder, and not a hub id"):
        made(config.model_copy(update={"model": str(tmp_path / "none")}), normal, Store(tmp_path / "s"))
    with pytest.raises(UserError, match="not a model in diffusers' format"):
        made(config.model_copy(update={"model": str(tmp_path)}), normal, Store(tmp_path / "s"))
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionInpaintPipeline"}))
    with pytest.raises(UserError, match="give synthesizer.model a local folder"):
        made(config.model_copy(update={"model": str(tmp_path)}), normal, Store(tmp_path / "s"))


def test_a_hub_id_without_network(config, normal, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    config = config.model_copy(update={"model": "exdd-ray/there-is-no-such-model"})
    with pytest.raises(
        UserError, match=r"no model exdd-ray/there-is-no-such-model: .* or use model=miniature"
    ) as caught:
        made(config, normal, Store(tmp_path))
    assert "\n" not in str(caught.value)


def test_sizes_that_the_model_cannot_work_at(config, normal, tmp_path):
    with pytest.raises(ConfigError, match="divisible by 8"):
        made(config.model_copy(update={"size": (31, 31)}), normal, Store(tmp_path))


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


def test_presets_and_settings():
    paper = InpaintConfig.model_validate({"preset": "paper", "count": 7})
    assert (paper.guidance, paper.strength, paper.crop_padding, paper.size) == (20, 0.99, 2, (1024, 1024))
    assert (paper.count, paper.output, paper.masks.source) == (7, (632, 224), "positives")
    with pytest.raises(ValueError, match="masks.folder is for masks.source=library"):
        InpaintConfig.model_validate({"masks": {"source": "library"}})


def tiny_flux(folder):
    """FLUX's fill pipeline, every part of its own class, of random weights."""
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxFillPipeline, FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    tokenizer = make_tokenizer()
    clip = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=77,
        projection_dim=32,
        eos_token_id=tokenizer.eos_token_id,
    )
    FluxFillPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKL(
            block_out_channels=(4,),
            latent_channels=1,
            norm_num_groups=1,
            shift_factor=0.06,
            scaling_factor=1.5,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        text_encoder=CLIPTextModel(clip),
        text_encoder_2=T5EncoderModel(
            T5Config(vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=37, num_layers=1, num_heads=4)
        ),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        transformer=FluxTransformer2DModel(
            patch_size=1,
            in_channels=12,
            out_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=True,
        ),
    ).save_pretrained(folder)


def test_flux_fill_paints_where_the_mask_says(tmp_path):
    tiny_flux(tmp_path / "flux")
    config = InpaintConfig(model=str(tmp_path / "flux"), prompts=("scratch",), steps=2, size=(32, 32), guidance=30)
    scenes = scenes_of(2)
    for scene, image in zip(scenes, Painter(config).paint(scenes), strict=True):
        np.testing.assert_array_equal(image[~scene.mask], scene.canvas[~scene.mask])
        assert np.abs(image.astype(int) - scene.canvas)[scene.mask].mean() > 5
    with pytest.raises(ConfigError, match="takes no negative prompt"):
        Painter(config.model_copy(update={"negative_prompt": "smooth"}))
