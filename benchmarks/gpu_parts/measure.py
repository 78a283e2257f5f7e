"""How a part measures on its device, and how it tells what it found."""

import cProfile
import json
import pstats
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from exdd_ray.device import CUDA, compute_device

_PACKAGE = f"{Path(__file__).parents[2] / 'exdd_ray'}/"
_STAGES, _LEAST = 8, 0.01  # of a profile: how many, and the least share of the whole


@dataclass(frozen=True)
class Bench:
    """Where it is measured; `tiny` checks that it runs, its figures mean nothing."""

    device: str
    tiny: bool

    @classmethod
    def on_this_machine(cls, *, tiny: bool) -> "Bench":
        """On the CUDA device where there is one."""
        return cls(compute_device(), tiny)

    @property
    def repeats(self) -> int:
        """Runs of which the median counts."""
        return 1 if self.tiny else 5

    def wait(self) -> None:
        """Until the device has nothing left to do."""
        if self.device == CUDA:
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], object], repeats: int | None = None) -> float:
        """Median seconds, the device's queue emptied before and after; the first run is not counted."""
        times = []
        for _ in range((repeats or self.repeats) + 1):
            self.wait()
            started = time.perf_counter()
            work()
            self.wait()
            times.append(time.perf_counter() - started)
        return median(times[1:])

    def profile(self, work: Callable[[], object]) -> None:
        """Tell which functions of the package one run spends its time in, and how long the device computes meanwhile.

        A stage's time includes those that it calls, and on a device its waiting for what was launched before.
        """
        profiler = cProfile.Profile()
        self.wait()
        started = time.perf_counter()
        profiler.runcall(work)
        self.wait()
        whole = time.perf_counter() - started
        found = pstats.Stats(profiler).stats.items()  # type: ignore[attr-defined]
        ours = [
            (took, calls, file, name)
            for (file, _, name), (_, calls, _, took, _) in found
            if file.startswith(_PACKAGE) and took > _LEAST * whole and not name.startswith(("<", "__"))
        ]
        for took, calls, file, name in sorted(ours, reverse=True)[:_STAGES]:
            print_line({"stage": f"{Path(file).stem}.{name}", "seconds": took, "calls": calls, "of": whole})
        if self.device == CUDA:
            print_line({"stage": "device computes", "seconds": self._device_seconds(work), "calls": 1, "of": whole})

    def _device_seconds(self, work: Callable[[], object]) -> float:
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            work()
            self.wait()
        return sum(event.self_device_time_total for event in profiler.key_averages()) / 1e6

    def peak_gib(self) -> float:
        """Most of the device's memory that was taken so far."""
        return torch.cuda.max_memory_allocated() / 2**30 if self.device == CUDA else 0.0


def tell(name: str, value: float | bool, shown: str, remark: str = "") -> None:
    """A figure: its name and value in the JSON at the end, and its line in the table."""
    rounded = value if isinstance(value, bool) else float(f"{value:.4g}")
    print_line({"figure": name, "value": rounded, "shown": shown, "remark": remark})


def print_line(record: dict[str, object]) -> None:
    """A record on a line of stdout, at once."""
    print(json.dumps(record), file=sys.stdout, flush=True)


def patches(count: int, dim: int, device: str, seed: int = 0) -> Tensor:
    """Vectors [count x dim] with the decaying spectrum of features, not white noise: 18 factors and a little of it."""
    generator = torch.Generator(device).manual_seed(seed)
    factors = torch.randn(count, 18, generator=generator, device=device)
    # of all seeds alike, so that queries lie where the bank does
    mixing = torch.randn(18, dim, generator=torch.Generator(device).manual_seed(0), device=device)
    return (factors @ mixing / 18**0.5 + 0.2 * torch.randn(count, dim, generator=generator, device=device)).relu_()


def alike(count: int, dim: int, device: str, seed: int = 0) -> Tensor:
    """Vectors [count x dim] that lie close together far from the origin, as an untrained network's features do."""
    generator = torch.Generator(device).manual_seed(seed)
    middle = torch.rand(dim, generator=torch.Generator(device).manual_seed(0), device=device)
    return middle + 1e-3 * torch.randn(count, dim, generator=generator, device=device)
