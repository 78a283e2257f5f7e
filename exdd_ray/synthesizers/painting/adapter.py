"""Adapters: a LoRA, and words learnt with it, read from a folder and merged into a pipeline's networks."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from exdd_ray.errors import UserError
from exdd_ray.store.contents import content_digests
from exdd_ray.store.hashes import digest

LORA = "pytorch_lora_weights.safetensors"  # as diffusers calls it
PEFT_METADATA = "lora_adapter_metadata"  # ranks and alphas, as diffusers writes them
BASE, BASE_NAME = "exdd_base", "exdd_base_name"  # in a file's metadata: the model that it was trained on
WORDS = "exdd_words"  # likewise: the names of the files of its words
_ENCODERS = ("text_encoder", "text_encoder_2")

V = TypeVar("V")


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


def adapter_digest(file: Path) -> str:
    """Names an adapter by its content and that of the words beside it. Raises UserError as `read_metadata`."""
    read_metadata(file)
    words = [word for encoder in _ENCODERS for word in _word_files(file.parent, encoder)]
    contents = content_digests([file, *words])
    return digest(contents) if words else contents[0]


def merge_adapter(pipeline: Any, adapter: Adapter, model: str) -> None:
    """Merge an adapter into a pipeline's networks; its words join the tokenizers.

    Raises UserError for a file that is no safetensors file (a pickle runs code), that holds something else than a LoRA,
    whose words are not beside it, or that is of another base.
    """
    file, metadata = adapter.file, read_metadata(adapter.file)
    if metadata.get(BASE, adapter.base) != adapter.base:
        raise UserError(f"{file}: an adapter of {metadata.get(BASE_NAME, 'another model')}, not of {model}")
    if getattr(pipeline, "unet", None) is None:
        raise UserError(f"{file}: adapters are for Stable Diffusion 1, 2 and XL, and {model} has no UNet")
    if missing := [name for name in json.loads(metadata.get(WORDS, "[]")) if not file.with_name(name).is_file()]:
        raise UserError(f"{file}: the words that were learnt with it are not beside it: {', '.join(missing)}")
    for encoder in _encoders(pipeline):
        for word in _word_files(file.parent, encoder):
            _add_word(getattr(pipeline, encoder.replace("text_encoder", "tokenizer")), getattr(pipeline, encoder), word)
    networks = {part: dict(getattr(pipeline, part).named_modules()) for part in ("unet", *_encoders(pipeline))}
    for place, layer in _layers(pipeline, file, metadata).items():
        change = adapter.weight * layer.scale * layer.product()
        part, _, name = place.partition(".")
        layers = networks.get(part, {})
        # transformers has taken a level out of CLIP, which files of before it name
        weight = getattr(layers.get(name, layers.get(name.removeprefix("text_model."))), "weight", None)
        if weight is None or _plain(weight) != _plain(change):
            found = "none" if weight is None else f"one of {_plain(weight)}"
            raise UserError(
                f"{file}: an adapter of another base than {model}: its layer {place} is for weights of "
                f"{_plain(change)}, and the model has {found}"
            )
        weight.data += change.reshape(weight.shape).to(weight.device, weight.dtype)


def add_words(tokenizer: Any, words: Sequence[str]) -> None:
    """Have a tokenizer know words as one token each; not where they are a part of another word."""
    from transformers import AddedToken

    tokenizer.add_tokens([AddedToken(word, single_word=True) for word in words])


def _add_word(tokenizer: Any, encoder: Any, file: Path) -> None:
    try:
        ((word, vector),) = load_file(file).items()
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{file}: not the vector of one word") from error
    add_words(tokenizer, [word])
    encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    table = encoder.get_input_embeddings().weight.data
    if vector.shape != (1, table.shape[1]):
        raise UserError(
            f"{file}: a word of another base: its vector is {tuple(vector.shape)}, not (1, {table.shape[1]})"
        )
    table[tokenizer.convert_tokens_to_ids(word)] = vector[0]


def _word_files(folder: Path, encoder: str) -> list[Path]:
    return sorted(folder.glob(f"word-*-{encoder}.safetensors"))


def read_metadata(file: Path) -> Mapping[str, str]:
    """The metadata of an adapter's file. Raises UserError where there is none, or it is no safetensors file."""
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


@dataclass(frozen=True)
class _Layer:
    """The LoRA of a layer: A [r x in, or r x in x k x k], B [out x r, or out x r x 1 x 1], and alpha."""

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def scale(self) -> float:
        return self.alpha / self.down.shape[0]

    def product(self) -> Tensor:
        """B A [out x in, or out x in x k x k]."""
        return torch.einsum("or,ri...->oi...", self.up.flatten(1).float(), self.down.float())


def _layers(pipeline: Any, file: Path, metadata: Mapping[str, str]) -> dict[str, _Layer]:
    """Layer -> its LoRA, whether its names are peft's, diffusers' or kohya's."""
    tensors = load_file(file)
    if any("dora_scale" in name or "magnitude" in name for name in tensors):
        raise UserError(f"{file}: a DoRA: its magnitudes cannot be merged; train a LoRA")
    try:
        described = json.loads(metadata.get(PEFT_METADATA, "{}"))
        weights, alphas = pipeline.lora_state_dict(tensors, unet_config=pipeline.unet.config)
    except (ValueError, KeyError, IndexError) as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise UserError(f"{file}: not a LoRA that diffusers reads ({reason})") from error
    halves = dict[str, dict[str, Tensor]]()
    for name, value in _as_peft(weights).items():
        place, _, half = name.partition(".lora_")
        halves.setdefault(place, {})[half] = value
    if not halves:
        raise UserError(f"{file}: there is no LoRA in it")
    given = {name.removesuffix(".alpha").partition(".lora_")[0]: one for name, one in _as_peft(alphas or {}).items()}
    return {place: _layer(file, place, parts, given, described) for place, parts in halves.items()}


def _layer(
    file: Path, place: str, parts: Mapping[str, Tensor], alphas: Mapping[str, float], described: Mapping[str, Any]
) -> _Layer:
    down, up = parts.get("A.weight"), parts.get("B.weight")
    if down is None or up is None or len(parts) > 2 or down.ndim < 2 or up.ndim < 2 or down.shape[0] != up.shape[1]:
        found = ", ".join(f"{half or 'a tensor'} {tuple(value.shape)}" for half, value in sorted(parts.items()))
        raise UserError(f"{file}: {place} is not a LoRA, which is an A and a B of one rank: {found}")
    return _Layer(down, up, _alpha(place, alphas, described, rank=down.shape[0]))


def _as_peft(values: Mapping[str, V]) -> dict[str, V]:
    """The values by peft's names."""
    from diffusers.utils import convert_state_dict_to_peft, convert_unet_state_dict_to_peft
    from diffusers.utils.state_dict_utils import StateDictType

    unet = {name: value for name, value in values.items() if name.startswith("unet.")}
    others = {name: value for name, value in values.items() if name not in unet}
    # diffusers' old names of text encoders: the new ones are among them
    return {**convert_unet_state_dict_to_peft(unet), **convert_state_dict_to_peft(others, StateDictType.DIFFUSERS_OLD)}


def _plain(weight: Tensor) -> tuple[int, ...]:
    """Its shape; a 1 x 1 convolution is a linear layer."""
    shape = tuple(weight.shape)
    return shape[:2] if shape[2:] == (1, 1) else shape


def _alpha(place: str, alphas: Mapping[str, float], described: Mapping[str, Any], *, rank: int) -> float:
    """Of a layer's LoRA: as kohya's files or peft's metadata say, else its rank."""
    from peft.utils.other import get_pattern_key

    if place in alphas:
        return float(alphas[place])
    part, _, name = place.partition(".")
    patterns = described.get(f"{part}.alpha_pattern") or {}
    return float(patterns.get(get_pattern_key(list(patterns), name), described.get(f"{part}.lora_alpha", rank)))
