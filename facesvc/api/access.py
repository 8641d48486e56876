"""Who calls, and whether they may: looked at before any servicer is.

A caller is known by a token (``authorization: Bearer …``) or by a client certificate of the box's own authority. Where
the server speaks plain text on this machine alone, whoever shows neither is the administrator: that is what was asked
for. The table of ``security.roles`` says what each role may call.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import grpc

from facesvc.api import scoping
from facesvc.api.service import Lobby
from facesvc.api.status import wrapped
from facesvc.errors import DependencyError, ExhaustedError, ForbiddenError, InputError, UnauthenticatedError
from facesvc.security.authority import identity_of
from facesvc.security.principals import Principal, Scope
from facesvc.security.roles import RULES, Kind, Role, Rule
from facesvc.security.throttle import Bucket, Guesser, Known
from facesvc.security.tokens import Tokens

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]  # generic in the type stubs only
Context = grpc.aio.ServicerContext[Any, Any]

LOCAL = Principal(name="local", role=Role.ADMIN)
_SCHEME = "Bearer "
_LOOK_S = 1.0
_principal: ContextVar[Principal] = ContextVar("principal", default=LOCAL)


def principal() -> Principal:
    """Whoever made the call that is being answered."""
    return _principal.get()


def _within_scope(request: Any, *, streams: bool) -> Any:
    """A request, or an iterator of them, held against the limits of who calls. Raises ``ForbiddenError``."""
    caller = principal()
    if caller.scope == Scope():
        return request
    if streams:
        return scoping.checked(caller, request)
    scoping.check(caller, request)
    return request


class Gatekeeper(grpc.aio.ServerInterceptor):
    """Lets calls in, and puts out those whose token is over. ``open_to_all``: who shows nothing is ``LOCAL``."""

    def __init__(self, lobby: Lobby, clock: Callable[[], float], *, open_to_all: bool) -> None:
        self._lobby = lobby
        self._clock = clock
        self._open_to_all = open_to_all
        self._guessers: Known[Guesser] = Known(Guesser)
        self._calls: Known[Bucket] = Known(lambda: self._bucket("calls_per_second"))
        self._probes: Known[Bucket] = Known(lambda: self._bucket("probes_per_second"))
        self._inside: defaultdict[str, set[asyncio.Task[Any]]] = defaultdict(set)

    def _bucket(self, setting: str) -> Bucket:
        limits = self._lobby.service.settings.limits
        rate = getattr(limits, setting)
        return Bucket(rate, rate * limits.burst_seconds)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler":
        """Called by gRPC for each call."""
        handler, method = await continuation(handler_call_details), handler_call_details.method
        rule = RULES.get(method)
        if handler is None or (rule is not None and rule.public):
            return handler  # type: ignore[return-value]  # gRPC answers None with UNIMPLEMENTED

        streams_in = handler.request_streaming

        def unary(behaviour: Any) -> Any:
            async def call(request: Any, context: Context) -> Any:
                with self._admitted(method, rule, context):
                    return await behaviour(_within_scope(request, streams=streams_in), context)

            return call

        def stream(behaviour: Any) -> Any:
            async def call(request: Any, context: Context) -> Any:
                with self._admitted(method, rule, context):
                    async for response in behaviour(_within_scope(request, streams=streams_in), context):
                        yield response

            return call

        return wrapped(handler, unary, stream)

    @contextmanager
    def _admitted(self, method: str, rule: Rule | None, context: Context) -> Iterator[None]:
        """Inside, ``principal`` says who calls. Raises where nobody may."""
        caller = self._caller(context)
        if rule is None or not rule.allows(caller.role):
            name = method.rpartition("/")[2]
            raise ForbiddenError(f"{caller.name} has the role {caller.role.value}, which may not call {name}")
        if caller is not LOCAL:
            self._charge(caller, rule.kind)
        _principal.set(caller)
        task = asyncio.current_task()
        assert task is not None
        self._inside[caller.token_id].add(task)
        try:
            yield
        except asyncio.CancelledError:
            if caller.token_id and not self._tokens.is_live(caller.token_id):
                task.uncancel()
                raise UnauthenticatedError(f"the token {caller.name} is over or was revoked") from None
            raise
        finally:
            self._inside[caller.token_id].discard(task)
            if not self._inside[caller.token_id]:
                del self._inside[caller.token_id]

    @property
    def _tokens(self) -> Tokens:
        return self._lobby.service.tokens

    def _caller(self, context: Context) -> Principal:
        shown = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
        if shown:
            return self._by_token(shown, context.peer())
        certificates = context.auth_context().get("x509_pem_cert")
        if certificates:
            try:
                identity = identity_of(next(iter(certificates)))
            except InputError as error:
                raise UnauthenticatedError(error.message) from error
            return Principal(name=identity.name, role=identity.role)
        if self._open_to_all:
            return LOCAL
        raise UnauthenticatedError("this server wants to know who calls: show a token, or a client certificate")

    def _by_token(self, shown: list[Any], peer: str) -> Principal:
        text = str(shown[0]).removeprefix(_SCHEME) if len(shown) == 1 and str(shown[0]).startswith(_SCHEME) else ""
        # Of each token apart: a camera whose token was revoked does not shut out others at its address.
        clock, guesser = self._clock(), self._guessers[f"{_address(peer)} {self._tokens.id_of(text)}"]
        if wait := guesser.wait(clock):
            message = f"too many wrong tokens came from this address: come again in {wait:.0f} s"
            raise ExhaustedError(message, retry_delay_s=wait, reason="TOO_MANY_WRONG_TOKENS")
        token = self._tokens.find(text)
        if token is None:
            guesser.failed(clock)
            raise UnauthenticatedError("this is no token of this server, or it is over, or was revoked")
        guesser.succeeded()
        return token.principal

    def _charge(self, caller: Principal, kind: Kind) -> None:
        buckets = (self._calls, self._probes) if kind is Kind.PROBE else (self._calls,)
        for bucket in buckets:
            if wait := bucket[caller.name].take(self._clock()):
                message = f"{caller.name} calls more often than the settings allow: come again in {wait:.1f} s"
                raise ExhaustedError(message, retry_delay_s=wait, reason="TOO_MANY_CALLS")

    async def run(self) -> None:
        """Put out those whose token is over, until it is cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._lobby.service.gallery.shared:
                await self._learn()
            self.put_out()

    async def _learn(self) -> None:
        """What other boxes have revoked or made; while the database is away, what was known holds."""
        with suppress(DependencyError):
            await asyncio.to_thread(self._tokens.refresh)

    def put_out(self) -> None:
        """End the calls of those whose token is over, but for the one that says so of its own."""
        own = asyncio.current_task()
        for token_id, tasks in list(self._inside.items()):
            if token_id and not self._tokens.is_live(token_id):
                for task in tasks - {own}:
                    task.cancel()


def _address(peer: str) -> str:
    """The address of ``ipv4:1.2.3.4:5``, without the port: another port is no other caller."""
    return peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer
