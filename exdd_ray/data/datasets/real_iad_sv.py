"""Real-IAD dataset, with the publishers' split of one view of each object."""

from exdd_ray.data.datasets.real_iad import listed_spec

SPEC = listed_spec("real_iad_sv", "Real-IAD, single view", "realiad_jsons_sv", "real_iad has all five views.")
