"""Attention of a UNet that denoises two branches at once: LoRA for each, and layers in which they see each other.

Rows of a batch are [whole images; their anomalous parts; backgrounds], each as many, the last only with a background.
Of the published code the pairs are interleaved, which computes the same.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_WHOLE, _PART = 0, 1
PROJECTIONS = ("to_q", "to_k", "to_v", "to_out")


class BranchLora(nn.Module):
    """What is added to a linear layer: a LoRA of each branch; that of whole images is the backgrounds', too.

    A is drawn from a normal distribution of deviation 1 / rank and B is zero: it starts as nothing.

    Attributes:
        down: A of both branches [2 x rank x in].
        up: B of both [2 x out x rank].
    """

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(2, rank, layer.in_features) / rank)
        self.up = nn.Parameter(torch.zeros(2, layer.out_features, rank))

    def forward(self, tokens: Tensor, branches: int) -> Tensor:
        """B A x [B x d x out] of tokens [B x d x in], B rows of all branches."""
        order = [_WHOLE, _PART, _WHOLE][:branches]
        each = tokens.reshape(branches, -1, tokens.shape[-1])
        low = torch.bmm(each, self.down[order].to(tokens.dtype).mT)
        return torch.bmm(low, self.up[order].to(tokens.dtype).mT).reshape(*tokens.shape[:-1], -1)


class Saim(nn.Module):
    """Self-attention interaction: at every place the whole image and its part attend to each other.

    h + W_out softmax(q k^T / sqrt(C)) v over the two tokens of a place, of W_in LayerNorm(h), with one head.
    """

    def __init__(self, width: int, *, zero: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.to_in, self.to_q, self.to_k, self.to_v, self.to_out = (nn.Linear(width, width) for _ in range(5))
        if zero:
            nn.init.zeros_(self.to_out.weight)
            nn.init.zeros_(self.to_out.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states [2N x d x C] of whole images and then of their parts, with what they see of each other."""
        given = self.to_in(self.norm(hidden))
        query, key, value = self.to_q(given), self.to_k(given), self.to_v(given)
        others = [states.roll(len(hidden) // 2, dims=0) for states in (key, value)]
        apart = (query * (key - others[0])).sum(dim=-1, keepdim=True) / query.shape[-1] ** 0.5
        seen = torch.lerp(others[1], value, torch.sigmoid(apart))  # the softmax of two
        return hidden + self.to_out(seen)


class FoldedSaim(nn.Module):
    """What a trained SAIM computes, its five matrices multiplied out to two: for painting.

    Of n = LayerNorm(h) and n' of the other at a place, q (k - k')^T = (P n + p)(n - n')^T and W_out v = R n + r.

    Attributes:
        weight: P and R [2C x C].
        bias: p and r [2C].
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, saim: Saim) -> None:
        super().__init__()
        self.norm = saim.norm
        keys = (saim.to_k.weight @ saim.to_in.weight).mT
        query, value = (_product(layer, saim.to_in.weight, saim.to_in.bias) for layer in (saim.to_q, saim.to_v))
        towards, shown = (keys @ query[0], keys @ query[1]), _product(saim.to_out, *value)
        self.register_buffer("weight", torch.cat([towards[0], shown[0]]))
        self.register_buffer("bias", torch.cat([towards[1], shown[1]]))

    def forward(self, hidden: Tensor) -> Tensor:
        """As SAIM's."""
        given = self.norm(hidden)
        towards, shown = functional.linear(given, self.weight, self.bias).chunk(2, dim=-1)
        half = len(hidden) // 2
        apart = (towards * (given - given.roll(half, dims=0))).sum(dim=-1, keepdim=True) / given.shape[-1] ** 0.5
        return hidden + torch.lerp(shown.roll(half, dims=0), shown, torch.sigmoid(apart))


def _product(layer: nn.Linear, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of a layer after another."""
    return layer.weight @ weight, layer.weight @ bias + layer.bias


class Meeting(nn.Module):
    """Self-attention interaction after another layer: of tokens [B x d x C], or of images [B x C x h x w].

    Attributes:
        branches: whose rows there are; backgrounds, the last of three, see nobody.
    """

    def __init__(self, saim: Saim, branches: int) -> None:
        super().__init__()
        self.saim: Saim | FoldedSaim = saim
        self.branches = branches

    def fold(self) -> None:
        """Compute in fewer steps from now on; there is nothing to train any more."""
        if isinstance(self.saim, Saim):
            self.saim = FoldedSaim(self.saim)

    def forward(self, states: Tensor) -> Tensor:
        """The states, those of pairs with what they see of each other."""
        pairs = 2 * (len(states) // self.branches)
        if states.dim() == 4:
            met = self.saim(states[:pairs].flatten(2).mT).mT.reshape(states[:pairs].shape)
        else:
            met = self.saim(states[:pairs])
        return torch.cat([met, states[pairs:]])


class BackgroundMix(nn.Module):
    """Background compensation: what whole images attend to is mixed with the states of their backgrounds.

    `add` is z + gamma MLP(z_b) as published, `mix` (1 - gamma) z + gamma MLP(z_b) as released; gamma is learnt. The MLP
    is two linear layers, without anything between.
    """

    def __init__(self, channels: int, width: int, *, rule: str, gamma: float) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(channels, width), nn.Linear(width, channels)
        self.gamma = nn.Parameter(torch.tensor(gamma))
        self.rule = rule

    def forward(self, states: Tensor) -> Tensor:
        """States [3N x d x C], those of the first N mixed with those of the last N."""
        whole, part, background = states.chunk(3)
        taken = self.gamma * self.leave(self.enter(background))
        kept = whole if self.rule == "add" else (1 - self.gamma) * whole
        return torch.cat([kept + taken, part, background])


class DualProcessor(nn.Module):
    """An attention layer of Stable Diffusion's kind for rows of both branches, as a processor of diffusers.

    Attributes:
        lora: of the layer's projections.
        meeting: None where branches do not see each other.
        mix: of the background; None where there is none, and in cross-attention.
        branches: 2, or 3 with a background.
    """

    def __init__(
        self, attention: Any, rank: int, meeting: Meeting | None, mix: BackgroundMix | None, branches: int
    ) -> None:
        super().__init__()
        self.lora = nn.ModuleDict({name: BranchLora(_layer(attention, name), rank) for name in PROJECTIONS})
        self.meeting, self.mix, self.branches = meeting, mix, branches

    def forward(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        """States [B x d x C], without the residual; keys and values are of a text's [B x L x D], if given."""
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if self.mix is not None:
            source = self.mix(source)
        query = _by_head(self._project(attn, "to_q", hidden_states), attn.heads)
        key, value = (_by_head(self._project(attn, name, source), attn.heads) for name in ("to_k", "to_v"))
        seen = functional.scaled_dot_product_attention(query, key, value, scale=attn.scale)
        states = self._project(attn, "to_out", seen.transpose(1, 2).flatten(2))
        return states if self.meeting is None else self.meeting(states)

    def _project(self, attention: Any, name: str, tokens: Tensor) -> Tensor:
        added: Tensor = self.lora[name](tokens, self.branches)
        return _layer(attention, name)(tokens) + added


def _layer(attention: Any, name: str) -> Any:
    layer = getattr(attention, name)
    return layer[0] if name == "to_out" else layer


def _by_head(states: Tensor, heads: int) -> Tensor:
    """[B x heads x d x C / heads] of [B x d x C]."""
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)
