"""Figures of a CUDA device in four minutes: search, coresets, embedding, PatchCore, DiffusionAD, SDXL inpainting.

Each part is a process of its own with a time limit: one that fails, hangs or needs what is not installed loses its own
figures alone. Figures are printed as they come, each beside its peer on the same device (torch.cdist, the plain greedy
loop, the bare network, one image a call), with a profile by stage; the last line is all of them as one JSON object.
Vectors, images and weights are random: nothing is downloaded, and neither Ray nor the project's installation is needed.

`--tiny` runs at toy size on whatever device there is, to check the script; its figures mean nothing.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gpu_parts import PARTS

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
WHOLE_SECONDS = 235.0


@dataclass
class Outcome:
    """What became of a part.

    Attributes:
        figures: by name, those that were measured before it ended, whichever way.
        lost: why there are not all; empty where there are.
        absent: the module that it needs and that is not installed.
    """

    figures: dict[str, object] = field(default_factory=dict)
    lost: str = ""
    absent: str = ""

    def take(self, line: str) -> None:
        """Note and show what a part has printed."""
        try:
            record = json.loads(line)
        except ValueError:
            print(f"  {line.rstrip()}", flush=True)  # a library's own words
            return
        if "absent" in record:
            self.absent = record["absent"]
        elif "figure" in record:
            self.figures[record["figure"]] = record["value"]
            print(f"  {record['figure']:<34} {record['shown']:>16}  {record['remark']}", flush=True)
        else:
            shown = f"{1e3 * record['seconds']:.1f} ms"
            of = f"of {1e3 * record['of']:.1f} ms, {record['calls']} calls"
            print(f"      {record['stage']:<30} {shown:>16}  {of}", flush=True)


def run_part(name: str, limit: float, *, tiny: bool) -> Outcome:
    """Run a part for so many seconds at most, showing its figures as they come."""
    paths = [str(HERE), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "gpu_parts", name, *["--tiny"] * tiny]
    outcome, started = Outcome(), time.perf_counter()
    print(f"{name} (at most {limit:.0f} s)", flush=True)
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        words: list[str] = []
        readers = [
            threading.Thread(target=_each, args=(process.stdout, outcome.take)),
            threading.Thread(target=_each, args=(process.stderr, words.append)),
        ]
        for reader in readers:
            reader.start()
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            outcome.lost = f"not done in {limit:.0f} s"
        finally:
            _end(process)
            for reader in readers:
                reader.join()
    if process.returncode and not outcome.lost:
        outcome.lost = _reason(words, process.returncode)
    print(f"{name}: {_ending(outcome)}, {time.perf_counter() - started:.1f} s", flush=True)
    return outcome


def _each(lines: Iterable[str] | None, take: Callable[[str], None]) -> None:
    for line in lines or ():
        take(line)


def _end(process: subprocess.Popen[str]) -> None:
    """End a part with all that it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it has ended by itself


def _reason(words: Sequence[str], code: int) -> str:
    lines = [line.strip() for line in words if line.strip()]
    return lines[-1] if lines else f"ended with {code}"


def _ending(outcome: Outcome) -> str:
    if outcome.absent:
        return f"skipped, it needs {outcome.absent}"
    return outcome.lost or "done"


def run_parts(names: Sequence[str], most: float | None, *, tiny: bool) -> dict[str, object]:
    """All figures of some parts, and which of them were skipped or lost, and why.

    Args:
        most: seconds of a part; None is each part's own limit.
    """
    started = time.perf_counter()
    figures: dict[str, object] = {}
    skipped: dict[str, str] = {}
    lost: dict[str, str] = {}
    for name in names:
        left = WHOLE_SECONDS - (time.perf_counter() - started)
        outcome = run_part(name, max(min(most or PARTS[name][1], left), 0.1), tiny=tiny)
        figures |= outcome.figures
        if outcome.absent:
            skipped[name] = f"needs {outcome.absent}"
        elif outcome.lost:
            lost[name] = outcome.lost
    return {**figures, "skipped": skipped, "lost": lost, "seconds": round(time.perf_counter() - started, 1)}


def device_name() -> str | None:
    """Of the CUDA device; None where torch sees none."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def main() -> int:
    """Exit code 1 where a part was lost; what is not installed loses none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="some of them, with commas (default: %(default)s)")
    parser.add_argument("--seconds", type=float, help="limit of each part (default: its own)")
    parser.add_argument("--tiny", action="store_true", help="check the script at toy size, on any device")
    arguments = parser.parse_args()
    names = arguments.parts.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"no part {unknown[0]!r}: {', '.join(PARTS)}")
    name = device_name()
    if name is None and not arguments.tiny:
        print("skipped: torch sees no CUDA device")
        print(json.dumps({"skipped": "no CUDA device"}))
        return 0
    print(f"on {name or 'the CPU'}", flush=True)
    figures = {"device": name or "cpu", **run_parts(names, arguments.seconds, tiny=arguments.tiny)}
    if not arguments.tiny and name is not None:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"gpu-{name.replace(' ', '-')}.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures))
    return 1 if figures["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
