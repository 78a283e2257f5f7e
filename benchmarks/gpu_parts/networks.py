"""Embedding, and PatchCore from an image in the host's memory to its anomaly map there.

The WideResNet-50-2 has random weights: it runs as fast as a trained one. EfficientAD (Batzner et al., 2024) measures so
too, latency at batch 1 and throughput at batch 16; its anchors on an A6000 are 32 ms and 76 images/s for PatchCore,
2.2 ms and 614 images/s for EfficientAD-S.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from exdd_ray.banks.scoring.config import ScoringConfig
from exdd_ray.banks.scoring.maps import map_maker
from exdd_ray.banks.search import prepare_bank, search_prepared
from exdd_ray.features.aggregate import aggregate
from exdd_ray.features.backbone import Backbone, folded, load_backbone
from exdd_ray.features.config import FeaturesConfig
from gpu_parts.measure import Bench, patches, tell

_DIM = 1024


def embedding(bench: Bench) -> None:
    """Images per second at batch 16, the bare network beside it, in both precisions."""
    with wide_resnet(32 if bench.tiny else 224) as config:
        batch = _images(16, config)
        for precision in ("float32", "bfloat16"):
            low = precision == "bfloat16"
            backbone = folded(load_backbone(config, bench.device))
            bare = bench.seconds(partial(_maps, backbone, batch.to(bench.device), low, bench.device))
            tell(
                f"network_{precision}_seconds",
                bare,
                f"{1e3 * bare:.1f} ms",
                "the bare network, batch 16, on the device",
            )
            work = partial(embed, backbone, batch, config, low, bench.device)
            took = bench.seconds(work)
            tell(f"embed_{precision}_seconds", took, f"{1e3 * took:.1f} ms", f"{16 / took:.0f} images/s, host to host")
            bench.profile(work)


def patchcore(bench: Bench) -> None:
    """Images to maps at batch 1 and 16 with a bank of 16k; the network alone beside it."""
    with wide_resnet(32 if bench.tiny else 224) as config:
        backbone = folded(load_backbone(config, bench.device))
        bank = prepare_bank(patches(512 if bench.tiny else 16_384, _DIM, "cpu").numpy(), device=bench.device)
        side = config.resize if isinstance(config.resize, int) else config.resize[0]
        draw = map_maker(ScoringConfig(), (side // 8, side // 8), (side, side))

        def predict(batch: Tensor) -> np.ndarray:
            vectors = embed(backbone, batch, config, True, bench.device).reshape(-1, _DIM).numpy()
            return draw.many(search_prepared(vectors, bank, 1).distances[0].reshape(len(batch), -1))

        for count in (1, 16):
            batch = _images(count, config)
            bare = bench.seconds(partial(_maps, backbone, batch.to(bench.device), True, bench.device))
            tell(f"patchcore_{count}_network_seconds", bare, f"{1e3 * bare:.1f} ms", f"the bare network, batch {count}")
            took = bench.seconds(partial(predict, batch))
            shown = f"{1e3 * took:.1f} ms"
            tell(f"patchcore_{count}_seconds", took, shown, f"batch {count}, {count / took:.0f} images/s, image to map")
            bench.profile(partial(predict, batch))


@contextmanager
def wide_resnet(side: int) -> Iterator[FeaturesConfig]:
    """A WideResNet-50-2 with random weights, as a config that names their file."""
    from torchvision.models import get_model

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "random.safetensors"
        save_file(get_model("wide_resnet50_2", weights=None).state_dict(), file)
        yield FeaturesConfig(backbone="wide_resnet50_2", weights=file, aggregator="pc1024", resize=(side, side))


def embed(backbone: Backbone, batch: Tensor, config: FeaturesConfig, low: bool, device: str) -> Tensor:
    """Patch vectors [B x P x D] on the host of images there."""
    maps = _maps(backbone, batch.to(device), low, device)
    with torch.inference_mode():
        return aggregate([m.float() for m in maps], config.aggregator).vectors.cpu()


def _maps(backbone: Backbone, batch: Tensor, low: bool, device: str) -> list[Tensor]:
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=low):
        return backbone(batch)


def _images(count: int, config: FeaturesConfig) -> Tensor:
    size = (config.resize, config.resize) if isinstance(config.resize, int) else config.resize
    return torch.rand(count, 3, *size).contiguous(memory_format=torch.channels_last)
