"""The same measurements on a CUDA device, at realistic size: WideResNet-50-2, 224 pixels, banks of 16k x 1024.

The weights are random: they run as fast as trained ones, and no figure here depends on what they see. Peers run on the
same device in the same run: the GEMV loop, torch.cdist, FAISS where its GPU build is installed, and anomalib where it
and the magnetic tiles are there (patchcore_vs_anomalib.py takes the device too). A search is timed with its bank
prepared on the device, as a detector holds it.

EfficientAD's protocol (Batzner et al., 2024): from an image in the host's memory to its anomaly map there, latency at
batch 1 and throughput at batch 16; its anchors on an A6000 are 32 ms and 76 images/s for PatchCore, 2.2 ms and 614
images/s for EfficientAD-S.

`--tiny` runs everything at toy size on whatever device there is, to check the script; its figures mean nothing.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import get_args

import numpy as np
import torch
from common import SHARED, report
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import get_model

from exdd_ray.banks.coreset import greedy_order
from exdd_ray.banks.search import Precision, prepare_bank, search, search_prepared
from exdd_ray.banks.vectors import VectorBlocks
from exdd_ray.config.detector import FeaturesConfig, ScoringConfig
from exdd_ray.features.aggregate import aggregate
from exdd_ray.features.backbone import Backbone, load_backbone
from exdd_ray.scoring.maps import map_maker

RESULTS = Path(__file__).parent / "results"
Rows = list[tuple[str, str, str]]
Figures = dict[str, object]


@dataclass(frozen=True)
class Sizes:
    """What is measured; `scale` is (images, patches an image, D, rate) of KSDD2."""

    coreset: tuple[int, int] = (156_800, 1024)
    bank: int = 16_384
    queries: int = 16 * 784
    scale: tuple[int, int, int, float] = (2085, 560, 1536, 0.01)
    images: int = 256
    side: int = 224
    repeats: int = 5


TINY = Sizes(coreset=(4000, 64), bank=512, queries=784, scale=(20, 560, 64, 0.01), images=16, side=64, repeats=3)


def patches(count: int, dim: int, device: str, seed: int = 0) -> Tensor:
    """Vectors [count x dim] with the decaying spectrum of features, not white noise: 18 factors and a little of it."""
    generator = torch.Generator(device).manual_seed(seed)
    factors = torch.randn(count, 18, generator=generator, device=device)
    mixing = torch.randn(18, dim, generator=generator, device=device)
    return (factors @ mixing / 18**0.5 + 0.2 * torch.randn(count, dim, generator=generator, device=device)).relu_()


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Median seconds, the device's queue emptied before and after; the first run is not counted."""
    times = []
    for _ in range(repeats + 1):
        _wait()
        started = time.perf_counter()
        work()
        _wait()
        times.append(time.perf_counter() - started)
    return median(times[1:])


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def gemv_loop(points: Tensor, picks: int) -> Tensor:
    """The plain greedy loop on the device, a matrix-vector product a pick."""
    squares = points.square().sum(1)
    left = torch.full_like(squares, torch.inf)
    order = torch.zeros(picks, dtype=torch.long, device=points.device)
    for i in range(1, picks):
        best = order[i - 1]
        torch.minimum(left, squares - 2 * (points @ points[best]) + squares[best], out=left)
        order[i] = left.argmax()
    return order


def coreset(sizes: Sizes, device: str) -> tuple[Rows, Figures]:
    """1 % of the patches of 200 images."""
    points = patches(*sizes.coreset, device)
    host, picks = points.cpu().numpy(), sizes.coreset[0] // 100
    ours = seconds(lambda: greedy_order(host, picks, first=0, device=device), sizes.repeats)
    plain = seconds(lambda: gemv_loop(points, picks), sizes.repeats)
    same = np.array_equal(
        greedy_order(host, picks, first=0, device=device).indices, greedy_order(host, picks, first=0).indices
    )
    rows = [("coreset, greedy_order", f"{ours:.2f} s", f"{plain / ours:.1f} x the GEMV loop, upload included")]
    return rows, {"ratio_gemv": round(plain / ours, 2), "identical_to_cpu": same, "coreset_seconds": round(ours, 3)}


def coreset_scale(sizes: Sizes, device: str) -> tuple[Rows, Figures]:
    """KSDD2's size in host memory, streamed to the device."""
    images, each, dim, rate = sizes.scale
    blocks = [patches(15 * each, dim, device, seed).cpu().numpy() for seed in range(images // 15)]
    points = VectorBlocks(blocks)
    started = time.perf_counter()
    order = greedy_order(points, int(rate * len(points)), first=0, device=device)
    took = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0
    rows = [
        (f"coreset, {len(points)} x {dim}", f"{took:.1f} s", f"{order.rounds} rounds, {peak:.2f} GiB on the device")
    ]
    return rows, {"scale_seconds": round(took, 1), "scale_rounds": order.rounds, "scale_peak_gib": round(peak, 2)}


def faiss_on_gpu(bank: np.ndarray, queries: np.ndarray, repeats: int) -> float | None:
    """Seconds of FAISS's flat index on the GPU; None where its GPU build is not installed."""
    import faiss

    if getattr(faiss, "get_num_gpus", lambda: 0)() == 0:
        return None
    index = faiss.index_cpu_to_all_gpus(faiss.IndexFlatL2(bank.shape[1]), ngpu=1)
    index.add(bank)
    return seconds(lambda: index.search(queries, 1), repeats)


def against_anomalib() -> Figures:
    """The figures of patchcore_vs_anomalib.py on this device; empty without anomalib or the tiles."""
    if find_spec("anomalib") is None or not (SHARED / "data" / "magnetic-tile").is_dir():
        return {}
    script = Path(__file__).with_name("patchcore_vs_anomalib.py")
    output = subprocess.run([sys.executable, script], check=True, stdout=subprocess.PIPE, text=True).stdout
    found: Figures = json.loads(output.splitlines()[-1])
    return {f"anomalib_{name}": value for name, value in found.items()}


def searching(sizes: Sizes, device: str) -> tuple[Rows, Figures]:
    """The nearest of 16k x 1024 for the patches of 16 images."""
    bank, queries = patches(sizes.bank, 1024, device), patches(sizes.queries, 1024, device, 1)
    held = bank.cpu().numpy(), queries.cpu().numpy()
    flops = 2 * len(bank) * len(queries) * 1024
    peak = flops / seconds(lambda: queries @ bank.T, sizes.repeats) / 1e12
    rows: Rows = [("sgemm peak", f"{peak:.1f} TFLOP/s", "matrices on the device")]
    figures: Figures = {"sgemm_tflops": round(peak, 2)}
    exact = search(held[1], held[0], 1).indices
    for precision in get_args(Precision):
        prepared = prepare_bank(held[0], precision=precision, device=device)
        took = seconds(partial(prepared.nearest, held[1], 1, 4096, None), sizes.repeats)
        found = search(held[1], held[0], 1, precision=precision, device=device).indices
        rows.append((f"search, {precision}", f"{flops / took / 1e12:.1f} TFLOP/s", "host to host"))
        figures |= {
            f"peak_fraction_{precision}": round(flops / took / 1e12 / peak, 3),
            f"recall_{precision}": float((found == exact).mean()),
        }
    cdist = seconds(lambda: torch.cdist(queries.cpu().to(device), bank).min(1).values.cpu(), sizes.repeats)
    faiss = faiss_on_gpu(*held, sizes.repeats) if device == "cuda" else None
    if faiss is not None:
        rows.append(("faiss, GPU", f"{flops / faiss / 1e12:.1f} TFLOP/s", "host to host"))
        figures["faiss_tflops"] = round(flops / faiss / 1e12, 2)
    rows.append(("torch.cdist", f"{flops / cdist / 1e12:.1f} TFLOP/s", "host to host"))
    return rows, {**figures, "cdist_tflops": round(flops / cdist / 1e12, 2)}


@contextmanager
def wide_resnet(side: int) -> Iterator[FeaturesConfig]:
    """A WideResNet-50-2 with random weights, as a config that names their file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "random.safetensors"
        save_file(get_model("wide_resnet50_2", weights=None).state_dict(), file)
        yield FeaturesConfig(backbone="wide_resnet50_2", weights=file, aggregator="pc1024", resize=(side, side))


def embedding(sizes: Sizes, device: str, config: FeaturesConfig) -> tuple[Rows, Figures]:
    """Images per second of backbone and aggregation at batch 16, in the ways that may gain."""
    backbone = load_backbone(config, device)
    batch = torch.rand(16, 3, sizes.side, sizes.side).contiguous(memory_format=torch.channels_last)
    ways: dict[str, tuple[Callable[[Tensor], list[Tensor]], bool]] = {
        "float32": (backbone, False),
        "bfloat16": (backbone, True),
        "bfloat16, compiled": (torch.compile(backbone), True),
    }
    rows: Rows = []
    figures: Figures = {}
    for name, (network, low) in ways.items():
        took = seconds(partial(_vectors, network, batch, config, device, low), sizes.repeats)
        rows.append((f"embedding, {name}", f"{16 / took:.0f} images/s", "host to host"))
        figures[f"embed_{name.replace(', ', '_')}"] = round(16 / took, 1)
    return rows, figures


def _vectors(
    network: Callable[[Tensor], list[Tensor]], batch: Tensor, config: FeaturesConfig, device: str, low: bool
) -> Tensor:
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=low):
        maps = network(batch.to(device))
    return aggregate([m.float() for m in maps], config.aggregator).vectors.cpu()


def inference(sizes: Sizes, device: str, config: FeaturesConfig) -> tuple[Rows, Figures]:
    """PatchCore from image to map, by EfficientAD's protocol."""
    backbone: Backbone = load_backbone(config, device)
    bank = patches(sizes.bank, 1024, "cpu").numpy()
    prepared = prepare_bank(bank, precision="bfloat16", device=device)
    grid = (sizes.side // 8, sizes.side // 8)
    draw = map_maker(ScoringConfig(), grid, (sizes.side, sizes.side))

    def predict(batch: Tensor) -> np.ndarray:
        vectors = _vectors(backbone, batch, config, device, low=True)
        found = search_prepared(vectors.reshape(-1, 1024).numpy(), prepared, 1)
        return draw.many(found.distances[0].reshape(len(batch), -1))

    rows: Rows = []
    figures: Figures = {}
    for count, name in ((1, "latency_ms"), (16, "images_per_second")):
        batch = torch.rand(count, 3, sizes.side, sizes.side).contiguous(memory_format=torch.channels_last)
        took = seconds(partial(predict, batch), 4 * sizes.repeats)
        figures[name] = round(took * 1e3 if count == 1 else count / took, 2)
        rows.append((f"PatchCore, batch {count}", f"{took * 1e3:.1f} ms", f"{count / took:.0f} images/s"))
    return rows, figures


def main() -> int:
    """All in one call; the results go to a file with the device's name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="check the script at toy size, on any device")
    tiny = parser.parse_args().tiny
    if not torch.cuda.is_available() and not tiny:
        print("skipped: torch sees no CUDA device")
        print(json.dumps({"skipped": "no CUDA device"}))
        return 0
    device, sizes = ("cuda" if torch.cuda.is_available() else "cpu"), TINY if tiny else Sizes()
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    rows: Rows = []
    figures: Figures = {"device": name}
    with wide_resnet(sizes.side) as config:
        networks = (partial(embedding, config=config), partial(inference, config=config))
        for part in (coreset, searching, *networks, coreset_scale):
            more, found = part(sizes, device)
            rows += more
            figures |= found
    if not tiny:
        figures |= against_anomalib()
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"gpu-{name.replace(' ', '-')}.json").write_text(json.dumps(figures, indent=1) + "\n")
    report(f"on {name}", ("what", "value", "remark"), rows, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
