"""How long the stages of sweeps took on this machine, kept beside the store's artifacts, to estimate the next ones."""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_FILE = "rates.json"


@dataclass(frozen=True)
class Rates:
    """Seconds an artifact of each stage took, where one was ever made."""

    each: Mapping[str, float]

    def seconds(self, stage: str, count: int) -> float | None:
        """What so many artifacts will take; None where nothing is known."""
        if not count:
            return 0.0
        return self.each[stage] * count if stage in self.each else None


def machine() -> str:
    """This machine's name and number of CPUs."""
    return f"{socket.gethostname()}, {os.cpu_count()} CPUs"


def read_rates(root: Path) -> Rates:
    """What was measured on this machine with the store of a folder; nothing where its file is missing or damaged."""
    return Rates(_read(root).get(machine(), {}))


def keep_rates(root: Path, measured: Mapping[str, float]) -> None:
    """Keep what was measured for the next sweep's estimate."""
    known = _read(root)
    known[machine()] = {**known.get(machine(), {}), **measured}
    unfinished = root / f"{_FILE}.{os.getpid()}"
    unfinished.write_text(json.dumps(known, indent=1), encoding="utf-8")
    unfinished.replace(root / _FILE)


def _read(root: Path) -> dict[str, dict[str, float]]:
    try:
        known = json.loads((root / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
