"""gRPC's health service and reflection, from optional packages: a relay starts without them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc
import grpc.aio

from layercast.errors import LayercastError, MissingDependencyError
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.gate import Gate
from layercast.transport.status import to_status
from layercast.transport.wire import DISTRIBUTION, INGEST

SERVICES = ("", INGEST, DISTRIBUTION)
"""Names that the health service answers to; "" is the whole relay."""

HINT = 'pip install "layercast[ops]"'


def add_health(server: grpc.aio.Server, gate: Gate) -> bool:
    """Let load balancers ask whether to send anybody here: SERVING until the gate is closed.

    Returns:
        False if the package grpcio-health-checking is not installed.
    """
    try:
        from grpc_health.v1 import health_pb2, health_pb2_grpc
    except ImportError:
        return False

    leaving = gate.leaving

    def status() -> Any:
        answer = health_pb2.HealthCheckResponse
        return answer(status=answer.NOT_SERVING if leaving.is_set() else answer.SERVING)

    # The package's own servicer holds a lock while it writes to a watcher: one that does not read stops the others.
    # Its base is untyped, and so Any to mypy.
    class Servicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
        async def Check(self, request: Any, context: Any) -> Any:
            if request.service not in SERVICES:
                await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
            return await _counted(gate, context, partial(_answer, status()))

        async def Watch(self, request: Any, context: Any) -> None:
            await _counted(gate, context, partial(self._watch, request, context))

        async def _watch(self, request: Any, context: Any) -> None:
            if request.service not in SERVICES:
                answer = health_pb2.HealthCheckResponse
                await context.write(answer(status=answer.SERVICE_UNKNOWN))
                return
            was_leaving = leaving.is_set()
            await context.write(status())
            await leaving.wait()
            if not was_leaving:
                await context.write(status())

    health_pb2_grpc.add_HealthServicer_to_server(Servicer(), server)
    return True


def add_reflection(server: grpc.aio.Server) -> None:
    """Let tools such as grpcurl list the services.

    Raises:
        MissingDependencyError: the package grpcio-reflection is not installed.
    """
    try:
        from grpc_reflection.v1alpha import reflection
    except ImportError:
        raise MissingDependencyError("reflection needs grpcio-reflection", hint=HINT) from None
    assert pb.DESCRIPTOR is not None  # registers the services in the pool that reflection reads
    reflection.enable_server_reflection((INGEST, DISTRIBUTION, reflection.SERVICE_NAME), server)


async def _answer(message: Any) -> Any:
    return message


async def _counted(gate: Gate, context: Any, work: Callable[[], Awaitable[Any]]) -> Any:
    """`work` as a call like any other: so many per peer, and so often."""
    try:
        with gate.admission.call(context.peer()):
            return await work()
    except LayercastError as error:
        gate.count(error, context.peer())
        await context.abort(*to_status(error))
