"""An autoencoder that is a plain reduction to half the side from the start: colours need not be found by training.

Group normalisation takes each image's own brightness away, so a small autoencoder first settles on shades of grey. Here
some channels carry the colours through both halves, next to constants so large that the normalisation hardly changes
them, and as pairs x, -x, since silu(x) - silu(-x) = x.
"""

from typing import Any

import torch
from torch import Tensor, nn

ANCHOR = 4.0
CONSTANTS = {6: ANCHOR, 7: -ANCHOR}
SIGNED_COLOURS = tuple((sign, colour) for sign in (1.0, -1.0) for colour in range(3))
LOG_VARIANCE = -6.0

CENTRE = torch.tensor([[0.0, 0, 0], [0, 1, 0], [0, 0, 0]])
MEAN_OF_FOUR = torch.tensor([[1.0, 1, 0], [1, 1, 0], [0, 0, 0]]) / 4
# after doubling each pixel this is linear interpolation
SMOOTH = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16


@torch.no_grad()
def open_colour_path(vae: Any, images: Tensor) -> None:
    """Sets the weights of two levels' AutoencoderKL so that it halves images and interpolates them back.

    Args:
        vae: with residual branches that still add nothing; its fourth latent channel stays random.
        images: examples `[N x 3 x H x W]` in -1..1; the gains are fitted to them.
    """
    encoder, decoder = vae.encoder, vae.decoder
    carried = tuple((1.0, channel) for channel in range(len(SIGNED_COLOURS)))
    _carry(encoder.conv_in, SIGNED_COLOURS, CENTRE)
    _carry(encoder.down_blocks[0].downsamplers[0].conv, carried, MEAN_OF_FOUR)
    _carry(encoder.down_blocks[1].resnets[0].conv_shortcut, carried, torch.ones(1, 1))
    _carry(decoder.conv_in, SIGNED_COLOURS, CENTRE)
    _carry(decoder.up_blocks[0].upsamplers[0].conv, carried, SMOOTH)
    _carry(decoder.up_blocks[1].resnets[0].conv_shortcut, carried, torch.ones(1, 1))
    for half in (encoder, decoder):
        _join(half.conv_out)
    _plain_moments(vae)
    latents = vae.encode(images).latent_dist.mean[:, :3]
    encoder.conv_out.weight[:3] *= _gain(latents, nn.functional.avg_pool2d(images, 2))
    decoder.conv_out.weight[:3] *= _gain(vae.decode(vae.encode(images).latent_dist.mean).sample, images)


def _carry(conv: nn.Conv2d, sources: tuple[tuple[float, int], ...], kernel: Tensor) -> None:
    """The first channels out are channels in, each with its sign, seen through the kernel; then come the constants."""
    conv.weight[: len(sources) + len(CONSTANTS)] = 0
    assert conv.bias is not None
    conv.bias[: len(sources)] = 0
    for channel, (sign, source) in enumerate(sources):
        conv.weight[channel, source] = sign * kernel
    for channel, value in CONSTANTS.items():
        conv.bias[channel] = value


def _join(conv: nn.Conv2d) -> None:
    """The pairs become the first three channels out again; what else there is starts small."""
    assert conv.bias is not None
    conv.weight[:3] *= 0.1
    conv.bias[:3] = 0
    conv.weight[:3, : len(SIGNED_COLOURS) + len(CONSTANTS)] = 0
    for channel, (sign, colour) in enumerate(SIGNED_COLOURS):
        conv.weight[colour, channel, 1, 1] = sign


def _plain_moments(vae: Any) -> None:
    """Latents pass unchanged, with a small constant variance."""
    count = vae.config.latent_channels
    for conv in (vae.quant_conv, vae.post_quant_conv):
        conv.weight.zero_()
        conv.bias.zero_()
        conv.weight[:count, :count, 0, 0] = torch.eye(count)
    vae.quant_conv.bias[count:] = LOG_VARIANCE


def _gain(given: Tensor, wanted: Tensor) -> Tensor:
    """The factor that brings one nearest to the other."""
    return (given * wanted).sum() / given.square().sum()
