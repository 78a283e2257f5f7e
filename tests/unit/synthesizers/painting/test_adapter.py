"""Adapters from files: whichever names they have, and nothing that is not understood is passed over."""

import shutil
from pathlib import Path

import pytest
import torch
from lora_inputs import quick_config
from safetensors.torch import load_file, save_file
from tuning_inputs import make_inputs, tuned

from exdd_ray.errors import UserError
from exdd_ray.store.artifact import Store
from exdd_ray.synthesizers.lora.tune import epoch_folder
from exdd_ray.synthesizers.painting.adapter import (
    LORA,
    PEFT_METADATA,
    Adapter,
    adapter_digest,
    add_words,
    merge_adapter,
)
from exdd_ray.synthesizers.painting.model import fresh_pipeline, model_digest
from exdd_ray.weights.miniature.networks import make_tokenizer

ALPHAS = {"alpha": 4, "conv_alpha": 16}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def own(model, tmp_path_factory):
    """An adapter's file, with a word beside it."""
    config = quick_config(model[0], {"text_encoder": True, "epochs": 1, **ALPHAS})
    return epoch_folder(tuned(config, *model[1:], Store(tmp_path_factory.mktemp("store"))).folder, 1) / LORA


def merged(file, model):
    """The networks of a model with an adapter, without the vectors of words."""
    config = quick_config(model[0])
    pipeline = fresh_pipeline(config)
    merge_adapter(pipeline, Adapter(Path(file), 1.0, "", model_digest(config)), model[0])
    parts = [pipeline.unet.state_dict(), pipeline.text_encoder.state_dict()]
    return {name: value for part in parts for name, value in part.items() if "token_embedding" not in name}


def written(folder, tensors, metadata=None):
    folder.mkdir()
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / LORA, metadata)
    return folder / LORA


def as_kohya(tensors):
    """The tensors by the names of kohya's sd-scripts, and their alphas."""
    found = {}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        layer, _, half = rest.partition(".lora_")
        prefix = {"unet": "lora_unet", "text_encoder": "lora_te_text_model"}[part]
        place = f"{prefix}_{layer.replace('.', '_')}"
        found[f"{place}.{'lora_down' if half[0] == 'A' else 'lora_up'}.weight"] = value
        if half[0] == "A":
            found[f"{place}.alpha"] = torch.tensor(
                float(ALPHAS["conv_alpha" if value.shape[2:] == (3, 3) else "alpha"])
            )
    return found


def test_a_file_of_kohya_is_merged_whole(own, model, tmp_path):
    ours = merged(own, model)
    kohyas = merged(written(tmp_path / "kohya", as_kohya(load_file(own))), model)
    plain = fresh_pipeline(quick_config(model[0])).text_encoder.state_dict()
    assert all(torch.equal(value, kohyas[name]) for name, value in ours.items())
    assert any(not torch.equal(value, ours[name]) for name, value in plain.items() if name in ours)


def unfit(kind, tensors):
    first = next(name for name, value in tensors.items() if ".lora_A." in name and len(value) > 1)
    return {
        "other rank": {**tensors, first: tensors[first][:1]},
        "half": {name: value for name, value in tensors.items() if name != first.replace("lora_A", "lora_B")},
        "weights": {"conv_in.weight": torch.zeros(2, 2)},
        "nothing": {},
        "dora": {**tensors, "unet.conv_in.dora_scale": torch.ones(2)},
    }[kind]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("other rank", r"is not a LoRA, which is an A and a B of one rank: A.weight \(1, .*B.weight \(.*, 2\)"),
        ("half", "is not a LoRA, which is an A and a B of one rank: A.weight"),
        ("weights", "conv_in.weight is not a LoRA"),
        ("nothing", "there is no LoRA in it"),
        ("dora", "a DoRA: its magnitudes cannot be merged"),
    ],
)
def test_what_is_not_a_lora_is_refused(kind, message, own, model, tmp_path):
    file = written(tmp_path / "unfit", unfit(kind, load_file(own)))
    with pytest.raises(UserError, match=message):
        merged(file, model)


def test_metadata_that_cannot_be_read_are_said(own, model, tmp_path):
    file = written(tmp_path / "damaged", load_file(own), {PEFT_METADATA: "{"})
    with pytest.raises(UserError, match="not a LoRA that diffusers reads"):
        merged(file, model)


def test_words_belong_to_their_adapter(own, model, tmp_path):
    copy = tmp_path / LORA
    shutil.copy(own, copy)
    with pytest.raises(UserError, match="learnt with it are not beside it: word-0-text_encoder.safetensors"):
        merged(copy, model)
    word = tmp_path / "word-0-text_encoder.safetensors"
    shutil.copy(own.with_name(word.name), word)
    assert adapter_digest(copy) == adapter_digest(own)
    save_file({"skt": torch.zeros(1, 128)}, word)
    assert adapter_digest(copy) != adapter_digest(own)
    save_file({"skt": torch.zeros(1, 7)}, word)
    with pytest.raises(UserError, match="a word of another base"):
        merged(copy, model)


def test_a_word_is_not_taken_for_a_part_of_another():
    tokenizer = make_tokenizer()
    hole = tokenizer.tokenize("a hole")
    add_words(tokenizer, ["hol"])
    assert tokenizer.tokenize("a hole") == hole
    assert "hol" in tokenizer.tokenize("a hol, dark")
