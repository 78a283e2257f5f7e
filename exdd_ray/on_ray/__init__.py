"""Where the core meets Ray: each module moves one core function to where the hardware is, and nothing else."""

import os

# Under `uv run` Ray would start every worker by another `uv run` in an unpacked copy of the working folder, which
# builds an environment of several GB each time. Ray reads this at its own import.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
