"""SuperSimpleNet beside the banks: ours on their features, and anomalib's on the same images and weights."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from common import SHARED, resnet18, tiles

from exdd_ray.banks.scoring.maps import MapMaker
from exdd_ray.data.catalog import CatalogRow, build_catalog, catalog_rows
from exdd_ray.data.images import read_image
from exdd_ray.experiment.session import Session
from exdd_ray.features.embedder import Embedder
from exdd_ray.features.prepare import prepare_image
from exdd_ray.methods.predictions import Predictions
from exdd_ray.methods.supersimplenet.config import SuperSimpleNetConfig
from exdd_ray.methods.supersimplenet.detector import fit_supersimplenet
from exdd_ray.training.config import TrainConfig

EPOCHS, BATCH = 2, 8  # of both, for a CPU's sake; the paper has 300 and 32


@dataclass(frozen=True)
class Peer:
    """A detector that the banks are compared with.

    Attributes:
        predict: what it says of images, given what it is trained on and a seed.
        counts: of defects learnt, where it is compared.
        once: it is slow, and compared with the first seed alone.
    """

    predict: Callable[[Sequence[CatalogRow], pa.Table, Session, int], Predictions]
    counts: tuple[int, ...]
    once: bool = False


def ours(train: Sequence[CatalogRow], images: pa.Table, session: Session, seed: int) -> Predictions:
    """By the preset `best`, on the features of the banks."""
    training = TrainConfig(batch=BATCH, precision="bfloat16")
    config = SuperSimpleNetConfig(features=resnet18(), epochs=EPOCHS, training=training)
    embedder = Embedder(session.store, config.features, tiles(), progress=session.progress)
    started = time.perf_counter()
    fitted = fit_supersimplenet(config, build_catalog(train), embedder, seed)
    print(f"trained in {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return fitted.predict(images)


def anomalib(train: Sequence[CatalogRow], images: pa.Table, session: Session, seed: int) -> Predictions:  # noqa: ARG001
    """By anomalib's module, trained by its trainer, with its defaults: fewer epochs, the features' weights and size."""
    from anomalib.data import ImageBatch, ImageItem
    from anomalib.models import Supersimplenet
    from lightning import Trainer, seed_everything
    from safetensors.torch import load_file
    from torch.utils.data import DataLoader
    from torchvision.models import resnet18 as untrained

    seed_everything(seed)
    backbone = untrained()
    backbone.load_state_dict(load_file(SHARED / "weights" / "resnet18_in1k_conv1-layer3.safetensors"), strict=False)
    module = Supersimplenet(
        backbone=backbone,
        layers=["layer2", "layer3"],
        pre_processor=False,
        post_processor=False,
        evaluator=False,
        visualizer=False,
    )
    items = [ImageItem(image=_prepared(row), gt_label=torch.tensor(row.label)) for row in train]
    batches: DataLoader[Any] = DataLoader(items, BATCH, shuffle=True, drop_last=True, collate_fn=ImageBatch.collate)  # type: ignore[arg-type]
    trainer = Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        precision="bf16-mixed",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        **module.trainer_arguments,
    )
    started = time.perf_counter()
    trainer.fit(module, batches)
    print(f"anomalib trained in {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)

    rows, found = catalog_rows(images), []
    module.eval()
    with torch.inference_mode():
        found = [module.model(_prepared(row)[None]) for row in rows]
    size = resnet18().input_size
    maps = np.stack([one.anomaly_map.flatten().numpy() for one in found])
    scores = np.array([float(one.pred_score) for one in found])
    return Predictions(tuple(rows), scores, maps, MapMaker(size, size, "gaussian", 0.0))


def _prepared(row: CatalogRow) -> torch.Tensor:
    """As the backbone sees it [3 x H x W]."""
    return torch.from_numpy(prepare_image(read_image(row.image), resnet18()))


PEERS: Mapping[str, Peer] = {
    "supersimplenet": Peer(ours, counts=(0, 20, 78)),
    "anomalib_supersimplenet": Peer(anomalib, counts=(0,), once=True),
}
