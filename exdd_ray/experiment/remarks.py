"""What a reader must know of a synthesis by its config alone: leaks, stand-ins for published parts, strange words."""

from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.synthesizers.leaves import leaves
from exdd_ray.synthesizers.table import synthesizer_of


def synthesis_remarks(config: ExperimentConfig) -> tuple[str, ...]:
    """Of the synthesizer: leaks, stand-ins, resampling that tells its images from real ones, words it cannot paint."""
    if config.synthesizer is None:
        return ()
    size = config.detector.geometry.working_size
    return tuple(
        f"{remark}; so in {leaf.path}" if leaf.part else remark
        for leaf in leaves(config.synthesizer)
        for remark in synthesizer_of(leaf.config).remarks(leaf.config, size)
    )
