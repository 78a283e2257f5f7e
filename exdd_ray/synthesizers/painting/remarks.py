"""What a reader must know of inpainted defects by their config alone: leaks, resampling, words that are not known."""

import re

from exdd_ray.config.base import Size
from exdd_ray.synthesizers.painting.config import MINIATURE, PaintConfig


def remarks(config: PaintConfig, working_size: Size | None) -> tuple[str, ...]:
    """Remarks on an experiment whose detector resizes images to a working size (height, width) first."""
    return mask_leak(config) + resampled_apart(config, working_size) + _strange_prompts(config)


def mask_leak(config: PaintConfig) -> tuple[str, ...]:
    """The remark on masks of training defects, which stand in for an expert's."""
    leaks = config.masks.source == "positives"
    return ("leakage: synthetic defects lie in the masks of training defects (masks.source=positives)",) * leaks


def resampled_apart(config: PaintConfig, seen: Size | None) -> tuple[str, ...]:
    """Synthetic images come by way of a canvas and a size of their own; the detector resizes real ones its own way."""
    painted = config.working_size
    if painted == seen or (config.canvas is None and config.output is None):
        return ()
    sizes = f"synthesizer.working_size is {painted}, the detector's {seen}"
    return (f"real and synthetic images are not resampled alike, which alone may tell them apart: {sizes}",)


def _strange_prompts(config: PaintConfig) -> tuple[str, ...]:
    """A remark on the prompts of which the miniature was taught no word for a defect; other models read more."""
    from exdd_ray.weights.miniature.captions import DEFECT_WORDS, NORMAL, plain_words

    if config.model != MINIATURE:
        return ()
    words = {kind: names for kind, names in DEFECT_WORDS.items() if kind != NORMAL}
    known = {word for names in words.values() for name in names for word in name.split()}
    strange = [prompt for prompt in config.prompts if not known & set(re.findall(r"[a-z]+", prompt.lower()))]
    if not strange:
        return ()
    named, taught = ", ".join(map(repr, strange)), ", ".join(map(plain_words, words))
    return (f"the miniature knows no word of {named} and paints something else; it knows {taught}",)
