"""What asyncio code asks about plugins."""

from collections.abc import AsyncGenerator, Iterable, Mapping

from google.protobuf.struct_pb2 import Value

from facesvc.client.aio_people import AsyncPeopleCalls
from facesvc.client.connection import PLUGIN_TIMEOUT_S
from facesvc.v1 import plugins_pb2


class AsyncPluginCalls(AsyncPeopleCalls):
    """Calls of ``PluginService``."""

    async def list_plugins(self) -> list[plugins_pb2.PluginStatus]:
        """See ``Client``."""
        return list((await self._call(self._plugins.ListPlugins, plugins_pb2.ListPluginsRequest())).plugins)

    async def list_dead_letters(
        self,
        plugin: str,
        *,
        state: plugins_pb2.DeadLetterState.ValueType = plugins_pb2.DEAD_LETTER_STATE_DEAD,
        page_size: int = 0,
    ) -> AsyncGenerator[plugins_pb2.DeadLetter, None]:
        """See ``Client``."""
        token = ""
        while True:
            request = plugins_pb2.ListDeadLettersRequest(
                plugin=plugin, state=state, page_size=page_size, page_token=token
            )
            page = await self._call(self._plugins.ListDeadLetters, request)
            for one in page.dead_letters:
                yield one
            token = page.next_page_token
            if not token:
                return

    async def replay_dead_letters(self, plugin: str, numbers: Iterable[int] = ()) -> int:
        """See ``Client``."""
        request = plugins_pb2.ReplayDeadLettersRequest(plugin=plugin, numbers=numbers)
        return (await self._call(self._plugins.ReplayDeadLetters, request)).replayed_count

    async def call_plugin(self, plugin: str, command: str, arguments: Mapping[str, str] | None = None) -> Value:
        """See ``Client``."""
        request = plugins_pb2.CallPluginRequest(plugin=plugin, command=command, arguments=arguments)
        return (await self._call(self._plugins.CallPlugin, request, least_s=PLUGIN_TIMEOUT_S)).result
