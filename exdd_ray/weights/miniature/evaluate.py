"""Does the model paint what it is asked to? A classifier judges: `python -m exdd_ray.weights.miniature.evaluate`."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch.nn import functional

from exdd_ray.data.masks import grown
from exdd_ray.data.procedural.defects import DEFECT_KINDS
from exdd_ray.features.backbone import Backbone, load_backbone
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.weights.miniature.captions import COPPER, NORMAL, plain_words
from exdd_ray.weights.miniature.masks import spot_around
from exdd_ray.weights.miniature.networks import SIDE, WEIGHTS, load_model
from exdd_ray.weights.miniature.training_samples import Sample, SampleSpec, draw_sample
from exdd_ray.weights.surface_resnet18.batches import normalize

TRAINING_SEED, TEST_SEED, PAINTING_SEED = 101, 102, 103
PAINTED_AT_ONCE = 16
SCALE = 2
GRID_PROMPTS = (*(plain_words(kind) for kind in DEFECT_KINDS), plain_words(COPPER), plain_words(NORMAL))


@dataclass(frozen=True, kw_only=True)
class PaintSettings:
    """How the model is asked.

    Attributes:
        guidance: weight of the prompt.
        steps: denoising steps.
        seed: of the noise.
    """

    guidance: float = 3.0
    steps: int = 20
    seed: int = 0


@dataclass(frozen=True)
class Recognition:
    """What the classifier says.

    Attributes:
        real: share of held-out drawn defects that it recognises.
        painted: share of painted ones in which it sees the prompted kind.
        confusion: painted samples by prompted kind (rows) and recognised kind (columns), in DEFECT_KINDS' order.
        outside: largest change of a pixel outside the mask, of 0..255.
    """

    real: float
    painted: float
    confusion: NDArray[np.int64]
    outside: int


def drawn_defects(seed: int, count: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.int64]]:
    """Drawn defects of all kinds: images `[N x S x S x 3]`, spots around them `[N x S x S]`, kinds `[N]`.

    The spots are shaped alike for all kinds, so that only the image tells them apart.
    """
    samples = [draw_sample(SampleSpec(seed=seed), number) for number in range(count)]
    kept = [sample for sample in samples if sample.kind in DEFECT_KINDS]
    rng = np.random.default_rng(seed)
    spots = np.stack([spot_around(sample.defect, rng) for sample in kept])
    kinds = np.asarray([DEFECT_KINDS.index(sample.kind) for sample in kept])
    return np.stack([sample.image for sample in kept]), spots, kinds


@torch.no_grad()
def spot_vectors(backbone: Backbone, images: NDArray[np.uint8], spots: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Mean and maximum of the features inside the spot, and inside minus outside: `[N x D]`."""
    vectors = []
    for part, region in zip(_chunks(images), _chunks(spots), strict=True):
        pixels = normalize(torch.from_numpy(part).float() / 255)
        levels = backbone(functional.interpolate(pixels, scale_factor=SCALE, mode="bilinear"))
        inside = torch.from_numpy(np.stack([grown(spot, 2) for spot in region]))[:, None].float()
        pooled = []
        for level in levels:
            weight = functional.adaptive_avg_pool2d(inside, level.shape[2:])
            within = (level * weight).sum(dim=(2, 3)) / weight.sum(dim=(2, 3)).clamp(min=1e-3)
            without = (level * (1 - weight)).sum(dim=(2, 3)) / (1 - weight).sum(dim=(2, 3)).clamp(min=1e-3)
            pooled += [within, (level * (weight > 0.25)).amax(dim=(2, 3)), within - without]
        vectors.append(torch.cat(pooled, dim=1).numpy())
    return np.concatenate(vectors)


def softened(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images `[N x H x W x 3]` at half their resolution, at full size again."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    soft = functional.interpolate(functional.avg_pool2d(pixels, 2), scale_factor=2, mode="bicubic")
    return np.ascontiguousarray(soft.clamp(0, 255).round().byte().permute(0, 2, 3, 1).numpy())


def _chunks(array: NDArray[Any]) -> Sequence[NDArray[Any]]:
    return [array[begin : begin + 32] for begin in range(0, len(array), 32)]


def paint(
    pipeline: Any, images: NDArray[np.uint8], masks: NDArray[np.bool_], prompts: Sequence[str], settings: PaintSettings
) -> NDArray[np.uint8]:
    """The images `[N x S x S x 3]` with each prompt painted where its mask is; the rest is the image's own."""
    generator = torch.Generator().manual_seed(settings.seed)
    painted = []
    for begin in range(0, len(images), PAINTED_AT_ONCE):
        part = slice(begin, begin + PAINTED_AT_ONCE)
        painted += pipeline(
            prompt=list(prompts[part]),
            image=[Image.fromarray(image) for image in images[part]],
            mask_image=[Image.fromarray(mask.astype(np.uint8) * 255) for mask in masks[part]],
            height=images.shape[1],
            width=images.shape[2],
            guidance_scale=settings.guidance,
            num_inference_steps=settings.steps,
            generator=generator,
        ).images
    return np.where(masks[..., None], np.stack([np.asarray(image) for image in painted]), images)


@dataclass(frozen=True)
class Judge:
    """A classifier of drawn defects, and the share of held-out ones that it recognises."""

    backbone: Backbone
    classifier: Any
    real: float


def train_judge(count: int = 1200) -> Judge:
    """Trains on drawn defects of all kinds, sharp and soft, tests on a quarter as many others as they were drawn.

    A judge of sharp pictures alone takes every loss of fine grain for a dent.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    backbone = load_backbone(FeaturesConfig(layers=("layer1", "layer2", "layer3")))
    images, spots, kinds = drawn_defects(TRAINING_SEED, count)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=300))
    vectors = [spot_vectors(backbone, given, spots) for given in (images, softened(images))]
    classifier.fit(np.concatenate(vectors), np.tile(kinds, 2))
    images, spots, kinds = drawn_defects(TEST_SEED, count // 4)
    return Judge(backbone, classifier, float(classifier.score(spot_vectors(backbone, images, spots), kinds)))


def recognise(pipeline: Any, judge: Judge, settings: PaintSettings, *, per_kind: int = 16) -> Recognition:
    """What the judge sees in what the model paints onto the same clean surfaces for each kind."""
    from sklearn.metrics import confusion_matrix

    surfaces, masks = _places(per_kind)
    every = np.tile(np.arange(per_kind), len(DEFECT_KINDS))
    surfaces, masks = surfaces[every], masks[every]
    wanted = np.repeat(np.arange(len(DEFECT_KINDS)), per_kind)
    painted = paint(pipeline, surfaces, masks, [plain_words(DEFECT_KINDS[kind]) for kind in wanted], settings)
    seen = judge.classifier.predict(spot_vectors(judge.backbone, painted, masks))
    outside = np.abs(painted.astype(np.int16) - surfaces).max(axis=3)[~masks].max()
    confusion = confusion_matrix(wanted, seen, labels=np.arange(len(DEFECT_KINDS)))
    return Recognition(judge.real, float((seen == wanted).mean()), confusion, int(outside))


def _places(count: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Clean surfaces and where to paint on them; the same for every prompt, so that only the prompt decides."""
    samples = [draw_sample(SampleSpec(seed=PAINTING_SEED), number) for number in range(2 * count)]
    chosen: list[Sample] = [sample for sample in samples if sample.defect.any()][:count]
    rng = np.random.default_rng(PAINTING_SEED)
    return np.stack([s.clean for s in chosen]), np.stack([spot_around(s.defect, rng) for s in chosen])


def draw_grid(pipeline: Any, settings: PaintSettings, path: Path, *, surfaces: int = 10) -> None:
    """A PNG of prompts (rows) on surfaces (columns), the masked surfaces on top."""
    images, masks = _places(surfaces)
    rows = [np.where(masks[..., None], np.uint8(128), images)]
    rows += [paint(pipeline, images, masks, [prompt] * surfaces, settings) for prompt in GRID_PROMPTS]
    grid = Image.fromarray(np.concatenate([np.concatenate(list(row), axis=1) for row in rows]))
    label = 130
    sheet = Image.new("RGB", (grid.width + label, grid.height), "white")
    sheet.paste(grid, (label, 0))
    pen = ImageDraw.Draw(sheet)
    for number, text in enumerate(("where to paint", *GRID_PROMPTS)):
        pen.text((4, number * SIDE + SIDE // 2 - 6), text, fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)  # true colours would be too many bytes


def report(result: Recognition) -> str:
    """The result as a table in plain text."""
    per_kind = result.confusion.diagonal() / result.confusion.sum(axis=1)
    lines = [
        f"recognised: {result.real:.1%} of held-out drawn defects, {result.painted:.1%} of painted ones "
        f"(chance {1 / len(DEFECT_KINDS):.1%}); largest change outside the mask {result.outside}",
        f"{'prompt':12} {'right':>6}   recognised as " + ", ".join(DEFECT_KINDS),
    ]
    for kind, share, row in zip(DEFECT_KINDS, per_kind, result.confusion, strict=True):
        lines.append(f"{kind:12} {share:6.0%}   " + " ".join(f"{count:3d}" for count in row))
    return "\n".join(lines)


def main() -> None:
    """Prints the table; with --grid draws the picture."""
    defaults = PaintSettings()
    parser = argparse.ArgumentParser(prog="python -m exdd_ray.weights.miniature.evaluate", description=__doc__)
    parser.add_argument("--model", type=Path, default=WEIGHTS)
    parser.add_argument("--guidance", type=float, default=defaults.guidance)
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--per-kind", type=int, default=16, help="painted samples of each kind; 0 for none")
    parser.add_argument("--grid", type=Path, help="PNG file to draw")
    options = parser.parse_args()
    settings = PaintSettings(guidance=options.guidance, steps=options.steps)
    pipeline = load_model(options.model)
    if options.per_kind > 0:
        print(report(recognise(pipeline, train_judge(), settings, per_kind=options.per_kind)))
    if options.grid is not None:
        draw_grid(pipeline, settings, options.grid)


if __name__ == "__main__":
    main()
