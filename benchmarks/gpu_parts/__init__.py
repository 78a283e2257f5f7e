"""The parts of gpu.py: what each measures, in its order, and the seconds that it may take."""

from importlib import import_module

# name: module and function, seconds
PARTS: dict[str, tuple[str, float]] = {
    "search": ("banks:searching", 40),
    "coreset": ("banks:coreset", 30),
    "embed": ("networks:embedding", 35),
    "patchcore": ("networks:patchcore", 35),
    "diffusionad": ("diffusion:diffusionad", 45),
    "ties": ("banks:ties", 25),
    "coreset_large": ("banks:coreset_large", 50),
    "sdxl": ("diffusion:inpainting", 90),
}


def run_part(name: str, *, tiny: bool) -> None:
    """Measure one part in this process; each figure is a line of JSON on stdout as it is there."""
    from gpu_parts.measure import Bench

    module, function = PARTS[name][0].split(":")
    getattr(import_module(f"gpu_parts.{module}"), function)(Bench.on_this_machine(tiny=tiny))
