"""A command as a job of a Ray cluster, followed until it ends."""

import asyncio
import logging
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import aiohttp
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from exdd_ray.errors import UserError, one_line
from exdd_ray.on_ray.probe import TOKEN

_SECONDS = 6.0  # Ray's own client waits for ever


def submit(address: str, command: Sequence[str], folder: Path) -> int:
    """Run a command as a job, in a copy of a folder without what git ignores there; print what it prints.

    Args:
        address: `http://host:port` of the cluster's dashboard.

    Returns the command's exit code.

    Raises UserError where there is no cluster, it refuses our token or the folder, or the job is lost sight of.
    """
    _require_dashboard(address)
    _use_token()
    with _one_line_errors(f"the Ray cluster at {address} does not take the job"):
        client = JobSubmissionClient(address)
        job = client.submit_job(entrypoint=shlex.join(command), runtime_env={"working_dir": str(folder)})
    print(f"job {job}: Ctrl-C leaves it running; `ray job stop {job} --address {address}` ends it", flush=True)
    with _one_line_errors(f"job {job} is out of sight, and may go on"):
        asyncio.run(_print_log(client, job))
        ended = client.get_job_info(job)
    if ended.driver_exit_code is None:
        raise UserError(f"job {job}: {ended.status}: {' '.join(str(ended.message).split())}")
    return int(ended.driver_exit_code)


async def _print_log(client: JobSubmissionClient, job: str) -> None:
    logging.getLogger(JobSubmissionClient.__module__).setLevel(logging.WARNING)  # it tells how its socket closed
    async for text in client.tail_job_logs(job):
        print(text, end="", flush=True)


def _require_dashboard(address: str) -> None:
    """Raise UserError, within some seconds, where nothing answers as a dashboard does."""
    try:
        urlopen(f"{address}/api/version", timeout=_SECONDS).close()
    except HTTPError:
        return  # it may ask for a token
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        said = getattr(reason, "strerror", None) or reason
        raise UserError(f"no dashboard of a Ray cluster at {address} (as http://127.0.0.1:8265): {said}") from error


def _use_token() -> None:
    """Let Ray send the token that it finds, unless the environment says whether it is to."""
    found = AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True)
    if found and "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        Config.initialize("")  # Ray has read the environment at its import


@contextmanager
def _one_line_errors(what: str) -> Iterator[None]:
    try:
        yield
    except AuthenticationError as error:
        raise UserError(f"{what}: it asks for its token: {TOKEN}") from error
    except (OSError, RuntimeError, ValueError, aiohttp.ClientError) as error:
        raise UserError(f"{what}: {one_line(UserError(str(error)))}") from error
