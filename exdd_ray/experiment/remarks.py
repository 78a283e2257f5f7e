"""What a reader must know of a synthesis by its config alone: leaks, stand-ins for published parts, strange words."""

from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.synthesizers.table import synthesizer_of


def synthesis_remarks(config: ExperimentConfig) -> tuple[str, ...]:
    """Of the synthesizer: leaks, stand-ins, resampling that tells its images from real ones, words it cannot paint."""
    synthesizer = config.synthesizer
    if synthesizer is None:
        return ()
    return synthesizer_of(synthesizer).remarks(synthesizer, config.detector.geometry.working_size)
