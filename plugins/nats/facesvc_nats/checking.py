"""Whether the settings work, step by step."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from nats.js import errors as js_errors

from facesvc.errors import ConfigError, FacesvcError
from facesvc.events.plugin import Checks, Step
from facesvc_nats.client import Client, RefusedError, said
from facesvc_nats.messages import EXPECTED_STREAM, subject
from facesvc_nats.plugin import Nats
from facesvc_nats.stream import covers, find

_WRONG_LAST = 10070
"""The last message has another id than the one that was expected: which proves that it could have been published."""
_NEVER = "facesvc check"


class CheckedNats(Nats, Checks):
    """With a check, which keeps nothing in the stream."""

    async def check(self) -> AsyncIterator[Step]:
        """As ``Checks``."""
        async with AsyncExitStack() as stack:
            try:
                client = Client(self.settings)
            except ConfigError as error:
                yield Step(name="settings", ok=False, detail=str(error))
                return
            yield Step(name="settings", ok=True, detail=f"{'TLS' if self.settings.tls else 'no TLS'}, {self._as()}")
            try:
                await stack.enter_async_context(client.connected())
            except RefusedError as error:
                yield Step(name="connect", ok=True, detail=self.settings.place)
                yield Step(name="authenticate", ok=False, detail=str(error))
                return
            except FacesvcError as error:
                yield Step(name="connect", ok=False, detail=str(error))
                return
            yield Step(
                name="connect",
                ok=True,
                detail=f"{self.settings.place}, {str(client.connected_server_version).strip('<>')}",
            )
            yield Step(name="authenticate", ok=True, detail=self._as())
            for step in (self._jetstream, self._stream, self._publish):
                done = await step(client)
                yield done
                if done.ok is False:
                    return

    async def _jetstream(self, client: Client) -> Step:
        try:
            account = await client.ask(client.stream.account_info())
        except js_errors.APIError:
            detail = "there is none: start the server with -js, or enable it for the account"
            return Step(name="JetStream", ok=False, detail=detail)
        except FacesvcError as error:
            return Step(name="JetStream", ok=False, detail=str(error))
        return Step(name="JetStream", ok=True, detail=f"{account.streams} streams")

    async def _stream(self, client: Client) -> Step:
        settings = self.settings
        try:
            found = await find(client, settings)
        except FacesvcError as error:
            return Step(name="stream", ok=False, detail=str(error))
        if found is None:
            later = "is not there, and will be created" if settings.create_stream else "is not there: create it, or set"
            detail = f"{settings.stream} {later}{'' if settings.create_stream else ' create_stream = true'}"
            return Step(name="stream", ok=None if settings.create_stream else False, detail=detail)
        subjects = found.config.subjects or []
        if not any(covers(one, self._subject) for one in subjects):
            detail = f"{settings.stream} takes {', '.join(subjects)}, but not {self._subject}: add {settings.prefix}.>"
            return Step(name="stream", ok=False, detail=detail)
        return Step(name="stream", ok=True, detail=f"{settings.stream} takes {self._subject}")

    async def _publish(self, client: Client) -> Step:
        headers = {EXPECTED_STREAM: self.settings.stream, "Nats-Expected-Last-Msg-Id": _NEVER}
        try:
            await client.ask(client.stream.publish(self._subject, b"", headers=dict(headers)))
        except js_errors.APIError as error:
            if error.err_code == _WRONG_LAST:
                return Step(name="publish", ok=True, detail=f"{self._subject}; nothing was kept")
            return Step(name="publish", ok=False, detail=said(error))
        except js_errors.NoStreamResponseError:
            # The stream is not there yet, and whether we may create it shows when we do.
            return Step(name="publish", ok=None, detail="shows when the stream is there")
        except FacesvcError as error:
            return Step(name="publish", ok=False, detail=str(error))
        return Step(name="publish", ok=True, detail=self._subject)

    @property
    def _subject(self) -> str:
        return subject(self.settings, "", "seen")

    def _as(self) -> str:
        given = [name for name in ("user", "token", "nkey_seed", "credentials") if getattr(self.settings, name)]
        if self.settings.certificate_file:
            given.append("certificate_file")
        return f"known by {' and '.join(given)}" if given else "as nobody in particular"
