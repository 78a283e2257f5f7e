"""Config of DreamBooth-LoRA, and In&Out's presets."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from exdd_ray.config.base import Frozen, merge
from exdd_ray.synthesizers.painting.config import PaintConfig
from exdd_ray.training.config import TrainConfig


class TokenConfig(Frozen):
    """A word that comes to name a kind of defect.

    Attributes:
        word: as it stands in prompts.
        kind: of defect, as the dataset calls it; None is every kind.
    """

    word: str = Field("skt", pattern=r"\S")
    kind: str | None = None


class TuningConfig(Frozen):
    """DreamBooth with a LoRA: what is learnt, by how much of the network, and how long.

    Attributes:
        images: learn from training `defects`, or from `normal` images (In&Out's zero-shot).
        shots: images at most, drawn at random; None takes all.
        tokens: words, each for a kind of defect; defects of other kinds are left out.
        new_words: words that the tokenizer does not know as one token are added to it, and their vectors learnt.
        prompt: of a training image; `{token}` stands for its word.
        class_prompt: of the regularisation images.
        prior_weight: of their loss (prior preservation, DreamBooth); 0 makes none.
        prior_images: that the untuned model paints of the class.
        repeats: of each image in an epoch; with an inpainting base each has a mask and a crop of its own.
        flips: learn each image mirrored, too: left to right, and top to bottom.
        aspect: of whole images at the model's size: by `stretch`, or of a `bucket` of about the image's own and at most
            the same area, to which it is cut centrally.
        outside: weight of the loss outside the mask, with an inpainting base; inside it is 1.
        unprompted: share of draws in which an image is learnt without its prompt, so that guidance finds what the two
            differ by (Ho & Salimans, 2022).
        rank: of the LoRA on linear layers and 1 x 1 convolutions.
        alpha: scale of the LoRA is alpha / rank.
        conv_rank: of the LoRA on 3 x 3 convolutions; None leaves them alone.
        conv_alpha: likewise.
        text_encoder: a LoRA on it, too.
        epochs: of the whole schedule.
        keep_every: epochs between two checkpoints, whose adapters are kept.
        learning_rate: at the start of each cycle; it falls to 0 by a cosine.
        cycles: of the schedule.
        min_snr: gamma of the min-SNR weighting (Hang et al., 2023); None weights all times alike.
        gradient_checkpointing: compute activations anew in the backward pass, for less memory.
        seed: of all that is drawn; None is the experiment's.
        training: the loop; it saves as `keep_every` says.
    """

    images: Literal["defects", "normal"] = "defects"
    shots: int | None = Field(None, ge=1)
    tokens: tuple[TokenConfig, ...] = Field((TokenConfig(),), min_length=1)
    new_words: bool = True
    prompt: str = "{token}"
    class_prompt: str = "surface"
    prior_weight: float = Field(0.0, ge=0)
    prior_images: int = Field(200, ge=1)
    repeats: int = Field(10, ge=1)
    flips: bool = True
    aspect: Literal["stretch", "bucket"] = "stretch"
    outside: float = Field(0.25, ge=0)
    unprompted: float = Field(0.1, ge=0, lt=1)
    rank: int = Field(16, ge=1)
    alpha: float = Field(16, gt=0)
    conv_rank: int | None = Field(16, ge=1)
    conv_alpha: float = Field(16, gt=0)
    text_encoder: bool = False
    epochs: int = Field(50, ge=1)
    keep_every: int = Field(10, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    cycles: int = Field(1, ge=1)
    min_snr: float | None = Field(None, gt=0)
    gradient_checkpointing: bool = False
    seed: int | None = Field(None, ge=0)
    training: TrainConfig = TrainConfig(batch=8, max_grad_norm=1.0)

    @model_validator(mode="after")
    def _consistent(self) -> "TuningConfig":
        if "{token}" not in self.prompt:
            raise ValueError(f"tuning.prompt={self.prompt!r} has no place for a word: write {{token}} into it")
        kinds = [token.kind for token in self.tokens]
        if len(set(kinds)) < len(kinds) or (None in kinds and len(kinds) > 1):
            raise ValueError("tuning.tokens: give each kind of defect one word, or one word to all of them")
        words = {token.word for token in self.tokens}
        if len({word.lower() for word in words}) < len(words):
            raise ValueError("tuning.tokens: words that differ in case alone are the same to the tokenizer")
        if self.images == "normal" and kinds != [None]:
            raise ValueError("tuning.images=normal shows no kinds of defects: give tuning.tokens one word without kind")
        for name in ("checkpoint_every", "validate_every", "ema"):
            if getattr(self.training, name) != TrainConfig.model_fields[name].default:
                raise ValueError(f"tuning.training.{name} is not used: tuning.keep_every says when to save")
        return self

    def prompts(self) -> tuple[str, ...]:
        """The prompt of each word."""
        return tuple(self.prompt.replace("{token}", token.word) for token in self.tokens)

    def aside(self) -> Iterator[str]:
        """What does not change what is learnt, and what is not used."""
        yield "gradient_checkpointing"
        if not self.prior_weight:
            yield from ("class_prompt", "prior_images")
        if self.conv_rank is None:
            yield "conv_alpha"


class LoraConfig(PaintConfig):
    """DreamBooth-LoRA: the model is fine-tuned before it paints (In&Out's in-distribution half).

    Attributes:
        kind: of the synthesizer: the model is fine-tuned before it paints.
        preset: `paper` and `released` have In&Out's constants, `best` tunes the bundled miniature.
        base: paint whole images from the prompt (`text_to_image`), which have no mask, or into the masks of normal
            images (`inpainting`).
        tuning: the fine-tuning; None paints with the model as it is, or with `adapter`.
        adapter: a LoRA file (safetensors) that was trained before.
        epoch: after which the adapter is taken; None is the last.
        masks: where to paint; those of the defects that were learnt, unless others are given.
        margin: is learnt as it is painted.
        strength: all of the noise, for what was learnt from a few images is easily faint.
        colours: of a grey canvas are grey.
        merge: by which weight the adapter is merged into the model.
        prompts: what to paint; None is what was learnt.
    """

    kind: Literal["lora"] = "lora"
    preset: Literal["best", "paper", "released"] = "best"
    base: Literal["inpainting", "text_to_image"] = "inpainting"
    tuning: TuningConfig | None = TuningConfig()
    adapter: Path | None = None
    epoch: int | None = Field(None, ge=1)
    margin: int = Field(2, ge=0)
    strength: float = Field(1.0, gt=0, le=1)
    colours: Literal["model", "canvas"] = "canvas"
    merge: float = Field(1.0, ge=0)

    @classmethod
    def filled(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """With the preset's values."""
        filled = dict(merge(LORA_PRESETS.get(given.get("preset", "best"), {}), given))
        if given.get("adapter") is not None and "tuning" not in given:
            filled["tuning"] = None
        tuning = filled.get("tuning", {})
        if isinstance(tuning, Mapping):
            try:
                tuning = TuningConfig(**tuning)
            except ValidationError:  # told of with its place where the fields are read
                return filled
        if not isinstance(tuning, TuningConfig | None):
            return filled
        if filled.get("base") == "text_to_image":
            filled = {"crop_padding": None, "composite": False, **filled}
        elif tuning is not None and tuning.images == "defects" and isinstance(filled.get("masks", {}), Mapping):
            filled["masks"] = merge({"source": "positives", "placed": "moved"}, filled.get("masks", {}))
        if "prompts" not in filled:
            if tuning is None:
                raise ValueError("without tuning nothing says what to paint: give prompts")
            filled["prompts"] = tuning.prompts()
        return filled

    @model_validator(mode="after")
    def _consistent(self) -> "LoraConfig":
        if self.tuning is not None and self.adapter is not None:
            raise ValueError("tuning makes an adapter, and adapter names one: give one of them")
        if self.base == "text_to_image" and (self.crop_padding is not None or self.composite or self.strength < 1):
            raise ValueError("base=text_to_image paints whole images: unset crop_padding, composite and strength")
        if self.epoch is not None and self.tuning is None:
            raise ValueError("epoch is for tuning: it says which of its adapters is taken")
        if self.epoch is not None and self.tuning is not None and self.epoch not in kept_epochs(self.tuning):
            kept = ", ".join(map(str, kept_epochs(self.tuning)))
            raise ValueError(f"epoch={self.epoch} is not kept: tuning keeps the adapters of {kept}")
        return self

    @property
    def whole(self) -> bool:
        """Whether images are painted from nothing, without a mask."""
        return self.base == "text_to_image"

    def aside(self) -> Iterator[str]:
        """The adapter's file is known by its content."""
        yield from super().aside()
        yield "adapter"
        if self.whole:
            yield from ("masks", "margin", "colours")


def kept_epochs(tuning: TuningConfig) -> list[int]:
    """Epochs after which there is an adapter; the last one is."""
    return sorted({*range(tuning.keep_every, tuning.epochs + 1, tuning.keep_every), tuning.epochs})


_IN_AND_OUT: dict[str, Any] = {
    "model": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "variant": "fp16",
    "base": "text_to_image",
    "size": (512, 512),
    "guidance": 7.5,
    "steps": 50,
    "scheduler": "ddim",
    "clip_skip": 1,
    "filters": None,
    "tuning": {
        "new_words": False,
        "class_prompt": "background",
        "prior_weight": 1.0,
        "prior_images": 200,
        "flips": False,
        "aspect": "bucket",
        "unprompted": 0.0,
        "rank": 32,
        "alpha": 16,
        "text_encoder": True,
        "epochs": 50,
        "keep_every": 1,
        "learning_rate": 1e-5,
        "cycles": 3,
        "min_snr": 5.0,
        "gradient_checkpointing": True,
        "seed": 1234,
        "training": {"batch": 12},
    },
    "run": {"batch": 5},
}
LORA_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": merge(
        _IN_AND_OUT,
        {
            "epoch": 25,
            "merge": 0.8,
            "tuning": {"tokens": ({"word": "skt"},), "prompt": "{token} background", "conv_rank": 4, "conv_alpha": 1},
        },
    ),
    "released": merge(
        _IN_AND_OUT,
        {"merge": 0.65, "tuning": {"tokens": ({"word": "sks"},), "prompt": "{token} background", "conv_rank": None}},
    ),
    "best": {"guidance": 1.5},
}
