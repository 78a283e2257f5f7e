"""The shape of the code and what it costs to add to it; the suite's minutes; metrics as they were before a change.

`house_metrics.json` holds the metrics of five bundled experiments and the processor that made them. They are made again
with a store of their own, and must be equal to the last digit; another processor may round otherwise, which is said.
"""

import argparse
import ast
import json
import os
import re
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common import report
from leaks import PACKAGE, leaks

ROOT = PACKAGE.parent
BEFORE = Path(__file__).with_name("house_metrics.json")
LONGEST = 60  # lines of a function
EXPERIMENTS: Mapping[str, Sequence[str]] = {
    "demo": (),
    "patchcore_magnetic_tile": ("seeds=[0]",),
    "exdd_magnetic_tile": ("seeds=[0]",),
    "classifier_magnetic_tile": ("seeds=[0]",),
    "diffusionad_small": ("seeds=[0]",),
}
NO_METRICS = ("seconds", "runs")


def file_lines() -> list[int]:
    """Lines of every module."""
    return [len(file.read_text(encoding="utf-8").splitlines()) for file in sorted(PACKAGE.rglob("*.py"))]


def function_lines() -> Iterator[tuple[int, str]]:
    """Lines of every function, from its first decorator on, and where it stands."""
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
                yield (node.end_lineno or first) - first + 1, f"{file.relative_to(ROOT)}: {node.name}"


def ninetieth(values: Sequence[int]) -> float:
    """The 90th percentile."""
    return statistics.quantiles(values, n=10)[-1]


def processor() -> str:
    """The processor's name, as Linux knows it."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else "unknown"


def suite_minutes() -> float:
    """Minutes of all that CI checks, here and now; ends the program where a check fails."""
    started = time.perf_counter()
    if subprocess.run([ROOT / ".ci" / "run"], stdout=sys.stderr).returncode:
        sys.exit(".ci/run fails: its minutes say nothing")
    return (time.perf_counter() - started) / 60


def junit_minutes(file: Path) -> float:
    """Minutes that pytest's own report says it took."""
    return float(next(ElementTree.parse(file).getroot().iter("testsuite")).attrib["time"]) / 60


def metrics_now(folder: Path) -> dict[str, dict[str, Any]]:
    """Experiment -> trial -> metrics, made anew with a store in a folder."""
    return {name: run_metrics(name, overrides, folder) for name, overrides in EXPERIMENTS.items()}


def run_metrics(name: str, overrides: Sequence[str], folder: Path) -> dict[str, Any]:
    """Trial -> metrics of one experiment, as `exdd run` says them; ends the program where it fails."""
    places = (f"store={folder / 'store'}", f"output={folder / name}")
    command = [sys.executable, "-m", "exdd_ray.cli.main", "run", name, *overrides, *places, "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # as the others were made
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"exdd run {name} fails")
    return trial_metrics(json.loads(done.stdout.splitlines()[-1]))


def trial_metrics(said: Mapping[str, Any]) -> dict[str, Any]:
    """Trial -> metrics from what `exdd run --json` said; one trial alone has no name there."""
    trials = said.get("trials") or {"": said}
    return {
        trial: {key: value for key, value in metrics.items() if key not in NO_METRICS}
        for trial, metrics in trials.items()
    }


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What is not as it was, a line each; metrics that are new are none."""
    found = []
    for name, trials in before.items():
        for trial, metrics in trials.items():
            now = after.get(name, {}).get(trial, {})
            changed = [key for key in metrics if key not in now or now[key] != metrics[key]]
            found += [f"{name}, {trial or 'its trial'}, {key}: {metrics[key]} -> {now.get(key)}" for key in changed]
    return found


def touched(task: str) -> int:
    """Files that a checklist of CONTRIBUTING.md writes or edits; ends the program where there is none."""
    read_checklists = runpy.run_path(str(ROOT / "tests" / "support" / "checklists.py"))["read_checklists"]
    checklists = read_checklists((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    if task not in checklists:
        sys.exit(f"CONTRIBUTING.md has no section {task!r}")
    return len(checklists[task].touched)


def shape() -> dict[str, Any]:
    """The figures that are read from the files alone."""
    files, functions = file_lines(), [lines for lines, _ in function_lines()]
    return {
        "leaks": len(leaks()),
        "packages": len(list(PACKAGE.glob("*/__init__.py"))),
        "function_median": statistics.median(functions),
        "function_p90": ninetieth(functions),
        "function_longest": max(functions),
        "file_median": statistics.median(files),
        "file_p90": ninetieth(files),
        "file_longest": max(files),
        **{f"touched_{task}": touched(f"A {task}") for task in ("dataset", "synthesizer", "detector", "metric")},
    }


def measure(junit: Path | None) -> tuple[dict[str, Any], list[str]]:
    """All figures, and what a reader must know of them, a line each."""
    before = json.loads(BEFORE.read_text(encoding="utf-8"))
    figures = shape()
    remarks = [f"{place} names {', '.join(systems)}" for place, systems in leaks().items()]
    remarks += [f"{where}: {lines} lines" for lines, where in function_lines() if lines > LONGEST]
    with tempfile.TemporaryDirectory() as folder:
        changed = differences(before["metrics"], metrics_now(Path(folder)))
    if changed and processor() != before["processor"]:
        remarks.append(f"the metrics before were made on {before['processor']}, these on {processor()}")
    figures["ci_minutes"] = round(suite_minutes() if junit is None else junit_minutes(junit), 1)
    figures["identical"] = not changed
    return figures, remarks + changed


def main() -> int:
    """Measure, print, and end with 1 where a metric is another than before."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--junit", type=Path, help="take the suite's minutes from pytest's report (--junit-xml)")
    figures, remarks = measure(parser.parse_args().junit)
    print("\n".join(remarks))
    report("The house", ("figure", "value"), [(name, f"{value}") for name, value in figures.items()], figures)
    return int(not figures["identical"])


if __name__ == "__main__":
    sys.exit(main())
