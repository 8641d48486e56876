"""Who calls, and whether they may: looked at before any servicer is.

A caller is known by a token (``authorization: Bearer …``), of this server or a JWT of the company's identity provider,
or by a client certificate of the box's own authority. Where the server speaks plain text on this machine alone, whoever
shows neither is the administrator: that is what was asked for. The table of ``security.roles`` says what each role may
call.
"""

import asyncio
import inspect
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, aclosing, contextmanager, suppress
from contextvars import ContextVar
from ipaddress import IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import grpc
import structlog

from facesvc.api import scoping
from facesvc.api.allowance import Allowances
from facesvc.api.requests import Requests
from facesvc.api.service import Lobby
from facesvc.config import LimitSettings
from facesvc.errors import (
    DependencyError,
    ExhaustedError,
    ForbiddenError,
    InputError,
    UnauthenticatedError,
    UnavailableError,
)
from facesvc.security.authority import identity_of
from facesvc.security.oidc import Oidc, is_jwt
from facesvc.security.principals import VOUCHED, Principal, Scope
from facesvc.security.roles import RULES, Role, Rule
from facesvc.security.throttle import Guesser, Known
from facesvc.security.tokens import Tokens

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]  # generic in the type stubs only
Context = grpc.aio.ServicerContext[Any, Any]

LOCAL = Principal(name="local", role=Role.ADMIN)
_SCHEME = "bearer"
_LOOK_S = 1.0
_STRANGERS_BYTES = 1024
_STRANGERS_SILENCE_S = 5.0
"""For a request of somebody whom nobody asks who they are; what has come of it takes up memory meanwhile."""
_log = structlog.get_logger(__name__)
_principal: ContextVar[Principal] = ContextVar("principal")


def principal() -> Principal:
    """Whoever made the call that is being answered. Raises ``LookupError`` where there is none."""
    return _principal.get()


class Gatekeeper(grpc.aio.ServerInterceptor):
    """Lets calls in, and puts out those whose token is over. ``open_to_all``: who shows nothing is ``LOCAL``."""

    def __init__(self, lobby: Lobby, limits: LimitSettings, clock: Callable[[], float], *, open_to_all: bool) -> None:
        self._lobby = lobby
        self._limits = limits
        self._clock = clock
        self._open_to_all = open_to_all
        self._guessers: Known[Guesser] = Known(Guesser)
        self._allowances = Allowances(limits, clock)
        self._inside: defaultdict[Principal, set[asyncio.Task[Any]]] = defaultdict(set)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler":
        """Called by gRPC for each call."""
        handler, method = await continuation(handler_call_details), handler_call_details.method
        rule = RULES.get(method)
        if handler is None:
            return handler  # type: ignore[return-value]  # gRPC answers None with UNIMPLEMENTED

        behaviour, streams_in = _behaviour_of(handler), handler.request_streaming

        async def answer(raw: AsyncIterator[bytes], context: Context) -> Any:
            with self._admitted(method, rule, context, streams=handler.response_streaming or streams_in) as caller:
                requests = self._requests(raw, handler, caller)
                return await behaviour(requests if streams_in else await requests.only(), context)

        async def answers(raw: AsyncIterator[bytes], context: Context) -> None:
            with self._admitted(method, rule, context, streams=True) as caller:
                requests = self._requests(raw, handler, caller)
                found = behaviour(requests if streams_in else await requests.only(), context)
                # Written here, for who is put out while their reader is slow is to hear why.
                async with aclosing(found):
                    async for response in found:
                        await context.write(response)

        if not handler.response_streaming:
            return grpc.stream_unary_rpc_method_handler(answer, None, handler.response_serializer)
        # Health writes its answers by itself.
        around = answers if inspect.isasyncgenfunction(behaviour) else answer
        return grpc.stream_stream_rpc_method_handler(around, None, handler.response_serializer)

    def _requests(self, raw: AsyncIterator[bytes], handler: "Handler", caller: Principal | None) -> Requests:
        limits, parse = self._limits, handler.request_deserializer
        assert parse is not None  # generated code has one

        def weigh(size: int) -> None:
            if caller is None and size > _STRANGERS_BYTES:
                raise InputError(f"this request has {size} bytes, and may have {_STRANGERS_BYTES}")
            if caller is not None and caller is not LOCAL:
                self._allowances.message(caller.name, size)

        def check(message: Any) -> None:
            if caller is not None and caller.scope != Scope():
                scoping.check(caller, message)

        if caller is None:
            silence_s, reason = _STRANGERS_SILENCE_S, "REQUEST_TOO_SLOW"
        elif handler.request_streaming:
            silence_s, reason = limits.stream_idle_timeout_seconds, "STREAM_IDLE"
        else:
            silence_s, reason = limits.request_timeout_seconds, "REQUEST_TOO_SLOW"
        return Requests(raw, parse, weigh=weigh, check=check, silence_s=silence_s, reason=reason)

    @contextmanager
    def _admitted(
        self, method: str, rule: Rule | None, context: Context, *, streams: bool
    ) -> Iterator[Principal | None]:
        """Gives who calls, for the time of the block; None where nobody was asked. Raises where they may not."""
        if rule is not None and rule.public:
            # Their watches count as calls, of which there are few: each may fill memory until it is refused.
            with self._allowances.call(f"whoever is at {address_of(context.peer())}", rule.kind, streams=False):
                yield None
            return
        caller, name = self._caller(context), method.rpartition("/")[2]
        if rule is None:
            raise ForbiddenError(f"{name} is in no row of the table of roles: nobody may call it")
        with ExitStack() as place:
            if caller is not LOCAL:
                trusted = caller.role is Role.ADMIN
                place.enter_context(self._allowances.call(caller.name, rule.kind, streams=streams, trusted=trusted))
            if not rule.allows(caller.role):
                raise ForbiddenError(f"{caller.name} has the role {caller.role.value}, which may not call {name}")
            with self._inside_of(caller):
                yield caller

    @contextmanager
    def _inside_of(self, caller: Principal) -> Iterator[None]:
        """For the time of the block the call is one that may be put out."""
        _principal.set(caller)
        task = asyncio.current_task()
        assert task is not None
        self._inside[caller].add(task)
        try:
            yield
        except asyncio.CancelledError:
            if self._is_over(caller):
                task.uncancel()
                raise UnauthenticatedError(f"what {caller.name} showed is over or was revoked") from None
            raise
        finally:
            self._inside[caller].discard(task)
            if not self._inside[caller]:
                del self._inside[caller]

    @property
    def _tokens(self) -> Tokens:
        return self._lobby.service.tokens

    def _is_over(self, caller: Principal) -> bool:
        try:
            service = self._lobby.service
        except UnavailableError:
            return False  # the server stops, and says so
        if caller.token_id:
            return not service.tokens.is_live(caller.token_id)
        if caller.expire_time is None:
            return False
        if caller.name.startswith(VOUCHED):
            return service.oidc is not None and not service.oidc.is_live(caller)
        return caller.expire_time < service.now()

    def _caller(self, context: Context) -> Principal:
        shown = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
        if shown:
            return self._by_token(shown, context.peer())
        certificates = context.auth_context().get("x509_pem_cert")
        if certificates:
            try:
                identity = identity_of(next(iter(certificates)), self._lobby.service.now())
            except InputError as error:
                raise UnauthenticatedError(error.message) from error
            return Principal(name=identity.name, role=identity.role, expire_time=identity.expire_time)
        if self._open_to_all:
            return LOCAL
        raise UnauthenticatedError("this server wants to know who calls: show a token, or a client certificate")

    def _by_token(self, shown: list[Any], peer: str) -> Principal:
        scheme, _, text = str(shown[0]).partition(" ") if len(shown) == 1 else ("", "", "")
        if scheme.lower() != _SCHEME:  # RFC 9110, 11.1: in capitals or not
            text = ""
        oidc = self._lobby.service.oidc
        if oidc is not None and is_jwt(text):
            return self._by_jwt(oidc, text, peer)
        # Of each token apart: a camera whose token was revoked does not shut out others at its address.
        clock, guesser = self._clock(), self._guessers[f"{address_of(peer)} {self._tokens.id_of(text)}"]
        _refuse_while_waiting(guesser, clock)
        token = self._tokens.find(text)
        if token is None:
            guesser.failed(clock)
            raise UnauthenticatedError("this is no token of this server, or it is over, or was revoked")
        guesser.succeeded()
        return token.principal

    def _by_jwt(self, oidc: Oidc, text: str, peer: str) -> Principal:
        try:
            # Before guesses are looked at: a signature cannot be guessed, and there is no id to count them by, so that
            # whoever shows wrong ones would shut out all others who come from the same address.
            return oidc.find(text)
        except (UnauthenticatedError, ForbiddenError) as error:
            clock, guesser = self._clock(), self._guessers[f"{address_of(peer)} "]
            _refuse_while_waiting(guesser, clock)
            guesser.failed(clock)
            _log.warning("a JWT was refused", peer=peer, problem=error.message)
            raise

    async def run(self) -> None:
        """Put out those whose token is over, until it is cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                if self._lobby.service.gallery.shared:
                    await self._learn()
                self.put_out()
            except Exception:  # noqa: BLE001 - a bug of ours must not keep in who is put out a second later
                _log.exception("those whose token is over could not be put out")

    async def _learn(self) -> None:
        """What other boxes have revoked or made; while the database is away, what was known holds."""
        with suppress(DependencyError):
            await asyncio.to_thread(self._tokens.refresh)

    def put_out(self) -> None:
        """End the calls of those whose token is over, but for the one that says so of its own."""
        own = asyncio.current_task()
        for caller, tasks in list(self._inside.items()):
            if self._is_over(caller):
                for task in tasks - {own}:
                    task.cancel()


def _behaviour_of(handler: "Handler") -> Any:
    streams_in = "stream" if handler.request_streaming else "unary"
    return getattr(handler, f"{streams_in}_{'stream' if handler.response_streaming else 'unary'}")


def _refuse_while_waiting(guesser: Guesser, clock: float) -> None:
    if wait := guesser.wait(clock):
        message = f"too many wrong tokens came from this address: come again in {wait:.0f} s"
        raise ExhaustedError(message, retry_delay_s=wait, reason="TOO_MANY_WRONG_TOKENS")


def address_of(peer: str) -> str:
    """The address of a peer such as ``ipv4:1.2.3.4:5``, without the port: another port is no other caller.

    Of IPv6 the network of 64 bits, which is one caller's own.
    """
    if not peer.startswith(("ipv4:", "ipv6:")):
        return peer
    address = unquote(peer).rpartition(":")[0]
    try:
        own = IPv6Address(address.removeprefix("ipv6:").strip("[]"))
    except ValueError:
        return address
    return f"ipv4:{own.ipv4_mapped}" if own.ipv4_mapped else f"ipv6:{IPv6Network((own, 64), strict=False)}"
