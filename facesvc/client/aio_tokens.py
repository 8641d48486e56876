"""What asyncio code asks about access tokens."""

from facesvc.client.aio_plugins import AsyncPluginCalls
from facesvc.v1 import admin_pb2


class AsyncTokenCalls(AsyncPluginCalls):
    """Calls of ``AdminService`` about tokens."""

    async def create_token(self, token: admin_pb2.Token) -> tuple[admin_pb2.Token, str]:
        """See ``Client``."""
        made = await self._call(self._admin.CreateToken, admin_pb2.CreateTokenRequest(token=token))
        return made.token, made.secret

    async def list_tokens(self) -> list[admin_pb2.Token]:
        """See ``Client``."""
        return list((await self._call(self._admin.ListTokens, admin_pb2.ListTokensRequest())).tokens)

    async def revoke_token(self, name: str) -> None:
        """See ``Client``."""
        await self._call(self._admin.RevokeToken, admin_pb2.RevokeTokenRequest(name=name))
