"""One part, as gpu.py starts it: `python -m gpu_parts NAME [--tiny]`."""

import json
import sys

from gpu_parts import run_part

OWN = ("exdd_ray", "gpu_parts", "sdxl")

if __name__ == "__main__":
    try:
        run_part(sys.argv[1], tiny="--tiny" in sys.argv)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in OWN:
            raise
        print(json.dumps({"absent": error.name}), flush=True)
