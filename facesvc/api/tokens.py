"""Tokens, as messages: made, listed, revoked."""

import asyncio

from facesvc.api import audit, convert
from facesvc.api.service import Service
from facesvc.errors import InputError
from facesvc.gallery.records import check_id
from facesvc.security.principals import Scope
from facesvc.security.roles import Role
from facesvc.security.tokens import Token
from facesvc.v1 import admin_pb2

_ROLES = {admin_pb2.Role.Value(f"ROLE_{role.name}"): role for role in Role}
_OF_CAMERAS = frozenset({Role.CAMERA, Role.DASHBOARD, Role.DOOR})
_OF_ALL_GALLERIES = frozenset({Role.ADMIN, Role.AUDITOR})
_NUMBERS = {role: number for number, role in _ROLES.items()}


async def create(service: Service, request: admin_pb2.CreateTokenRequest, actor: str) -> admin_pb2.CreateTokenResponse:
    """Make a token. Raises ``InputError``, ``AlreadyExistsError``."""
    asked = request.token
    role = _ROLES.get(asked.role)
    if role is None:
        raise InputError("say what the token is for", field="token.role")
    for field in ("camera_ids", "collection_ids"):
        for one in getattr(asked, field):
            check_id(one, f"token.{field}")
    if asked.camera_ids and role not in _OF_CAMERAS:
        raise InputError("only cameras, dashboards and doors are limited to cameras", field="token.camera_ids")
    if asked.collection_ids and role in _OF_ALL_GALLERIES:
        words = f"a token of role {role.value} is for the whole box, and cannot be limited to galleries"
        raise InputError(words, field="token.collection_ids")
    scope = Scope(
        camera_ids=frozenset(asked.camera_ids), collection_ids=frozenset(asked.collection_ids), names=asked.names
    )
    expire_time = convert.time_of(asked.expire_time, "token.expire_time") if asked.HasField("expire_time") else None
    token, secret = await audit.noted(
        service,
        actor,
        lambda: service.tokens.create(asked.name, role, scope, expire_time),
        lambda made: [audit.Note("CreateToken", detail=f"{made[0].name}, role {made[0].role.value}")],
    )
    return admin_pb2.CreateTokenResponse(token=_message(token), secret=secret)


async def list_tokens(service: Service) -> admin_pb2.ListTokensResponse:
    """All of them."""
    await asyncio.to_thread(service.tokens.refresh)
    return admin_pb2.ListTokensResponse(tokens=[_message(token) for token in service.tokens.list_tokens()])


async def revoke(service: Service, request: admin_pb2.RevokeTokenRequest, actor: str) -> None:
    """Make a token worthless. Raises ``NotFoundError``."""
    await audit.noted(
        service,
        actor,
        lambda: service.tokens.revoke(request.name),
        lambda token: [audit.Note("RevokeToken", detail=token.name)],
    )


def _message(token: Token) -> admin_pb2.Token:
    return admin_pb2.Token(
        token_id=token.token_id,
        name=token.name,
        role=_NUMBERS[token.role],
        create_time=convert.timestamp(token.create_time),
        expire_time=convert.timestamp(token.expire_time) if token.expire_time else None,
        camera_ids=sorted(token.scope.camera_ids),
        collection_ids=sorted(token.scope.collection_ids),
        names=token.scope.names,
    )
