"""Synthesis with a small model of random weights: what it paints is noise, where and how often is what counts."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from inpaint_inputs import make_ceramic, make_random_model
from PIL import Image
from scipy.ndimage import binary_dilation, gaussian_filter, laplace

from exdd_ray.data.catalog import CatalogRow, build_catalog, catalog_rows
from exdd_ray.data.images import read_image
from exdd_ray.data.masks import read_mask, read_pair
from exdd_ray.errors import ConfigError, DataError, UserError
from exdd_ray.methods.classifier.config import ClassifierConfig
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.chunk import INDEX, in_groups, make_chunks
from exdd_ray.synthesizers.config import FilterConfig
from exdd_ray.synthesizers.inpaint.config import InpaintConfig
from exdd_ray.synthesizers.job import CHUNK
from exdd_ray.synthesizers.painting.config import MASK_SHAPES
from exdd_ray.synthesizers.painting.model import revision_of
from exdd_ray.synthesizers.plan import plan_chunks
from exdd_ray.synthesizers.synthesize import synthesize
from exdd_ray.synthesizers.table import samples_of_prompts


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return make_random_model(tmp_path_factory.mktemp("model") / "random")


@pytest.fixture(scope="module")
def normal(tmp_path_factory):
    return make_ceramic(tmp_path_factory.mktemp("normal"))


def made(config, normal, store, seed=0, **how):
    return synthesize(config, normal, normal.slice(0, 0), seed, store, **how)


def test_masks_backgrounds_and_index_belong_to_the_image(config, normal, tmp_path):
    synthesis = made(config.model_copy(update={"output": (36, 48)}), normal, Store(tmp_path))
    for sample in synthesis.samples:
        image, mask = read_image(sample.row.image), read_mask(sample.row.mask, sample.row.mask_threshold)
        assert image.shape == (36, 48, 3)
        background = np.asarray(Image.open(sample.background).resize((48, 36), Image.Resampling.BILINEAR))
        far = ~np.asarray(Image.fromarray(mask).convert("L").resize((48, 36)), dtype=bool)
        assert np.abs(image.astype(int) - background)[far].mean() < np.abs(image.astype(int) - background)[mask].mean()
    job = plan_chunks(config, normal, normal.slice(0, 0), 0)[0]
    (artifact,) = make_chunks(Store(tmp_path / "other"), [job])
    index = pq.read_table(artifact.file(INDEX)).to_pylist()
    assert {row["model"] for row in index} == {config.model}
    assert {row["revision"] for row in index} == {revision_of(config)}
    assert artifact.metadata["model"] == f"{config.model}@{revision_of(config)}"
    assert {row["mask_source"] for row in index} <= set(MASK_SHAPES)
    assert all("diffusers" in row["versions"] for row in index)
    assert [sample.mask_source for sample in synthesis.samples][::2] == [row["mask_source"] for row in index][:4]


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


def test_an_unreadable_background_is_named_and_another_one_drawn(config, normal, tmp_path):
    row = catalog_rows(normal)[1]
    copy = tmp_path / "broken.png"
    copy.write_bytes(b"not an image")
    paths = [str(copy) if path == row.image else path for path in normal["image"].to_pylist()]
    broken = build_catalog(
        [r.__class__(**{**r.__dict__, "image": path}) for r, path in zip(catalog_rows(normal), paths, strict=True)]
    )
    config = config.model_copy(update={"count": 2 * CHUNK})
    synthesis = made(config, broken, Store(tmp_path / "s"))
    whole = made(config, normal, Store(tmp_path / "whole"))
    assert (len(synthesis.samples), synthesis.dropped) == (2 * CHUNK, {})
    assert str(copy) not in {sample.background for sample in synthesis.samples}
    (remark,) = synthesis.remark
    assert "drawn" in remark
    assert str(copy) in remark
    spared = [
        (one.background == other.background, np.array_equal(read_image(one.row.image), read_image(other.row.image)))
        for one, other in zip(synthesis.samples, whole.samples, strict=True)
        if other.background != row.image
    ]
    assert set(spared) == {(True, True)}
    assert 0 < len(spared) < 2 * CHUNK
    only = build_catalog([r for r in catalog_rows(broken) if r.image == str(copy)])
    with pytest.raises(DataError, match="no synthetic sample is usable: 40 times: .*broken.png: not an image"):
        made(config, only, Store(tmp_path / "none"))


def test_samples_of_nan_are_dropped_and_counted(config, normal, tmp_path):
    from safetensors.torch import load_file, save_file

    sick = tmp_path / "sick"
    shutil.copytree(config.model, sick)
    file = sick / "vae" / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    state["decoder.conv_out.bias"] = torch.full_like(state["decoder.conv_out.bias"], torch.nan)
    save_file(state, file)
    with pytest.raises(DataError, match="no synthetic sample is usable: 16 times: the model made NaN values"):
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


def test_a_batch_larger_than_a_chunk_paints_chunks_together(config, normal, tmp_path):
    config = config.model_copy(update={"count": 24})
    batches = {}
    for batch in (10, 25):
        store = Store(tmp_path / str(batch))
        run = config.run.model_copy(update={"batch": batch})
        batches[batch] = made(config.model_copy(update={"run": run}), normal, store)
        assert len(store.made) == 4
    assert [len(group) for group in in_groups(plan_chunks(config, normal, normal.slice(0, 0), 0))] == [1, 1, 1, 1]
    wide = config.model_copy(update={"run": config.run.model_copy(update={"batch": 25})})
    assert [len(group) for group in in_groups(plan_chunks(wide, normal, normal.slice(0, 0), 0))] == [3, 1]
    for one, other in zip(batches[10].samples, batches[25].samples, strict=True):
        assert one.row.id == other.row.id
        assert np.abs(read_image(one.row.image).astype(int) - read_image(other.row.image)).max() <= 1


def test_filters_and_unused_keys_do_not_make_samples_anew(config, normal, tmp_path):
    store = Store(tmp_path)
    all_of_them = made(config, normal, store)
    strict = config.model_copy(update={"filters": FilterConfig(min_inside=255)})
    with pytest.raises(DataError, match="16 times: unchanged inside the mask"):
        made(strict, normal, store)
    unused = config.model_copy(update={"composite": not config.composite, "revision": "main"})
    again = made(unused, normal, store)
    assert (again.fresh, again.samples) == (0, all_of_them.samples)


def test_sizes_that_the_model_cannot_work_at(config, normal, tmp_path):
    with pytest.raises(ConfigError, match="size 31 x 31 is not divisible by 2, as "):
        made(config.model_copy(update={"size": (31, 31)}), normal, Store(tmp_path))


def test_presets_and_settings():
    assert samples_of_prompts(InpaintConfig(preset="paper")) == {
        "white marks on the wall": 50,
        "copper metal scratches": 50,
    }
    paper = InpaintConfig.model_validate({"preset": "paper", "count": 7})
    assert list(samples_of_prompts(paper).values()) == [4, 3]
    assert (paper.guidance, paper.strength, paper.crop_padding, paper.size) == (20, 0.99, 2, (1024, 1024))
    assert (paper.count, paper.output, paper.masks.source) == (7, (632, 224), "positives")
    assert paper.working_size == (632, 224)
    with pytest.raises(ValueError, match="masks.folder is for masks.source=library"):
        InpaintConfig.model_validate({"masks": {"source": "library"}})


def energy(image, where):
    """Mean square of the Laplacian of the grey values."""
    return (laplace(image.astype(float).mean(axis=-1), mode="nearest")[where] ** 2).mean()


def seen(row, features):
    """An image as the classifier gets it, but for the normalisation: uint8 [704 x 256 x 3]."""
    image, _ = read_pair(replace(row, mask=None), working_size=features.working_size)
    height, width = features.resize
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def test_unpainted_pixels_are_resampled_as_the_authors_do(config, tmp_path):
    """Real and synthetic images of DIAG start from files of 632 x 224; what still tells them apart is the canvas."""
    noise = gaussian_filter(np.random.default_rng(0).normal(size=(630, 230, 3)), (0.95, 0.95, 0))
    image = np.clip(128 + 40 * noise / noise.std(), 0, 255).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "noise.png")
    row = replace(catalog_rows(make_ceramic(tmp_path))[0], image=str(tmp_path / "noise.png"))
    names = ("canvas", "output", "resample", "crop_padding")
    paper = {name: getattr(InpaintConfig(preset="paper"), name) for name in names}

    def ratio(working_size):
        """Energy where nothing was painted, synthetic over real, at the classifier's size."""
        features = ClassifierConfig(preset="diag").features.model_copy(update={"working_size": working_size})
        given = config.model_copy(update={**paper, "prompts": ("scratch",), "count": 4, "working_size": working_size})
        found = []
        for sample in made(given, build_catalog([row]), Store(tmp_path / f"{working_size}")).samples:
            mask = Image.fromarray(read_mask(sample.row.mask, 127)).resize(features.resize[::-1])
            far = ~binary_dilation(np.asarray(mask), iterations=12)
            found.append(energy(seen(sample.row, features), far) / energy(seen(row, features), far))
        return np.mean(found)

    chosen = ClassifierConfig(preset="diag").features.working_size
    assert InpaintConfig(preset="paper").working_size == chosen == (632, 224)
    assert ratio(chosen) == pytest.approx(0.84, abs=0.01)
    assert ratio(None) == pytest.approx(0.77, abs=0.02)  # the resampling alone told them apart
