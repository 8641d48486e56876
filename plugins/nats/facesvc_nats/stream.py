"""Where messages are kept: whether the stream is there, and takes ours."""

from nats.errors import MaxPayloadError
from nats.js import api
from nats.js import errors as js_errors

from facesvc.events.plugin import TryLaterError
from facesvc_nats.client import Client, said
from facesvc_nats.settings import NatsSettings


def config(settings: NatsSettings) -> api.StreamConfig:
    """What a stream is created as: for all sites, on disk, the oldest goes first."""
    return api.StreamConfig(
        name=settings.stream,
        subjects=[f"{settings.prefix}.>"],
        retention=api.RetentionPolicy.LIMITS,
        discard=api.DiscardPolicy.OLD,
        storage=api.StorageType.FILE,
        max_age=settings.max_age_s,
        max_bytes=settings.max_bytes,
        duplicate_window=settings.duplicates_s,
        num_replicas=settings.replicas,
    )


async def ensure(client: Client, settings: NatsSettings) -> None:
    """Create the stream where it is not there and the settings say so. Raises ``TryLaterError``."""
    if not settings.create_stream or await find(client, settings) is not None:
        return
    try:
        await client.ask(client.stream.add_stream(config(settings)))
    except (js_errors.Error, MaxPayloadError) as error:
        raise TryLaterError(
            f"the stream {settings.stream} cannot be created at {settings.place}: {said(error)}"
        ) from error


async def find(client: Client, settings: NatsSettings) -> api.StreamInfo | None:
    """The stream; None where it is not there. Raises ``TryLaterError``."""
    try:
        return await client.ask(client.stream.stream_info(settings.stream))
    except js_errors.NotFoundError:
        return None
    except js_errors.ServiceUnavailableError as error:
        raise TryLaterError(
            f"{settings.place} has no JetStream: start it with -js, or enable it for the account"
        ) from error
    except js_errors.Error as error:
        raise TryLaterError(f"{settings.place} does not tell of the stream: {said(error)}") from error


def covers(pattern: str, subject: str) -> bool:
    """Whether a subject of a stream, which may have wildcards, takes one without any."""
    wanted, told = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        if len(told) <= len(wanted):
            return False
        told = told[: len(wanted)]
    return len(wanted) == len(told) and all(one in {"*", other} for one, other in zip(wanted, told, strict=True))
