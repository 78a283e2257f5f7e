"""What a reader must know of an experiment by its config alone: leaks, stand-ins for published parts, strange words."""

from exdd_ray.data.textures import procedural_textures
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.synthesizers.inpaint.config import InpaintConfig
from exdd_ray.synthesizers.inpaint.model import strange_prompts
from exdd_ray.synthesizers.per_region.blend import BLENDS
from exdd_ray.synthesizers.per_region.config import PerRegionConfig


def synthesis_remarks(config: ExperimentConfig) -> tuple[str, ...]:
    """Of the synthesizer: leaks, stand-ins, resampling that tells its images from real ones, words it cannot paint."""
    synthesizer = config.synthesizer
    if isinstance(synthesizer, PerRegionConfig):
        share = _share(synthesizer.preset, synthesizer.texture_share)
        stands_in = synthesizer.textures is None and share > 0
        return (procedural_textures(f"the recipe {synthesizer.preset}", "synthesizer.textures"),) * stands_in
    if isinstance(synthesizer, InpaintConfig):
        return mask_leak(synthesizer) + _resampled_apart(synthesizer, config) + strange_prompts(synthesizer)
    return ()


def mask_leak(synthesizer: InpaintConfig) -> tuple[str, ...]:
    """The remark on synthetic defects that are painted in the masks of real ones."""
    leaks = synthesizer.masks.source == "positives"
    return ("leakage: synthetic defects lie in the masks of training defects (masks.source=positives)",) * leaks


def _share(recipe: str, given: float | None) -> float:
    return BLENDS[recipe].texture_share if given is None else given


def _resampled_apart(synthesizer: InpaintConfig, config: ExperimentConfig) -> tuple[str, ...]:
    """Synthetic images come by way of a canvas and a size of their own; the detector resizes real ones its own way."""
    painted, seen = synthesizer.working_size, config.detector.geometry.working_size
    if painted == seen or (synthesizer.canvas is None and synthesizer.output is None):
        return ()
    sizes = f"synthesizer.working_size is {painted}, the detector's {seen}"
    return (f"real and synthetic images are not resampled alike, which alone may tell them apart: {sizes}",)
