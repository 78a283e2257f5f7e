"""The trained part of a pipeline for pairs: processors of its UNet's attention, and a LoRA on its text encoder."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from exdd_ray.errors import ConfigError
from exdd_ray.synthesizers.dualanodiff.attention import BackgroundMix, DualProcessor, Saim
from exdd_ray.synthesizers.dualanodiff.config import BackgroundConfig, DualTuningConfig
from exdd_ray.synthesizers.painting.denoiser import CONVOLUTIONAL, TRANSFORMER, encoders, layers_in

_TEXT_LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj")
_SELF, _CROSS = "attn1", "attn2"
_ABSENT = ("group_norm", "spatial_norm", "norm_q", "norm_k", "norm_cross", "added_kv_proj_dim")


class DualLayers(nn.Module):
    """What is trained of a pipeline: its checkpoint. The networks compute with these same parameters.

    Attributes:
        branches: that are denoised together, in this order of rows: whole images, their parts, and backgrounds.
    """

    def __init__(self, processors: dict[str, DualProcessor], others: dict[str, nn.Parameter], branches: int) -> None:
        super().__init__()
        self.processors = nn.ModuleDict({_flat(name): one for name, one in processors.items()})
        self.others = nn.ParameterDict({_flat(name): one for name, one in others.items()})
        self.branches = branches


def add_branches(pipeline: Any, tuning: DualTuningConfig, seed: int) -> DualLayers:
    """Have a pipeline's UNet denoise whole images and their parts together; its own weights are frozen.

    Args:
        seed: of the layers' first values.

    Raises:
        ConfigError: a UNet whose attention is not Stable Diffusion's.
    """
    for part in ("vae", "unet", *encoders(pipeline)):
        getattr(pipeline, part).requires_grad_(False)
    branches = 2 if tuning.background is None else 3
    processors, others = {}, dict[str, nn.Parameter]()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name, attention in _attention_of(pipeline.unet):
            processors[name] = _processor(attention, tuning, branches, within=name.endswith(_SELF))
        if tuning.shared_rank is not None:
            others |= _lora(pipeline, "unet", _outside_attention(pipeline.unet), tuning.shared_rank)
        for part in encoders(pipeline) if tuning.text_rank is not None else ():
            others |= _lora(pipeline, part, _TEXT_LAYERS, tuning.text_rank or 0)
    pipeline.unet.set_attn_processor({f"{name}.processor": one for name, one in processors.items()})
    return DualLayers(processors, others, branches)


def _processor(attention: Any, tuning: DualTuningConfig, branches: int, *, within: bool) -> DualProcessor:
    width, how = attention.to_q.in_features, tuning.background
    saim = None if tuning.saim == "off" else Saim(width, zero=tuning.saim == "zero")
    mix = _mix(width, how) if within and how is not None else None
    return DualProcessor(attention, tuning.rank, saim, mix, branches)


def _mix(width: int, how: BackgroundConfig) -> BackgroundMix:
    return BackgroundMix(width, how.width, rule=how.rule, gamma=how.gamma)


def _attention_of(unet: Any) -> Iterator[tuple[str, Any]]:
    """Attention layers of a UNet by name. Raises ConfigError for one that is not as Stable Diffusion's are."""
    for processor in unet.attn_processors:
        name = processor.removesuffix(".processor")
        attention = unet.get_submodule(name)
        strange = [part for part in _ABSENT if getattr(attention, part, None) is not None]
        if not name.endswith((_SELF, _CROSS)) or strange or attention.residual_connection or attention.to_k is None:
            why = f"has {strange[0]}" if strange else f"is a {type(attention).__name__} of another kind"
            raise ConfigError(
                f"unet.{name} {why}: synthesizer.kind=dualanodiff takes a UNet with the attention of Stable Diffusion"
            )
        yield name, attention


def _outside_attention(unet: nn.Module) -> list[str]:
    return [
        name for name, _ in layers_in(unet, TRANSFORMER + CONVOLUTIONAL) if not {_SELF, _CROSS} & set(name.split("."))
    ]


def _lora(pipeline: Any, part: str, layers: Sequence[str], rank: int) -> dict[str, nn.Parameter]:
    """The parameters of a LoRA that is added to layers of a network of the pipeline, by name."""
    from peft import LoraConfig, inject_adapter_in_model

    network = getattr(pipeline, part)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(layers)), network)
    return {
        f"{part}.{name.replace('.default', '')}": parameter
        for name, parameter in network.named_parameters()
        if ".lora_" in name
    }


def _flat(name: str) -> str:
    return name.replace(".", "|")
