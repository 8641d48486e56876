"""Where the server is, unless said otherwise, how a channel to it is set, and how a client says who it is."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import grpc

DEFAULT_ADDRESS = "127.0.0.1:50051"
# How long a call may take, and how long the models may take to load, unless said otherwise.
DEFAULT_TIMEOUT_S = 30.0
# And at least what goes through the whole gallery.
LONG_TIMEOUT_S = 3600.0
# And at least what a plugin is asked for.
PLUGIN_TIMEOUT_S = 65.0
OPTIONS = (
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    ("grpc.keepalive_time_ms", 30_000),
    # A box comes back from a restart within seconds; gRPC would wait for up to two minutes between attempts.
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # The server is in this office: a proxy for the web is not the way to it.
    ("grpc.enable_http_proxy", 0),
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """How a client knows the server, and the server the client; all PEM but ``token``.

    ``ca``: the authority that the server's certificate has to be of; empty: those of the system. ``certificate`` and
    ``key``: the client's own, for ``server.listen_mtls``.
    """

    ca: bytes = b""
    token: str = field(default="", repr=False)
    certificate: bytes = b""
    key: bytes = field(default=b"", repr=False)

    @classmethod
    def read(cls, folder: Path | str) -> Self:
        """Those of a folder that ``facesvc init`` made: its authority, and the administrator's token. ``OSError``."""
        where = Path(folder).expanduser()
        return cls(ca=(where / "ca.pem").read_bytes(), token=(where / "admin.token").read_text().strip())

    def for_channel(self) -> grpc.ChannelCredentials:
        """As gRPC takes them."""
        channel = grpc.ssl_channel_credentials(self.ca or None, self.key or None, self.certificate or None)
        if not self.token:
            return channel
        return grpc.composite_channel_credentials(channel, grpc.access_token_call_credentials(self.token))
