"""DreamBooth-LoRA: what is learnt is merged, kept, gone on with, and read by diffusers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from lora_inputs import quick_config
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tuning_inputs import cut_off, first_job, make_inputs, tune_for, tuned

from exdd_ray.data.catalog import build_catalog, catalog_rows
from exdd_ray.data.images import read_image
from exdd_ray.data.masks import grown, read_pair
from exdd_ray.errors import ConfigError, DataError, UserError
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.lora.tune import epoch_folder
from exdd_ray.synthesizers.painting.adapter import BASE, LORA
from exdd_ray.synthesizers.synthesize import synthesize
from exdd_ray.synthesizers.table import any_synthesizer
from exdd_ray.training.learner import TrainingError


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def artifact(inputs, store):
    model, normal, defects = inputs
    return tuned(quick_config(model), normal, defects, store)


def images_of(config, normal, defects, store):
    return [read_image(sample.row.image) for sample in synthesize(config, normal, defects, 0, store).samples]


def test_an_adapter_changes_what_is_painted_and_with_no_weight_the_base_models_bits_are(inputs, store, artifact):
    model, normal, defects = inputs
    merged = images_of(quick_config(model, {"new_words": False}), normal, defects, store)
    unmerged = images_of(quick_config(model, {"new_words": False}, merge=0.0), normal, defects, store)
    base = images_of(quick_config(model, tuning=None, prompts=("skt",)), normal, defects, store)
    earlier = images_of(quick_config(model, {"new_words": False}, epoch=1), normal, defects, store)
    np.testing.assert_array_equal(unmerged, base)
    assert not np.array_equal(merged, base)
    assert not np.array_equal(merged, earlier)


def test_convolutions_are_trained_where_they_have_a_rank_and_only_there(inputs, store, artifact):
    model, normal, defects = inputs
    with_convolutions = load_file(epoch_folder(artifact.folder, 3) / LORA)
    spatial = [name for name, value in with_convolutions.items() if ".lora_A." in name and value.shape[-1] == 3]
    assert {value.shape[0] for name, value in with_convolutions.items() if name in spatial} == {1}
    for name in spatial:
        assert with_convolutions[name.replace("lora_A", "lora_B")].abs().max() > 0
    assert any("resnets" in name for name in spatial)
    assert any("samplers" in name for name in spatial)
    alone = tuned(quick_config(model, {"conv_rank": None, "epochs": 1}), normal, defects, store)
    linear = load_file(epoch_folder(alone.folder, 1) / LORA)
    assert linear
    assert all("attentions" in name for name in linear)


def test_a_killed_run_goes_on_from_any_checkpoint_to_the_bits_of_an_uninterrupted_one(inputs, artifact, tmp_path):
    model, normal, defects = inputs
    config, store = quick_config(model), Store(tmp_path)
    job = first_job(config, normal, defects)

    with pytest.raises(KeyboardInterrupt):
        tune_for(job, store, cut_off(5))  # of 6: two epochs are saved, the third is under way
    saved = sorted((store.root / "unfinished").glob("adapters-*/step-*"))
    assert [folder.name for folder in saved] == ["step-00000002", "step-00000004"]
    for file in saved[1].iterdir():
        file.unlink()
    saved[1].rmdir()
    resumed = tuned(config, normal, defects, store)
    assert resumed.key == artifact.key
    for epoch in (1, 2, 3):
        one, other = (load_file(epoch_folder(made.folder, epoch) / LORA) for made in (resumed, artifact))
        assert one.keys() == other.keys()
        assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_plain_diffusers_pipeline_paints_with_the_file_what_is_painted_here(inputs, store):
    from diffusers import StableDiffusionInpaintPipeline

    model, normal, defects = inputs
    config = quick_config(model, crop_padding=None, composite=False, canvas=(32, 32), margin=0, colours="model")
    folder = epoch_folder(tuned(config, normal, defects, store).folder, 3)
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(model, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_textual_inversion(str(folder / "word-0-text_encoder.safetensors"))
    pipeline.load_lora_weights(str(folder))
    made = synthesize(config, normal, defects, 0, store).samples[0]
    background = Image.fromarray(read_image(made.background)).resize((32, 32), Image.Resampling.BILINEAR)
    mask = Image.fromarray(read_pair(made.row)[1].astype(np.uint8) * 255)
    painted = pipeline(
        prompt="skt",
        image=background,
        mask_image=mask,
        height=32,
        width=32,
        strength=config.strength,
        num_inference_steps=2,
        guidance_scale=config.guidance,
        generator=torch.Generator().manual_seed(made.seed),
    ).images[0]
    difference = np.abs(np.asarray(painted).astype(int) - read_image(made.row.image))
    assert difference.max() <= 2
    base = synthesize(config.model_copy(update={"merge": 0.0}), normal, defects, 0, store).samples[0]
    assert np.abs(read_image(base.row.image).astype(int) - read_image(made.row.image)).mean() > 5


def test_an_adapter_of_another_base_is_refused_by_name(inputs, artifact, tmp_path):
    model, normal, defects = inputs
    own = epoch_folder(artifact.folder, 3) / LORA
    config = {"tuning": None, "prompts": ("hole",)}
    taken = quick_config(model, adapter=str(own), **config)
    assert len(synthesize(taken, normal, defects, 0, Store(tmp_path / "s")).samples) == 3
    others = quick_config("miniature", adapter=str(own), **config)
    with pytest.raises(UserError, match=f"an adapter of {model}, not of miniature"):
        synthesize(others, normal, defects, 0, Store(tmp_path / "s"))
    nameless = tmp_path / "nameless" / LORA
    nameless.parent.mkdir()
    tensors = load_file(own)
    smaller = {name: value[:, :-1].contiguous() for name, value in tensors.items() if ".lora_A." in name}
    save_file({**tensors, **smaller}, nameless)
    unfit = quick_config(model, adapter=str(nameless), **config)
    with pytest.raises(UserError, match="an adapter of another base than .*model: its layer unet.* is for "):
        synthesize(unfit, normal, defects, 0, Store(tmp_path / "s"))


@pytest.mark.parametrize("name", ["adapter.bin", "adapter.safetensors"])
def test_a_pickle_is_refused_whatever_it_is_called(name, inputs, tmp_path):
    model, normal, defects = inputs
    torch.save({"unet.lora": torch.zeros(2)}, tmp_path / name)
    config = quick_config(model, tuning=None, prompts=("hole",), adapter=str(tmp_path / name))
    with pytest.raises(UserError, match=f"{name}: not a safetensors file; .*pickles, are refused"):
        synthesize(config, normal, defects, 0, Store(tmp_path / "s"))


def test_too_few_images_for_a_batch_and_none_at_all_are_said(inputs, tmp_path):
    model, normal, defects = inputs
    few = quick_config(model, {"training": {"batch": 32}})
    with pytest.raises(DataError, match="4 training images are fewer than a batch of 32: lower the batch"):
        synthesize(few, normal, defects, 0, Store(tmp_path))
    with pytest.raises(DataError, match="tuning.images=defects needs a training defect that has a mask; there is none"):
        synthesize(quick_config(model), normal, defects.slice(0, 0), 0, Store(tmp_path))
    strange = quick_config(model, {"tokens": [{"word": "skt", "kind": "dent"}]})
    with pytest.raises(DataError, match=r"no training defect is of kind 'dent' \(there: spot\)"):
        synthesize(strange, normal, defects, 0, Store(tmp_path))


def test_a_word_that_the_tokenizer_splits_is_said(inputs, store, artifact):
    model, normal, defects = inputs
    split = synthesize(quick_config(model, {"new_words": False}), normal, defects, 0, store)
    assert any(remark.startswith("the tokenizer splits the word 'skt' into ") for remark in split.remark)
    assert not synthesize(quick_config(model), normal, defects, 0, store).remark


def test_a_new_word_and_the_text_encoder_are_learnt(inputs, store):
    model, normal, defects = inputs
    config = quick_config(model, {"text_encoder": True, "epochs": 2})
    folders = [epoch_folder(tuned(config, normal, defects, store).folder, epoch) for epoch in (1, 2)]
    words = [load_file(folder / "word-0-text_encoder.safetensors")["skt"] for folder in folders]
    assert words[0].shape == (1, 128)
    assert not torch.equal(*words)
    encoder = {name: value for name, value in load_file(folders[1] / LORA).items() if name.startswith("text_encoder.")}
    assert all(value.abs().max() > 0 for name, value in encoder.items() if ".lora_B." in name)
    assert {name.split(".")[-3] for name in encoder} >= {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"}


def test_each_kind_has_its_own_word_and_kinds_without_are_left_out(inputs, tmp_path):
    model, normal, defects = inputs
    rows = catalog_rows(defects)
    several = build_catalog([rows[0], replace(rows[1], defect="dent")])
    both = quick_config(model, {"tokens": [{"word": "skt", "kind": "spot"}, {"word": "sks", "kind": "dent"}]})
    assert both.prompts == ("skt", "sks")
    artifact = tuned(both, normal, several, Store(tmp_path))
    assert artifact.metadata["images"] == 4
    alone = quick_config(model, {"tokens": [{"word": "skt", "kind": "spot"}]})
    assert tuned(alone, normal, several, Store(tmp_path)).metadata["images"] == 2
    one = quick_config(
        model, {"shots": 1, "tokens": [{"word": "skt", "kind": "spot"}, {"word": "sks", "kind": "dent"}]}
    )
    with pytest.raises(DataError, match="tuning.shots=1 leaves no defect of kind '(spot|dent)' to learn"):
        synthesize(one, normal, several, 0, Store(tmp_path))


def test_regularisation_images_are_painted_by_the_untuned_model_and_kept(inputs, tmp_path):
    model, normal, defects = inputs
    store = Store(tmp_path)
    prior = {"prior_weight": 1.0, "prior_images": 3, "class_prompt": "scratch", "epochs": 1}
    artifact = tuned(quick_config(model, prior), normal, defects, store)
    assert artifact.metadata["images"] == 8  # as many regularisation images as instances
    untuned = synthesize(quick_config(model, tuning=None, prompts=("scratch",)), normal, defects, 0, store)
    assert untuned.fresh == 0


def test_what_is_painted_reaches_a_margin_beyond_the_mask_that_is_kept(inputs, store):
    model, normal, defects = inputs
    for margin in (0, 2):
        config = quick_config(model, tuning=None, prompts=("skt",), margin=margin, masks={"shapes": ("blob",)})
        for sample in synthesize(config, normal, defects, 0, store).samples:
            image, mask = read_pair(sample.row)
            changed = (image != read_image(sample.background)).any(axis=2)
            assert not changed[~grown(mask, margin)].any()
            assert changed[grown(mask, margin) & ~mask].any() == (margin > 0)


def test_defects_are_learnt_in_their_own_masks_and_painted_into_such_unless_others_are_given(inputs, store, artifact):
    model, normal, defects = inputs
    own, drawn = quick_config(model, masks={}), quick_config(model)
    assert (own.masks.source, own.masks.placed, drawn.masks.source) == ("positives", "moved", "procedural")
    assert tuned(drawn, normal, defects, store).key == artifact.key
    assert tuned(quick_config(model, margin=0), normal, defects, store).key != artifact.key
    normals = [
        quick_config(model, {"images": "normal", "epochs": 1}, masks=masks) for masks in ({}, {"shapes": ("line",)})
    ]
    assert {config.masks.source for config in normals} == {"procedural"}
    assert len({tuned(config, normal, defects, store).key for config in normals}) == 2


def test_masks_in_which_normal_images_are_learnt_are_in_the_key(inputs):
    model, normal, defects = inputs
    config = quick_config(model, {"images": "normal"}, masks={"source": "positives"})
    keys = [first_job(config, normal, some).training.key for some in (defects, defects.slice(0, 1))]
    assert keys[0] != keys[1]


def test_a_prompt_that_would_be_cut_is_refused(inputs, tmp_path):
    model, normal, defects = inputs
    config = quick_config(model, {"prompt": "{token}" + " hole" * 100}, prompts=("skt",))
    with pytest.raises(ConfigError, match="has 10. tokens, the model's encoder takes"):
        tune_for(first_job(config, normal, defects), Store(tmp_path))


def test_whole_images_have_no_masks(inputs, tmp_path):
    model, normal, defects = inputs
    config = quick_config(model, base="text_to_image")
    synthesis = synthesize(config, normal, defects, 0, Store(tmp_path))
    assert [sample.row.mask for sample in synthesis.samples] == [None] * 3
    images = [read_image(sample.row.image) for sample in synthesis.samples]
    assert {image.shape for image in images} == {(32, 32, 3)}
    assert not np.array_equal(images[0], images[1])


def test_a_loss_that_is_not_finite_stops_and_the_last_good_checkpoint_stays(inputs, tmp_path):
    model, normal, defects = inputs
    store = Store(tmp_path)
    burst = quick_config(model, {"learning_rate": 1e18, "epochs": 20, "training": {"max_grad_norm": None}})
    with pytest.raises(TrainingError, match="is not finite|the loss is (nan|inf)"):
        synthesize(burst, normal, defects, 0, store)
    assert not list(store.root.glob("adapters-*"))


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="tuning makes an adapter, and adapter names one"):
        quick_config("miniature", adapter="a.safetensors")
    with pytest.raises(ValueError, match="epoch=2 is not kept: tuning keeps the adapters of 3"):
        quick_config("miniature", {"keep_every": 3}, epoch=2)
    with pytest.raises(ValueError, match="has no place for a word"):
        quick_config("miniature", {"prompt": "a defect"})
    with pytest.raises(ValueError, match=r"lora\.tuning\.epochs\n"):
        any_synthesizer().validate_python({"kind": "lora", "tuning": {"epochs": 0}})
    for key in ("tuning", "masks"):
        with pytest.raises(ValueError, match=rf"lora\.{key}\n.*should be"):
            any_synthesizer().validate_python({"kind": "lora", key: 5})
    with pytest.raises(ValueError, match=r"size=\(0, 64\): sides are at least one pixel"):
        quick_config("miniature", size=(0, 64))
    with pytest.raises(ValueError, match="words that differ in case alone"):
        quick_config("miniature", {"tokens": [{"word": "skt", "kind": "a"}, {"word": "SKT", "kind": "b"}]})
    with pytest.raises(ValueError, match="base=text_to_image paints whole images"):
        quick_config("miniature", base="text_to_image", crop_padding=4)


def test_the_file_says_its_base(artifact, inputs):
    with safe_open(epoch_folder(artifact.folder, 3) / LORA, "pt") as opened:
        assert len(opened.metadata()[BASE]) > 20


def test_a_model_without_unet_is_refused(monkeypatch, inputs, tmp_path):
    from diffusers import StableDiffusionInpaintPipeline

    model, normal, defects = inputs
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(model, safety_checker=None)
    pipeline.unet = None
    monkeypatch.setattr("exdd_ray.synthesizers.painting.denoiser.fresh_pipeline", lambda _: pipeline)
    with pytest.raises(ConfigError, match="has no UNet: synthesizer.kind=lora tunes Stable Diffusion 1, 2 and XL"):
        tune_for(first_job(quick_config(model), normal, defects), Store(tmp_path))
