"""Adapters: a LoRA, and words learnt with it, read from a folder and merged into a pipeline's networks."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from exdd_ray.errors import UserError

LORA = "pytorch_lora_weights.safetensors"  # as diffusers calls it
PEFT_METADATA = "lora_adapter_metadata"  # ranks and alphas, as diffusers writes them
BASE, BASE_NAME = "exdd_base", "exdd_base_name"  # in a file's metadata: the model that it was trained on
_ENCODERS = ("text_encoder", "text_encoder_2")


@dataclass(frozen=True)
class Adapter:
    """What a model is to paint with.

    Attributes:
        file: of the LoRA, in diffusers' format; files of learnt words lie beside it.
        weight: by which the LoRA is merged: alpha of W + alpha B A. 0 leaves the networks as they are, bit by bit.
        key: names file and weight.
        base: digest of the model that paints.
    """

    file: Path
    weight: float
    key: str
    base: str


def word_file(folder: Path, number: int, encoder: str) -> Path:
    """Where a learnt word lies: one vector of one encoder, as textual inversion stores it."""
    return folder / f"word-{number}-{encoder}.safetensors"


def merge_adapter(pipeline: Any, adapter: Adapter, model: str) -> None:
    """Merge an adapter into a pipeline's networks; its words join the tokenizers.

    Raises UserError for a file that is no safetensors file (a pickle runs code), or that is of another base.
    """
    metadata = read_metadata(adapter.file)
    if metadata.get(BASE, adapter.base) != adapter.base:
        raise UserError(f"{adapter.file}: an adapter of {metadata.get(BASE_NAME, 'another model')}, not of {model}")
    for encoder in _encoders(pipeline):
        for file in sorted(adapter.file.parent.glob(f"word-*-{encoder}.safetensors")):
            _add_word(getattr(pipeline, encoder.replace("text_encoder", "tokenizer")), getattr(pipeline, encoder), file)
    weights, alphas = pipeline.lora_state_dict(str(adapter.file.parent), weight_name=adapter.file.name)
    described = json.loads(metadata.get(PEFT_METADATA, "{}"))
    networks = {part: dict(getattr(pipeline, part).named_modules()) for part in ("unet", *_encoders(pipeline))}
    for place, (down, up) in _pairs(weights).items():
        part, _, name = place.partition(".")
        scale = _alpha(place, alphas or {}, described, rank=down.shape[0]) / down.shape[0]
        change = adapter.weight * scale * torch.einsum("or,ri...->oi...", up.flatten(1).float(), down.float())
        weight = getattr(networks.get(part, {}).get(name), "weight", None)
        if weight is None or _plain(weight) != _plain(change):
            found = "none" if weight is None else f"one of {_plain(weight)}"
            raise UserError(
                f"{adapter.file}: an adapter of another base than {model}: its layer {place} is for weights of "
                f"{_plain(change)}, and the model has {found}"
            )
        weight.data += change.reshape(weight.shape).to(weight.device, weight.dtype)


def _add_word(tokenizer: Any, encoder: Any, file: Path) -> None:
    ((word, vector),) = load_file(file).items()
    tokenizer.add_tokens([word])
    encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    encoder.get_input_embeddings().weight.data[tokenizer.convert_tokens_to_ids(word)] = vector[0]


def read_metadata(file: Path) -> Mapping[str, str]:
    """The metadata of an adapter's file. Raises UserError where there is none, or it is no safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            return dict(opened.metadata() or {})
    except FileNotFoundError:
        raise UserError(f"{file}: no such adapter") from None
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{file}: not a safetensors file; adapters in other formats, as pickles, are refused: they may run code"
        ) from error


def _encoders(pipeline: Any) -> list[str]:
    return [encoder for encoder in _ENCODERS if getattr(pipeline, encoder, None) is not None]


def _pairs(weights: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Layer -> its A and B, whichever of two ways they are called."""
    found = {}
    for key, value in weights.items():
        for down, up in ((".lora_A.", ".lora_B."), (".lora.down.", ".lora.up.")):
            if down in key:
                found[key.partition(down)[0]] = (value, weights[key.replace(down, up)])
    return found


def _plain(weight: Tensor) -> tuple[int, ...]:
    """Its shape; a 1 x 1 convolution is a linear layer."""
    shape = tuple(weight.shape)
    return shape[:2] if shape[2:] == (1, 1) else shape


def _alpha(place: str, alphas: Mapping[str, float], described: Mapping[str, Any], *, rank: int) -> float:
    """Of a layer's LoRA: as kohya's files or peft's metadata say, else its rank."""
    from peft.utils.other import get_pattern_key

    if f"{place}.alpha" in alphas:
        return float(alphas[f"{place}.alpha"])
    part, _, name = place.partition(".")
    patterns = described.get(f"{part}.alpha_pattern") or {}
    return float(patterns.get(get_pattern_key(list(patterns), name), described.get(f"{part}.lora_alpha", rank)))
