"""Evidence of defects as an artifact of the store, and what it adds to the scores of images."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from exdd_ray.banks.kernel import Kernel
from exdd_ray.banks.memory_bank import MemoryBank
from exdd_ray.banks.scoring.evidence import Lift
from exdd_ray.features.embedder import Samples
from exdd_ray.methods.patch_bank.config import EvidenceConfig
from exdd_ray.methods.patch_bank.learn import HeldOut, Learnt, learn
from exdd_ray.methods.patch_bank.positives import Defects, image_vectors
from exdd_ray.progress import Progress
from exdd_ray.store.arrays import read_arrays, write_arrays
from exdd_ray.store.artifact import Artifact, Recipe, Store

VERSION = 2
ADDED_VERSION = 1
_FILE = "evidence.arrow"


@dataclass(frozen=True)
class DefectEvidence:
    """What was learnt, under the key of its artifact."""

    key: str
    learnt: Learnt

    def added(self, samples: Samples, store: Store) -> np.ndarray:
        """What evidence adds to the standardised distances of images' patches: float32 [2 x n x P]."""

        def build(folder: Path) -> None:
            found = np.stack([self._added(vectors) for vectors in image_vectors([samples])])
            write_arrays(folder / _FILE, {"image": found[:, 0], "map": found[:, 1]})

        recipe = Recipe("evidence-added", ADDED_VERSION, {}, (self.key, samples.key))
        return np.stack(list(read_arrays(store.make(recipe, build).file(_FILE)).values()))

    def _added(self, vectors: np.ndarray) -> np.ndarray:
        each = zip(self.learnt.kernel.weighted(vectors, self.learnt.weights).T, self.learnt.lifts, strict=True)
        added = [np.zeros_like(one) if lift is None else lift.of(one) for one, lift in each]
        return np.stack(added).astype(np.float32)


def fit_evidence(
    config: EvidenceConfig,
    defects: Defects,
    held_out: HeldOut,
    positive: MemoryBank,
    seed: int,
    store: Store,
    progress: Progress,
) -> DefectEvidence:
    """Learn of defects beside held-out normal images, or take what was learnt from the store.

    Args:
        defects: real or synthetic; synthetic ones beside real ones are used where they help with real ones.
        positive: bank of the defects' patches: landmarks.
        seed: of the random normal patches.
    """

    def build(folder: Path) -> dict[str, Any]:
        with progress("evidence of defects", 1) as advance:
            found = learn(config, defects, held_out, positive, seed)
            advance(1)
        write_arrays(folder / _FILE, {"landmarks": found.kernel.landmarks, "weights": found.weights})
        lifts = [lift and asdict(lift) for lift in found.lifts]
        return {"width": found.kernel.width, "lifts": lifts, "synthetic": found.synthetic}

    how = {**config.model_dump(mode="json"), "seed": seed}
    inputs = (defects.key, held_out.key, positive.key)
    return _opened(store.make(Recipe("evidence", VERSION, how, inputs), build))


def _opened(artifact: Artifact) -> DefectEvidence:
    arrays, metadata = read_arrays(artifact.file(_FILE)), artifact.metadata
    learnt = Learnt(
        kernel=Kernel(arrays["landmarks"], metadata["width"]),
        weights=arrays["weights"],
        synthetic=metadata["synthetic"],
        lifts=tuple(lift and Lift(**lift) for lift in metadata["lifts"]),
    )
    return DefectEvidence(artifact.key, learnt)
