"""A mixture, as the table of synthesizers lists it."""

from exdd_ray.synthesizers.mixture.config import MixtureConfig
from exdd_ray.synthesizers.synthesizer import Synthesizer

SYNTHESIZER = Synthesizer(config=MixtureConfig, version=1, parts=lambda config: config.parts)
