"""The scored images of trials, from their artifacts."""

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from exdd_ray.experiment.trial_files import PREDICTIONS
from exdd_ray.metrics.influence import Scored
from exdd_ray.store.artifact import Artifact


def scored_images(artifact: Artifact) -> dict[str, Scored]:
    """What a trial scored, by split."""
    table = pq.read_table(artifact.file(PREDICTIONS), columns=["content", "split", "label", "score"])
    found = {}
    for split in pc.unique(table["split"]).to_pylist():
        part = table.filter(pc.equal(table["split"], split))
        labels, scores = (np.asarray(part[name]) for name in ("label", "score"))
        found[split] = Scored(tuple(part["content"].to_pylist()), labels, scores)
    return found


def scored_trials(artifacts: Iterable[Artifact]) -> Mapping[str, Mapping[str, Scored]]:
    """By key of a trial's artifact what it scored, by split."""
    return {artifact.key: scored_images(artifact) for artifact in artifacts}
