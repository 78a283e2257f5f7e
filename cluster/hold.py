"""Hold resources of a Ray cluster while a command runs: `python cluster/hold.py GPU=4 -- python sweeps/synth_count.py`.

An autoscaler starts machines for work that waits; a sweep divides its work among the machines that it finds. So ask for
them first, begin when they have come, and give them back, to the cluster's idle timeout, when the command has ended.
"""

import argparse
import re
import signal
import subprocess
import sys
import time

import ray
from ray.autoscaler.sdk import request_resources


def hold(wanted: dict[str, int], command: list[str], seconds: float) -> int:
    """The exit code of the command, run while the cluster has at least the resources wanted.

    Raises SystemExit where there is no cluster, or they have not come within so many seconds.
    """
    try:
        ray.init(address="auto", log_to_driver=False)
    except ConnectionError as error:
        sys.exit(f"hold.py: no Ray cluster: {str(error).splitlines()[0]}")
    try:
        request_resources(bundles=[{name: 1} for name, count in wanted.items() for _ in range(count)])
        _wait(wanted, seconds)
        with subprocess.Popen(command) as child:
            signal.signal(signal.SIGTERM, lambda number, _: child.send_signal(number))
            return child.wait()
    finally:
        request_resources(bundles=[])
        ray.shutdown()


def _wait(wanted: dict[str, int], seconds: float) -> None:
    start = time.monotonic()
    while missing := [
        f"{found:g} of {count} {name}"
        for name, count in wanted.items()
        if (found := ray.cluster_resources().get(name, 0)) < count
    ]:
        if time.monotonic() - start > seconds:
            sys.exit(f"hold.py: after {seconds:g} s the cluster has only {', '.join(missing)}")
        time.sleep(1)


def _resource(text: str) -> tuple[str, int]:
    if not (match := re.fullmatch(r"(\w+)=(\d+)", text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a resource and a number, such as GPU=4")
    return match[1], int(match[2])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Hold resources of a Ray cluster while a command runs.")
    parser.add_argument("--seconds", type=float, default=1200, help="to wait for them (1200)")
    parser.add_argument("resources", nargs="+", type=_resource, help="such as GPU=4 or CPU=32, then -- and the command")
    if "--" not in sys.argv[:-1]:
        parser.error("the command comes after --")
    at = sys.argv.index("--")
    arguments = parser.parse_args(sys.argv[1:at])
    sys.exit(hold(dict(arguments.resources), sys.argv[at + 1 :], arguments.seconds))
