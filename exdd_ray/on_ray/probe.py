"""Is there a Ray cluster at an address? Ray itself asks for minutes, and then ends the process."""

import os
import socket
from contextlib import suppress

import grpc
from ray._private.grpc_utils import init_grpc_channel
from ray._private.services import canonicalize_bootstrap_address
from ray.core.generated.gcs_service_pb2 import GetClusterIdRequest
from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub
from ray.core.generated.ray_client_pb2 import ClusterInfoRequest, ClusterInfoType
from ray.core.generated.ray_client_pb2_grpc import RayletDriverStub
from ray.exceptions import AuthenticationError

from exdd_ray.errors import UserError

_CLIENT = "ray://"
_SECONDS = 6.0  # for each of two questions
TOKEN = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to that cluster's"


def require_cluster(address: str | None) -> None:
    """Raise UserError, within some seconds, where no Ray cluster answers at an address, or it refuses our token.

    Args:
        address: `host:port`, `ray://host:port` or `auto`; None is what the environment says. Where it leads to no place
            yet, nothing is asked: Ray says why.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    try:
        place = _place(address)
    except ValueError as error:
        raise UserError(f"no Ray cluster at {address}: it is not written as host:port") from error
    if place is None:
        return
    where = place if address in (None, "auto", place) else f"{address} ({place})"
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS).close()
    except (OSError, ValueError) as error:
        reason = "no answer" if isinstance(error, TimeoutError) else getattr(error, "strerror", None) or error
        raise UserError(f"no Ray cluster at {where}: {reason}") from error
    _require_answer(place, where, client=bool(address and address.startswith(_CLIENT)))


def _place(address: str | None) -> str | None:
    """`host:port` of an address; None where there is none to ask. Raises ValueError for one that is not so written."""
    if address is not None and address.startswith(_CLIENT):
        return address.removeprefix(_CLIENT).partition("?")[0]
    with suppress(ConnectionError):
        return canonicalize_bootstrap_address(address)
    return None


def _require_answer(place: str, where: str, *, client: bool) -> None:
    """Raise UserError where a first call is refused for its token, or not understood."""
    channel = init_grpc_channel(place)
    try:
        if client:
            ask, question = RayletDriverStub(channel).ClusterInfo, ClusterInfoRequest(type=ClusterInfoType.PING)
        else:
            ask, question = NodeInfoGcsServiceStub(channel).GetClusterId, GetClusterIdRequest()
        ask(question, timeout=_SECONDS, metadata=(("client_id", "exdd"),))
    except AuthenticationError as error:
        raise UserError(f"no token for the Ray cluster at {where}: {TOKEN}") from error
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            raise UserError(f"the Ray cluster at {where} refuses the token: {TOKEN}") from error
        raise UserError(f"no Ray cluster at {where}: what listens there is none (the dashboard's port?)") from error
    finally:
        channel.close()
