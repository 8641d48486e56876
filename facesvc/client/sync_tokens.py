"""What plain code asks about access tokens."""

from facesvc.client.sync_plugins import PluginCalls
from facesvc.v1 import admin_pb2


class TokenCalls(PluginCalls):
    """Calls of ``AdminService`` about tokens."""

    def create_token(self, token: admin_pb2.Token) -> tuple[admin_pb2.Token, str]:
        """A new token, by its name, role, limits and expiry; and its text, which nobody can have again."""
        made = self._call(self._admin.CreateToken, admin_pb2.CreateTokenRequest(token=token))
        return made.token, made.secret

    def list_tokens(self) -> list[admin_pb2.Token]:
        """All of them, without their secrets."""
        return list(self._call(self._admin.ListTokens, admin_pb2.ListTokensRequest()).tokens)

    def revoke_token(self, name: str) -> None:
        """Make a token worthless, and end its calls."""
        self._call(self._admin.RevokeToken, admin_pb2.RevokeTokenRequest(name=name))
