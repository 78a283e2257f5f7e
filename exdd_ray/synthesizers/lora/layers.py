"""The trained part of a model: LoRA layers on its networks, and vectors of new words; written as diffusers reads it."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from exdd_ray.errors import ConfigError
from exdd_ray.synthesizers.lora.config import TuningConfig
from exdd_ray.synthesizers.painting.adapter import BASE, BASE_NAME, LORA, PEFT_METADATA, WORDS, add_words, word_file
from exdd_ray.synthesizers.painting.denoiser import CONVOLUTIONAL, TRANSFORMER, encoders, layers_in
from exdd_ray.synthesizers.synthesizer import Model

Named = dict[str, nn.Parameter]

_ENCODER = ("CLIPEncoderLayer",)
_POOLED = "text_encoder_2"  # SDXL takes its encoding of the text's end, too
_LEGACY_END = 2  # in CLIP's old configs: the end of a text is then found as its highest number, which a new word has


class TrainedLayers(nn.Module):
    """What is trained of a pipeline: its checkpoint. The networks compute with these same parameters."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        self.names = tuple(parameters)
        for name, parameter in parameters.items():
            self.register_parameter(_flat(name), parameter)

    def tensors(self) -> dict[str, Tensor]:
        """Its parameters by their names in the pipeline, as `unet.mid_block….lora_A.weight`."""
        return {name: self.get_parameter(_flat(name)).detach() for name in self.names}


def add_layers(pipeline: Any, tuning: TuningConfig, seed: int) -> TrainedLayers:
    """Add LoRA layers to the pipeline's networks, whose own weights are frozen.

    With conv_rank they are those of LoRA-C3Lier: all linear layers and 1 x 1 convolutions of transformer and residual
    blocks, and the 3 x 3 convolutions of residual blocks, down- and upsamplers; without, those of the transformer
    blocks (kohya's sd-scripts). A layer starts as nothing: B is zero.

    Args:
        seed: of the layers' first values.
    """
    for part in ("vae", "unet", *encoders(pipeline)):
        getattr(pipeline, part).requires_grad_(False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        blocks = TRANSFORMER + (CONVOLUTIONAL if tuning.conv_rank else ())
        layers = dict(layers_in(pipeline.unet, blocks))
        spatial = [name for name, layer in layers.items() if getattr(layer, "kernel_size", (1, 1)) != (1, 1)]
        others = [name for name in layers if name not in spatial]
        found = _add(pipeline, "unet", tuning, others, spatial if tuning.conv_rank else ())
        for part in encoders(pipeline) if tuning.text_encoder else ():
            found |= _add(pipeline, part, tuning, [name for name, _ in layers_in(getattr(pipeline, part), _ENCODER)])
    found |= _learnt_words(pipeline, tuning)
    return TrainedLayers(found)


def write_adapter(layers: TrainedLayers, tuning: TuningConfig, model: Model, folder: Path) -> None:
    """Write the LoRA as `load_lora_weights` of diffusers takes it, and each new word as `load_textual_inversion` does.

    Ranks and alphas are in the file's metadata, where diffusers looks for them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = layers.tensors()
    lora = {name: value.cpu().contiguous() for name, value in tensors.items() if ".lora_" in name}
    words = []
    for name, value in tensors.items():
        if ".lora_" not in name:
            encoder, number, word = name.split("/", 2)
            words.append(word_file(folder, int(number), encoder))
            save_file({word: value.cpu().contiguous()[None]}, words[-1])
    how = {BASE: model.digest, BASE_NAME: model.name, WORDS: json.dumps([file.name for file in words])}
    save_file(lora, folder / LORA, {"format": "pt", PEFT_METADATA: _peft_metadata(lora, tuning), **how})


def split_words(tokenizer: Any, tuning: TuningConfig) -> list[str]:
    """The tuning's words that the tokenizer does not know as one token."""
    return [token.word for token in tuning.tokens if len(tokenizer.tokenize(token.word)) > 1]


def _flat(name: str) -> str:
    return name.replace(".", "|")


def _add(pipeline: Any, part: str, tuning: TuningConfig, names: Sequence[str], spatial: Sequence[str] = ()) -> Named:
    """The parameters of LoRA layers that are added to a network of the pipeline, by name."""
    from peft import LoraConfig as PeftConfig
    from peft import inject_adapter_in_model

    network, exactly = getattr(pipeline, part), [_exactly(name) for name in spatial]
    config = PeftConfig(
        r=tuning.rank,
        lora_alpha=tuning.alpha,  # type: ignore[arg-type]  # any number; only its quotient by the rank is taken
        target_modules=[*names, *spatial],
        rank_pattern=dict.fromkeys(exactly, tuning.conv_rank or 0),
        alpha_pattern=dict.fromkeys(exactly, tuning.conv_alpha),
    )
    inject_adapter_in_model(config, network)
    for name, parameter in network.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.float()  # small steps are lost in the half precision of frozen weights
    return {
        f"{part}.{name.replace('.default', '')}": parameter
        for name, parameter in network.named_parameters()
        if ".lora_" in name
    }


def _peft_metadata(tensors: Mapping[str, Tensor], tuning: TuningConfig) -> str:
    """Ranks and alphas of each part's layers, as diffusers hands them to peft."""
    described: dict[str, Any] = {}
    for part in sorted({name.partition(".")[0] for name in tensors}):
        downs = {name: value for name, value in tensors.items() if name.startswith(f"{part}.") and ".lora_A." in name}
        layers = {_layer(name): value.ndim == 4 and value.shape[-1] > 1 for name, value in downs.items()}
        spatial = [_exactly(name) for name, is_spatial in layers.items() if is_spatial]
        described |= {
            f"{part}.r": tuning.rank,
            f"{part}.lora_alpha": tuning.alpha,
            f"{part}.target_modules": list(layers),
            f"{part}.rank_pattern": dict.fromkeys(spatial, tuning.conv_rank),
            f"{part}.alpha_pattern": dict.fromkeys(spatial, tuning.conv_alpha),
        }
    return json.dumps(described)


def _layer(name: str) -> str:
    """The layer that `unet.<layer>.lora_A.weight` is of."""
    return name.partition(".")[2].partition(".lora_")[0]


def _exactly(name: str) -> str:
    """A pattern of peft that this layer alone matches."""
    return "^" + re.escape(name)


def _learnt_words(pipeline: Any, tuning: TuningConfig) -> Named:
    """Words that the tokenizers do not know, added to them: each vector begins as the mean of the word's parts."""
    found: Named = {}
    for encoder in encoders(pipeline):
        tokenizer, network = getattr(pipeline, encoder.replace("text_encoder", "tokenizer")), getattr(pipeline, encoder)
        words = split_words(tokenizer, tuning) if tuning.new_words else []
        if words and encoder == _POOLED and getattr(network.config, "eos_token_id", None) == _LEGACY_END:
            raise ConfigError(
                f"{encoder}: it finds the end of a text by the highest number of a token, which a new word would have: "
                "set tuning.new_words=false"
            )
        begun = [_mean_of_parts(tokenizer, network, word) for word in words]
        if words:
            add_words(tokenizer, words)
            network.resize_token_embeddings(len(tokenizer), mean_resizing=False)
            network.get_input_embeddings().requires_grad_(False)
        for number, (word, vector) in enumerate(zip(words, begun, strict=True)):
            found[f"{encoder}/{number}/{word}"] = nn.Parameter(vector)
            _read_from(network, tokenizer.convert_tokens_to_ids(word), found[f"{encoder}/{number}/{word}"])
    return found


def _read_from(network: Any, token: int, vector: nn.Parameter) -> None:
    """Have the encoder take a token's vector from a parameter, to which gradients then flow."""

    def with_vector(_: nn.Module, given: tuple[Tensor], embedded: Tensor) -> Tensor:
        return torch.where((given[0] == token)[..., None], vector.to(embedded.dtype), embedded)

    network.get_input_embeddings().register_forward_hook(with_vector)


def _mean_of_parts(tokenizer: Any, network: Any, word: str) -> Tensor:
    parts = tokenizer(word, add_special_tokens=False).input_ids
    vectors: Tensor = network.get_input_embeddings().weight[parts]
    return vectors.detach().float().mean(dim=0)
