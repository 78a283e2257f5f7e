"""What methods that train networks have in common."""

from collections.abc import Sequence

from exdd_ray.methods.config import DetectorConfig
from exdd_ray.methods.method import NETWORKS, Need, PlannedFit
from exdd_ray.store.hashes import digest


def networks_need(config: DetectorConfig, fit: PlannedFit, unfitted: Sequence[str] = ()) -> Need:
    """The trained networks that a fit asks for.

    Args:
        unfitted: keys of the config that their training does not depend on.
    """
    images = [fit.train["image"].to_pylist(), fit.train["label"].to_pylist(), fit.synthetic]
    how = config.model_dump(mode="json", exclude=set(unfitted))
    return Need(NETWORKS, "artifacts", (digest([how, images, fit.seed]),))
