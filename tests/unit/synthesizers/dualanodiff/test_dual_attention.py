"""The attention of both branches, against the formulas written out: SAIM, a LoRA of each branch, BCM in two passes."""

from types import SimpleNamespace

import pytest
import torch
from diffusers.models.attention_processor import Attention

from exdd_ray.errors import ConfigError
from exdd_ray.synthesizers.dualanodiff.attention import PROJECTIONS, BackgroundMix, BranchLora, FoldedSaim, Saim
from exdd_ray.synthesizers.dualanodiff.config import DualTuningConfig
from exdd_ray.synthesizers.dualanodiff.network import add_branches, ready_to_paint
from exdd_ray.synthesizers.painting.denoiser import encode_prompts
from exdd_ray.weights.miniature.networks import load_model

N = 2  # pairs


@pytest.fixture
def pipeline():
    return load_model()


def tuning(**given) -> DualTuningConfig:
    return DualTuningConfig.model_validate({"rank": 3, "shared_rank": None, "text_rank": None, **given})


def shaken(module: torch.nn.Module) -> torch.nn.Module:
    """All of its parameters drawn anew: nothing is zero."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter))
    return module


def rows(branches: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents, times and texts of so many branches."""
    texts = torch.randn(branches, 1, 5, 128).expand(-1, N, -1, -1).flatten(0, 1)
    return torch.randn(branches * N, 9, 16, 16), torch.tensor([100, 700]).repeat(branches), texts


@torch.no_grad()
def predicted(pipeline, given) -> torch.Tensor:
    latents, times, texts = given
    return pipeline.unet(latents, times, encoder_hidden_states=texts).sample


def attended(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """softmax(q k^T / sqrt(d)) v of [T x d]."""
    return torch.softmax(query @ key.T / query.shape[-1] ** 0.5, dim=-1) @ value


def test_saim_is_attention_over_the_two_tokens_of_each_place():
    torch.manual_seed(0)
    saim, hidden = shaken(Saim(6, zero=False)), 3 * torch.randn(2 * N, 4, 6)
    found = saim(hidden)
    for pair in range(N):
        for place in range(4):
            tokens = torch.stack([hidden[pair, place], hidden[N + pair, place]])
            apart = tokens - tokens.mean(dim=1, keepdim=True)
            normed = apart / (tokens.var(dim=1, keepdim=True, unbiased=False) + 1e-6).sqrt()
            given = saim.to_in(normed * saim.norm.weight + saim.norm.bias)
            out = tokens + saim.to_out(attended(saim.to_q(given), saim.to_k(given), saim.to_v(given)))
            torch.testing.assert_close(found[[pair, N + pair], place], out, rtol=1e-4, atol=1e-5)


def test_saim_that_starts_at_zero_changes_nothing_and_one_as_published_does():
    torch.manual_seed(0)
    hidden = torch.randn(2 * N, 4, 6)
    assert torch.equal(Saim(6, zero=True)(hidden), hidden)
    assert not torch.allclose(Saim(6, zero=False)(hidden), hidden, atol=1e-2)


def test_fewer_steps_paint_the_same(pipeline):
    torch.manual_seed(0)
    saim, hidden = shaken(Saim(6, zero=False)), 3 * torch.randn(2 * N, 4, 6)
    torch.testing.assert_close(FoldedSaim(saim)(hidden), saim(hidden), rtol=1e-4, atol=1e-5)
    given = rows(2)
    layers = shaken(add_branches(pipeline, tuning(shared_rank=2, text_rank=2), 0))
    before, text = predicted(pipeline, given), encode_prompts(pipeline, ["sks"], 0)[0].embedding
    ready_to_paint(pipeline, layers)
    assert any(isinstance(layer, FoldedSaim) for layer in pipeline.unet.modules())
    torch.testing.assert_close(predicted(pipeline, given), before, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(encode_prompts(pipeline, ["sks"], 0)[0].embedding, text, rtol=1e-3, atol=1e-3)


def test_each_branch_has_a_lora_of_its_own_and_backgrounds_that_of_whole_images():
    torch.manual_seed(0)
    lora = BranchLora(torch.nn.Linear(6, 5), rank=2)
    tokens = torch.randn(3 * N, 4, 6)
    assert not lora(tokens, 3).any()  # it starts as nothing
    shaken(lora)
    found = lora(tokens, 3)
    for row in range(3 * N):
        branch = 1 if N <= row < 2 * N else 0
        torch.testing.assert_close(found[row], tokens[row] @ lora.down[branch].T @ lora.up[branch].T)


@pytest.mark.parametrize("background", [None, {"rule": "mix", "gamma": 0.0}])
def test_training_starts_from_the_pretrained_model(pipeline, background):
    torch.manual_seed(0)
    branches = 2 if background is None else 3
    given = rows(branches)
    before = predicted(pipeline, given)
    add_branches(pipeline, tuning(shared_rank=2, background=background), 0)
    torch.testing.assert_close(predicted(pipeline, given), before, rtol=1e-4, atol=1e-5)
    add_branches(pipeline, tuning(saim="random", background=background, saim_blocks=False), 0)
    assert not torch.allclose(predicted(pipeline, given), before, atol=1e-2)


def test_branches_see_each_other_by_saim_alone():
    torch.manual_seed(0)
    latents, times, texts = rows(2)
    others = latents.clone()
    others[N:] += 1
    for saim, blocks, alike in (("off", True, True), ("random", False, False), ("random", True, False)):
        pipeline = load_model()
        shaken(add_branches(pipeline, tuning(saim=saim, saim_blocks=blocks), 0))
        one, other = (predicted(pipeline, (given, times, texts))[:N] for given in (latents, others))
        assert torch.allclose(one, other, atol=1e-5) == alike


class TwoPasses:
    """Attention of pairs in the pass after that of their backgrounds, whose states are known."""

    def __init__(self, processor, states) -> None:
        self.processor, self.states = processor, states

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None):
        processor, source = self.processor, hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if processor.mix is not None:
            mix, whole, part = processor.mix, *source.chunk(2)
            learnt = self.states @ mix.enter.weight.T + mix.enter.bias
            learnt = learnt @ mix.leave.weight.T + mix.leave.bias
            kept = 1 - mix.gamma if mix.rule == "mix" else 1
            source = torch.cat([kept * whole + mix.gamma * learnt, part])

        def project(name, tokens):
            layer = attn.to_out[0] if name == "to_out" else getattr(attn, name)
            return layer(tokens) + processor.lora[name](tokens, 2)

        query, key, value = project("to_q", hidden_states), project("to_k", source), project("to_v", source)
        heads = (each.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for each in (query, key, value))
        seen = torch.nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        return processor.meeting.saim(project("to_out", seen))


@pytest.mark.parametrize("rule", ["add", "mix"])
def test_one_pass_over_backgrounds_and_pairs_is_bcms_two_passes(pipeline, rule):
    torch.manual_seed(0)
    layers = add_branches(pipeline, tuning(background={"rule": rule, "width": 7}, saim_blocks=False), 0)
    shaken(layers)
    with torch.no_grad():
        for mix in (module for module in layers.modules() if isinstance(module, BackgroundMix)):
            mix.gamma.fill_(0.7)
            mix.enter.weight *= 10
    latents, times, texts = rows(3)
    texts[2 * N :] = texts[:N]
    together = predicted(pipeline, (latents, times, texts))[: 2 * N]
    processors = dict(pipeline.unet.attn_processors)

    # the first pass: what every attn1 gets of the backgrounds, with the LoRA of whole images
    states: dict[str, torch.Tensor] = {}
    alone = load_model()
    with torch.no_grad():
        for name, attention in alone.unet.named_modules():
            if not isinstance(attention, Attention):
                continue
            for part in PROJECTIONS:
                layer = attention.to_out[0] if part == "to_out" else getattr(attention, part)
                lora = processors[f"{name}.processor"].lora[part]
                layer.weight += lora.up[0] @ lora.down[0]
            if name.endswith("attn1"):
                attention.register_forward_pre_hook(
                    lambda _, args, kwargs, name=name: states.update({name: (*args, *kwargs.values())[0]}),
                    with_kwargs=True,
                )
    predicted(alone, (latents[2 * N :], times[:N], texts[:N]))

    second, pairs = load_model(), (latents[: 2 * N], times[: 2 * N], texts[: 2 * N])
    second.unet.set_attn_processor(
        {name: TwoPasses(one, states.get(name.removesuffix(".processor"))) for name, one in processors.items()}
    )
    torch.testing.assert_close(together, predicted(second, pairs), rtol=1e-3, atol=1e-4)
    for one in processors.values():
        one.mix = None
    assert not torch.allclose(together, predicted(second, pairs), atol=1e-2)


def test_a_unet_of_another_kind_is_refused_by_the_name_of_its_attention():
    from diffusers import UNet2DConditionModel

    def refused(message: str, **kind) -> None:
        unet = UNet2DConditionModel(
            block_out_channels=(8, 8),
            norm_num_groups=4,
            layers_per_block=1,
            attention_head_dim=4,
            cross_attention_dim=8,
            **kind,
        )
        pipeline = SimpleNamespace(unet=unet, vae=torch.nn.Linear(1, 1))
        with pytest.raises(ConfigError, match=f"{message}.*kind=dualanodiff takes a UNet with the attention of Stable"):
            add_branches(pipeline, tuning(), 0)

    refused(
        r"unet.down_blocks.0.attentions.0 has group_norm",
        down_block_types=("SimpleCrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "SimpleCrossAttnUpBlock2D"),
    )
