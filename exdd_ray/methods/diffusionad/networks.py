"""DiffusionAD's two networks: a denoising UNet, and a U-Net that segments by an image and its reconstruction."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from exdd_ray.methods.diffusionad.config import DiffusionADConfig, ReconstructionConfig
from exdd_ray.methods.segmentation import UNet

CHANNELS = 3


@dataclass(frozen=True)
class Networks:
    """The denoiser (a UNet2DModel) and the segmentation network of one model."""

    unet: Any
    segmentation: nn.Module

    @property
    def modules(self) -> dict[str, nn.Module]:
        """By the names that they have in checkpoints."""
        return {"unet": self.unet, "segmentation": self.segmentation}

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.segmentation.parameters()).device

    def denoise(self, noisy: Tensor, t: Tensor) -> Tensor:
        """Predicted noise, of the shape of `noisy` [B x 3 x H x W], at steps t [B]."""
        noise: Tensor = self.unet(noisy, t, return_dict=False)[0]
        return noise

    def segment(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """Anomaly probabilities float32 [B x 1 x H x W]."""
        return torch.sigmoid(self.segmentation(torch.cat([images, reconstructions], dim=1)).float())


def make_networks(config: DiffusionADConfig, seed: int) -> Networks:
    """Untrained networks; their weights follow from the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        networks = Networks(make_unet(config.reconstruction, config.size), UNet(config.segmentation, 2 * CHANNELS, 1))
    for module in networks.modules.values():
        module.to(memory_format=torch.channels_last)  # a sixth faster on CPUs
    return networks


def make_unet(config: ReconstructionConfig, size: int) -> Any:
    """The guided-diffusion UNet (Dhariwal & Nichol, 2021) of the released code, as a `UNet2DModel` of diffusers.

    All of the published form can be expressed: residual blocks that halve and double the resolution (BigGAN's), an
    additive time embedding, attention at chosen resolutions. Two things are set after it is built: the number of heads,
    which UNet2DModel knows by their width only, and zeros in the last layer of each residual block, of each attention
    and of the whole. Attention has three layers for queries, keys and values instead of one: the same function.
    """
    from diffusers import UNet2DModel

    widths = tuple(config.base * multiplier for multiplier in config.multipliers)
    attends = [size >> level in config.attention for level in range(len(widths))]
    unet = UNet2DModel(
        sample_size=size,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        block_out_channels=widths,
        layers_per_block=config.layers,
        down_block_types=tuple("AttnDownBlock2D" if here else "ResnetDownsampleBlock2D" for here in attends),
        up_block_types=tuple("AttnUpBlock2D" if here else "ResnetUpsampleBlock2D" for here in reversed(attends)),
        downsample_type="resnet",
        upsample_type="resnet",
        attention_head_dim=config.base,
        norm_num_groups=config.groups,
    )
    _finish(unet, config.heads)
    return unet


def _finish(unet: nn.Module, heads: int) -> None:
    from diffusers.models.attention_processor import Attention
    from diffusers.models.resnet import ResnetBlock2D

    last: list[Any] = [unet.conv_out]
    for module in unet.modules():
        if isinstance(module, ResnetBlock2D):
            last.append(module.conv2)
        if isinstance(module, Attention):
            last.append(module.to_out[0])
            module.heads = heads
            module.scale = (module.inner_dim // heads) ** -0.5
    for layer in last:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
