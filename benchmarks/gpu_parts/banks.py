"""Search and coresets on the device, against the plain loops and products."""

import time
from functools import partial
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from exdd_ray.banks.coreset import greedy_order
from exdd_ray.banks.search import Precision, prepare_bank, search_prepared
from exdd_ray.banks.vectors import VectorBlocks
from exdd_ray.device import CUDA
from gpu_parts.measure import Bench, alike, patches, tell

_ROWS = 8192  # of queries that torch.cdist takes at a time


def searching(bench: Bench) -> None:
    """The nearest in a bank of 1 % for the patches of 64 images, host to host."""
    queries, bank, dim = (784, 512, 64) if bench.tiny else (64 * 784, 7840, 384)
    on_device = patches(queries, dim, bench.device, 1), patches(bank, dim, bench.device)
    asked, held = (part.cpu().numpy() for part in on_device)
    product = bench.seconds(lambda: _product(*on_device))
    flops = 2 * queries * bank * dim
    size = f"{queries} x {bank} x {dim}"
    tell("search_product_seconds", product, f"{1e3 * product:.1f} ms", f"the product alone, {size}, on the device")
    plain = bench.seconds(lambda: nearest_by_cdist(*on_device))
    tell("search_cdist_seconds", plain, f"{1e3 * plain:.1f} ms", "torch.cdist and a minimum, indices to the host")
    exact = _nearest_on_the_host(asked[:2048], held)
    for precision in get_args(Precision):
        prepared = prepare_bank(held, precision=precision, device=bench.device)
        work = partial(search_prepared, asked, prepared, 1)
        took = bench.seconds(work)
        shown = f"{1e3 * took:.1f} ms"
        tell(f"search_{precision}_seconds", took, shown, f"{flops / took / 1e12:.2f} TFLOP/s, exact, host to host")
        recall = float((work().indices[0, :2048, 0] == exact).mean())
        tell(f"search_{precision}_recall", recall, f"{recall:.5f}", "of the nearest in float64")
        bench.profile(work)
    _faiss(bench, asked, held)


def ties(bench: Bench) -> None:
    """Where all distances are nearly alike, as with an untrained network, most of the bank stays a candidate."""
    queries, bank, dim = (784, 512, 64) if bench.tiny else (16 * 784, 16_384, 1024)
    asked, held = (alike(count, dim, bench.device, seed).cpu().numpy() for seed, count in enumerate((queries, bank)))
    for precision in get_args(Precision):
        prepared = prepare_bank(held, precision=precision, device=bench.device)
        took = bench.seconds(partial(search_prepared, asked, prepared, 1), 1)
        tell(f"ties_{precision}_seconds", took, f"{1e3 * took:.1f} ms", f"{queries} x {bank} x {dim}, all alike")


def coreset(bench: Bench) -> None:
    """1 % and 10 % of the patches of a hundred images, from the host's memory."""
    count, dim = (4000, 64) if bench.tiny else (78_400, 384)
    points = patches(count, dim, bench.device)
    host = points.cpu().numpy()
    for share in (100, 10):
        picks = count // share
        work = partial(greedy_order, host, picks, first=0, device=bench.device)
        repeats = bench.repeats if share == 100 else 1
        took = bench.seconds(work, repeats)
        loop = bench.seconds(partial(gemv_loop, points, picks), repeats)
        tell(f"coreset_{picks}_seconds", took, f"{took:.3f} s", f"{picks} picks of {count} x {dim}")
        tell(f"coreset_{picks}_loop_seconds", loop, f"{loop:.3f} s", "the plain loop, a matrix-vector product a pick")
    picks = count // 100
    work = partial(greedy_order, host, picks, first=0, device=bench.device)
    bench.profile(work)
    same = bool(np.array_equal(work().indices, greedy_order(host, picks, first=0).indices))
    tell("coreset_identical", same, str(same).lower(), "the picks are the CPU's")


def coreset_large(bench: Bench) -> None:
    """1 % of KSDD2's patches, too many for most devices: streamed from the host's memory."""
    images, each, dim = (20, 560, 64) if bench.tiny else (2085, 560, 1536)
    blocks = [patches(5 * each, dim, bench.device, seed).cpu().numpy() for seed in range(images // 5)]
    points = VectorBlocks(blocks)
    started = time.perf_counter()
    order = greedy_order(points, len(points) // 100, first=0, device=bench.device)
    took = time.perf_counter() - started
    remark = f"{len(points)} x {dim}, {order.rounds} rounds, {bench.peak_gib():.2f} GiB on the device"
    tell("coreset_large_seconds", took, f"{took:.1f} s", remark)
    tell("coreset_large_peak_gib", bench.peak_gib(), f"{bench.peak_gib():.2f} GiB")


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


def nearest_by_cdist(queries: Tensor, bank: Tensor) -> Tensor:
    """The nearest by torch.cdist, to the host."""
    return torch.cat([torch.cdist(part, bank).min(1).indices for part in queries.split(_ROWS)]).cpu()


def _product(queries: Tensor, bank: Tensor) -> None:
    for part in queries.split(_ROWS):
        part @ bank.T


def _nearest_on_the_host(queries: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """By float64 distances."""
    return torch.cdist(torch.from_numpy(queries).double(), torch.from_numpy(bank).double()).min(1).indices.numpy()


def _faiss(bench: Bench, queries: np.ndarray, bank: np.ndarray) -> None:
    """FAISS's flat index, where its GPU build is there."""
    try:
        import faiss
    except ImportError:
        return
    if bench.device != CUDA or getattr(faiss, "get_num_gpus", lambda: 0)() == 0:
        return
    index = faiss.index_cpu_to_all_gpus(faiss.IndexFlatL2(bank.shape[1]), ngpu=1)
    index.add(bank)
    took = bench.seconds(lambda: index.search(queries, 1))
    tell("search_faiss_seconds", took, f"{1e3 * took:.1f} ms", "FAISS IndexFlatL2 on the GPU, host to host")
