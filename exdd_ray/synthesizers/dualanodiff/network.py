"""The trained part of a pipeline for pairs: processors of its UNet's attention, and a LoRA on its text encoder."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from exdd_ray.errors import ConfigError
from exdd_ray.synthesizers.dualanodiff.attention import BackgroundMix, DualProcessor, Meeting, Saim
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

    def __init__(
        self,
        processors: dict[str, DualProcessor],
        meetings: dict[str, Meeting],
        others: dict[str, nn.Parameter],
        branches: int,
    ) -> None:
        super().__init__()
        self.processors = nn.ModuleDict({_flat(name): one for name, one in processors.items()})
        self.meetings = nn.ModuleDict({_flat(name): one for name, one in meetings.items()})
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
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        processors = {name: _processor(one, tuning, branches, name) for name, one in _attention_of(pipeline.unet)}
        blocks = _blocks_of(pipeline.unet) if tuning.saim_blocks else {}
        meetings = {name: _meeting(block.out_channels, tuning, branches) for name, block in blocks.items()}
        others = dict(_loras(pipeline, tuning))
    pipeline.unet.set_attn_processor({f"{name}.processor": one for name, one in processors.items()})
    met = {name: meeting for name, meeting in meetings.items() if meeting is not None}
    for name, meeting in met.items():
        blocks[name].register_forward_hook(partial(_after, meeting))
    return DualLayers(processors, met, others, branches)


def ready_to_paint(pipeline: Any, layers: DualLayers) -> None:
    """Compute what is trained in fewer steps from now on; it cannot be trained any more.

    SAIM's matrices are multiplied out, and the LoRA that both branches share is added to the weights.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers.requires_grad_(False)
    for layer in layers.modules():
        if isinstance(layer, Meeting):
            layer.fold()
    layers.to(pipeline.unet.device, pipeline.unet.dtype).eval()
    for part in ("unet", *encoders(pipeline)):
        for layer in getattr(pipeline, part).modules():
            if isinstance(layer, BaseTunerLayer):
                layer.merge()


def _after(meeting: Meeting, _: nn.Module, given: object, states: Tensor) -> Tensor:
    """A hook of a block."""
    del given
    met: Tensor = meeting(states)
    return met


def _processor(attention: Any, tuning: DualTuningConfig, branches: int, name: str) -> DualProcessor:
    width, how = attention.to_q.in_features, tuning.background
    mix = _mix(width, how) if name.endswith(_SELF) and how is not None else None
    return DualProcessor(attention, tuning.rank, _meeting(width, tuning, branches), mix, branches)


def _meeting(width: int, tuning: DualTuningConfig, branches: int) -> Meeting | None:
    return None if tuning.saim == "off" else Meeting(Saim(width, zero=tuning.saim == "zero"), branches)


def _blocks_of(unet: nn.Module) -> dict[str, Any]:
    """Residual blocks of a UNet by name."""
    return {name: block for name, block in unet.named_modules() if type(block).__name__ == "ResnetBlock2D"}


def _loras(pipeline: Any, tuning: DualTuningConfig) -> Iterator[tuple[str, nn.Parameter]]:
    """The LoRA that both branches share, on the UNet and on the text encoders."""
    if tuning.shared_rank is not None:
        yield from _lora(pipeline, "unet", _outside_attention(pipeline.unet), tuning.shared_rank)
    if tuning.text_rank is not None:
        for part in encoders(pipeline):
            yield from _lora(pipeline, part, _TEXT_LAYERS, tuning.text_rank)


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


def _lora(pipeline: Any, part: str, layers: Sequence[str], rank: int) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters of a LoRA that is added to layers of a network of the pipeline, by name."""
    from peft import LoraConfig, inject_adapter_in_model

    network = getattr(pipeline, part)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(layers)), network)
    for name, parameter in network.named_parameters():
        if ".lora_" in name:
            yield f"{part}.{name.replace('.default', '')}", parameter


def _flat(name: str) -> str:
    return name.replace(".", "|")
