"""Who may come into a relay, who has to leave, and how many were turned away, by reason.

Every call passes `guarded`, which counts it against its peer and turns its error into a status; then `authorise`,
when its hello has told what it wants; then `running`, from where an expired token or a drain ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from layercast.errors import LayercastError
from layercast.transport.admission import Admission
from layercast.transport.credentials import AUTHORIZATION_KEY
from layercast.transport.limits import CLOSE_TIMEOUT_S, RelayLimits
from layercast.transport.logs import event
from layercast.transport.status import LEAVING, AccessError, ElsewhereError, LeavingError, reason, to_status
from layercast.transport.tasks import limited

if TYPE_CHECKING:
    from layercast.transport.tokens import Grant, TokenKeys

REFUSAL_LOG_S = 1.0
"""Refusals of one reason are logged at most this often, in seconds, with the number left out: a flood of calls must
not become a flood of lines."""

Context = Any
"""A `grpc.aio.ServicerContext` of bytes both ways."""

_log = logging.getLogger("layercast.relay")


@dataclass(frozen=True, slots=True, eq=False)
class RunningCall:
    """A call that was let in.

    Attributes:
        stream, right: what it does.
        peer: as gRPC names it.
        grant: what its token allows, None where no tokens are asked for.
        end: makes its handler end it with an error.
    """

    stream: str
    right: str
    peer: str
    grant: Grant | None
    end: Callable[[LayercastError], None]


class Gate:
    """The door of one relay.

    Args:
        limits: of the relay.
        keys: of the tokens that every call must bring; None: anybody may do anything.
        clock: monotonic seconds.

    Attributes:
        refused: calls turned away or ended, by reason.
        hung_up: calls that gRPC cancelled, by right: their peer left or vanished, or sent a giant message.
    """

    def __init__(self, limits: RelayLimits, keys: TokenKeys | None, clock: Callable[[], float]) -> None:
        self.admission = Admission(limits, clock)
        self.refused: Counter[str] = Counter()
        self.hung_up = {"publish": 0, "subscribe": 0}
        self.calls: dict[RunningCall, None] = {}
        self._keys = keys
        self._clock = clock
        self.leaving = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._farewell = ""
        self._logged: dict[str, tuple[float, int]] = {}

    def guarded(
        self, handler: Callable[[Context], Awaitable[None]]
    ) -> Callable[[Any, Context], Awaitable[None]]:
        """`handler` as gRPC calls it, for peers that may call, with its errors as statuses."""

        async def guarded(_requests: Any, context: Context) -> None:
            peer = context.peer()
            try:
                with self.admission.call(peer):
                    if self.leaving.is_set():
                        raise LeavingError(self._farewell)
                    await handler(context)
            except LayercastError as error:
                self.count(error, peer)
                code, details = to_status(error)
                # A reader that stopped does not take the status either: then the call is dropped without it.
                with contextlib.suppress(asyncio.TimeoutError):
                    await limited(context.abort(code, details), CLOSE_TIMEOUT_S)

        return guarded

    def authorise(self, context: Context, stream: str, right: str) -> Grant | None:
        """What the call's token allows; None where no tokens are asked for.

        Raises:
            AccessError: no token, or not one for `right` on `stream`.
        """
        if self._keys is None:
            return None
        for name, value in context.invocation_metadata() or ():
            if name == AUTHORIZATION_KEY and isinstance(value, str):
                scheme, _, token = value.partition(" ")
                if scheme.lower() == "bearer":
                    return self._keys.check(token.strip(), stream, right)
        raise AccessError("no-token", "this relay asks for a token", hint="get one from its operator")

    @contextlib.contextmanager
    def running(
        self,
        context: Context,
        stream: str,
        right: str,
        grant: Grant | None,
        end: Callable[[LayercastError], None],
    ) -> Iterator[None]:
        """While a call that was let in lasts."""
        call = RunningCall(stream, right, context.peer(), grant, end)
        who = grant.subject if grant is not None else ""
        event(_log, logging.INFO, "call began", stream=stream, right=right, peer=call.peer, subject=who)
        self.calls[call] = None
        self._empty.clear()
        try:
            yield
        except asyncio.CancelledError:
            self.hung_up[right] += not self.leaving.is_set()
            raise
        finally:
            del self.calls[call]
            if not self.calls:
                self._empty.set()
            event(_log, logging.INFO, "call ended", stream=stream, right=right, peer=call.peer, subject=who)

    def sweep(self) -> None:
        """To be called every second: new keys, expired tokens, peers that are gone."""
        self.admission.forget()
        if self._keys is None:
            return
        self._keys.reload()
        for call in self.calls:
            error = None if call.grant is None else self._keys.why_ended(call.grant)
            if error is not None:
                call.end(error)

    def close(self, hint: str) -> None:
        """Let nobody in any more; `hint` tells them what to do instead."""
        self._farewell = f"{LEAVING} ({hint})"
        self.leaving.set()

    async def drain(self, duration_s: float, hint: str) -> None:
        """Close, and return when all calls have ended or after `duration_s` seconds.

        They run on for the first half of the time, in which load balancers notice; then they are ended one after
        another, subscribers first, so that they do not all come to the next relay in the same moment.
        """
        self.close(hint)
        event(_log, logging.INFO, "drain began", calls=len(self.calls), seconds=duration_s)
        now_s = asyncio.get_running_loop().time
        started_s = now_s()
        if await self._empty_within(duration_s / 2):
            return
        calls = sorted(self.calls, key=lambda call: call.right != "subscribe")
        for number, call in enumerate(calls, 1):
            call.end(LeavingError(self._farewell))
            if await self._empty_within(started_s + duration_s * (0.5 + 0.5 * number / len(calls)) - now_s()):
                break

    async def _empty_within(self, duration_s: float) -> bool:
        with contextlib.suppress(asyncio.TimeoutError):
            await limited(self._empty.wait(), max(0.0, duration_s))
        return not self.calls

    def count(self, error: LayercastError, peer: str) -> None:
        """`peer` was turned away because of `error`."""
        why = reason(error)
        self.refused[why] += 1
        now_s = self._clock()
        logged_s, left_out = self._logged.get(why, (-REFUSAL_LOG_S, 0))
        if now_s - logged_s < REFUSAL_LOG_S:
            self._logged[why] = (logged_s, left_out + 1)
            return
        self._logged[why] = (now_s, 0)
        # Being sent to another worker of this relay is nothing to worry about.
        level = logging.INFO if isinstance(error, ElsewhereError) else logging.WARNING
        event(_log, level, "call refused", reason=why, peer=peer, error=str(error), left_out=left_out)
