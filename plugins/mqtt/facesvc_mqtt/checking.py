"""Whether the settings work, step by step."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from facesvc.errors import ConfigError, FacesvcError
from facesvc.events.plugin import Checks, Step
from facesvc_mqtt.client import Client, Outgoing, RefusedError
from facesvc_mqtt.plugin import Mqtt


class CheckedMqtt(Mqtt, Checks):
    """With a check, which connects beside the plugin, by a client_id of its own."""

    async def check(self) -> AsyncIterator[Step]:
        """As ``Checks``. Nothing is retained, and Home Assistant takes no notice."""
        async with AsyncExitStack() as stack:
            try:
                client = Client(self.settings, f"{self.client_id}-check", will="")
                yield Step(name="settings", ok=True, detail=self._how())
            except ConfigError as error:
                yield Step(name="settings", ok=False, detail=str(error))
                return
            try:
                await stack.enter_async_context(client.connected())
            except RefusedError as error:
                yield Step(name="connect", ok=True, detail=self._place)
                yield Step(name="authenticate", ok=False, detail=f"{error}; look at user, password, certificate_file")
                return
            except FacesvcError as error:
                yield Step(name="connect", ok=False, detail=str(error))
                return
            yield Step(name="connect", ok=True, detail=self._place)
            yield Step(name="authenticate", ok=True, detail=f"as {self.settings.user or 'nobody in particular'}")
            async for step in self._rights(client):
                yield step

    async def _rights(self, client: Client) -> AsyncIterator[Step]:
        topics = [self.topics.check]
        if self.settings.home_assistant:
            topics.append(self.topics.config("event", "check"))
        for topic in topics:
            try:
                # Empty, which Home Assistant takes for the end of something that it does not have.
                await client.send(Outgoing(topic, b"", expiry=1))
                yield Step(name="publish", ok=True, detail=topic)
            except FacesvcError as error:
                yield Step(name="publish", ok=False, detail=str(error))
                return
        if not self.settings.home_assistant:
            return
        for topic in (self.topics.birth, self.topics.configs):
            try:
                await client.listen(topic)
                yield Step(name="subscribe", ok=True, detail=topic)
            except FacesvcError as error:
                yield Step(name="subscribe", ok=False, detail=str(error))
                return

    @property
    def _place(self) -> str:
        return f"{self.settings.host}:{self.settings.port}"

    def _how(self) -> str:
        return f"{'TLS' if self.settings.tls else 'no TLS'}, client_id {self.client_id}"
