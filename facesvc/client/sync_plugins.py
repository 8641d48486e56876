"""What plain code asks about plugins."""

from collections.abc import Generator, Iterable, Mapping

from google.protobuf.struct_pb2 import Value

from facesvc.client.connection import PLUGIN_TIMEOUT_S
from facesvc.client.sync_people import PeopleCalls
from facesvc.v1 import plugins_pb2


class PluginCalls(PeopleCalls):
    """Calls of ``PluginService``."""

    def list_plugins(self) -> list[plugins_pb2.PluginStatus]:
        """The plugins that are at work there, and how they are."""
        return list(self._call(self._plugins.ListPlugins, plugins_pb2.ListPluginsRequest()).plugins)

    def list_dead_letters(
        self,
        plugin: str,
        *,
        state: plugins_pb2.DeadLetterState.ValueType = plugins_pb2.DEAD_LETTER_STATE_DEAD,
        page_size: int = 0,
    ) -> Generator[plugins_pb2.DeadLetter, None, None]:
        """Events that a plugin did not take or was not given, page by page as they are needed."""
        token = ""
        while True:
            request = plugins_pb2.ListDeadLettersRequest(
                plugin=plugin, state=state, page_size=page_size, page_token=token
            )
            page = self._call(self._plugins.ListDeadLetters, request)
            yield from page.dead_letters
            token = page.next_page_token
            if not token:
                return

    def replay_dead_letters(self, plugin: str, numbers: Iterable[int] = ()) -> int:
        """Deliver dead or uncertain events again, all dead ones where none is named; how many."""
        request = plugins_pb2.ReplayDeadLettersRequest(plugin=plugin, numbers=numbers)
        return self._call(self._plugins.ReplayDeadLetters, request).replayed_count

    def call_plugin(self, plugin: str, command: str, arguments: Mapping[str, str] | None = None) -> Value:
        """Ask a plugin for something that it offers; waits for up to a minute."""
        request = plugins_pb2.CallPluginRequest(plugin=plugin, command=command, arguments=arguments)
        return self._call(self._plugins.CallPlugin, request, least_s=PLUGIN_TIMEOUT_S).result
