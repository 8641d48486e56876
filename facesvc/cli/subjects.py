"""``facesvc subjects``: the people that the server knows."""

from collections.abc import Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.table import Table

from facesvc.cli import subjects_data, subjects_repair
from facesvc.cli.console import Collection, Json, Server, SubjectId, cell, client_of, out, print_json, table_of
from facesvc.errors import InputError
from facesvc.v1 import enrollment_pb2

app = typer.Typer(help="The people that the server knows.", no_args_is_help=True)

Purpose = Annotated[str | None, typer.Option(help="What the person agrees to; consent is given now.")]
Pairs = list[str]


@app.command("list")
def list_(
    context: typer.Context,
    *,
    prefix: Annotated[str, typer.Option(help="Those whose id or name begins with this, in capitals or not.")] = "",
    having: Annotated[
        Pairs, typer.Option("--filter", metavar="KEY=VALUE", help="Those with this in their metadata. May be repeated.")
    ] = [],  # noqa: B006 - typer copies it
    collection: Collection = "",
    server: Server = "",
    as_json: Json = False,
) -> None:
    """List everybody; as JSON one array."""
    filters = _filters(having)
    with client_of(context, server) as client:
        subjects = list(client.list_subjects(collection_id=collection, prefix=prefix, filters=filters))
    if as_json:
        print_json([_plain(subject) for subject in subjects])
        return
    table = table_of("Id", "Name", "Samples", "External ids", "State")
    for subject in subjects:
        table.add_row(
            cell(subject.subject_id),
            cell(subject.display_name),
            str(subject.sample_count),
            cell(_pairs(subject.external_ids)),
            cell(_state(subject)),
        )
    out.print(table)


@app.command()
def show(
    context: typer.Context,
    subject_id: SubjectId,
    *,
    collection: Collection = "",
    server: Server = "",
    as_json: Json = False,
) -> None:
    """Show one person and the samples."""
    with client_of(context, server) as client:
        subject = client.get_subject(subject_id, collection_id=collection)
        samples = client.list_samples(subject_id, collection_id=collection)
    if as_json:
        print_json({**_plain(subject), "samples": [_plain(sample) for sample in samples]})
        return
    _print(subject)
    table = table_of("Sample", "Quality", "From", "Enrolled")
    for sample in samples:
        table.add_row(
            cell(sample.sample_id), f"{sample.quality:.2f}", cell(sample.source), cell(_time(sample.create_time))
        )
    out.print(table)


@app.command()
def update(
    context: typer.Context,
    subject_id: SubjectId,
    *,
    name: Annotated[str | None, typer.Option(help="Name for people to read.")] = None,
    external_id: Annotated[
        Pairs, typer.Option(metavar="KEY=VALUE", help="Id in another system; KEY= removes it. May be repeated.")
    ] = [],  # noqa: B006 - typer copies it
    metadata: Annotated[
        Pairs, typer.Option(metavar="KEY=VALUE", help="Anything else; KEY= removes it. May be repeated.")
    ] = [],  # noqa: B006 - typer copies it
    disable: Annotated[
        bool | None, typer.Option("--disable/--enable", help="Take out of matching, or back in; nothing is forgotten.")
    ] = None,
    consent_purpose: Purpose = None,
    consent_expires: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="From when on the person is no longer matched, such as 2030-01-31."),
    ] = None,
    collection: Collection = "",
    server: Server = "",
    as_json: Json = False,
) -> None:
    """Change what is known of a person."""
    with client_of(context, server) as client:
        subject = client.get_subject(subject_id, collection_id=collection)
        changes = {
            "display_name": _set_name(subject, name),
            "disabled": _set_disabled(subject, disable),
            "external_ids": _change_pairs(subject.external_ids, external_id),
            "metadata": _change_pairs(subject.metadata, metadata),
            "consent": _change_consent(subject, consent_purpose, consent_expires),
        }
        if not any(changes.values()):
            raise InputError("there is nothing to change: name at least one option, see --help")
        subject = client.update_subject(subject, [field for field, changed in changes.items() if changed])
    if as_json:
        print_json(_plain(subject))
    else:
        _print(subject)


app.command()(subjects_data.erase)
app.command()(subjects_data.export)
app.command()(subjects_repair.merge)
app.command()(subjects_repair.split)
app.command()(subjects_repair.correct)


def _filters(pairs: Sequence[str]) -> dict[str, list[str]]:
    """``key=value`` pairs as filters; of several values of one key each will do."""
    filters: dict[str, list[str]] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if not key or not value:
            raise InputError(f"{pair!r} is not KEY=VALUE")
        filters.setdefault(key, []).append(value)
    return filters


# Each says whether it had anything to change.


def _set_name(subject: enrollment_pb2.Subject, name: str | None) -> bool:
    if name is not None:
        subject.display_name = name
    return name is not None


def _set_disabled(subject: enrollment_pb2.Subject, disabled: bool | None) -> bool:  # noqa: FBT001 - as the option is
    if disabled is not None:
        subject.disabled = disabled
    return disabled is not None


def _change_pairs(entries: MutableMapping[str, str], pairs: Sequence[str]) -> bool:
    """Put ``key=value`` pairs into a map of a message; an empty value takes the key out."""
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise InputError(f"{pair!r} is not KEY=VALUE")
        if value:
            entries[key] = value
        else:
            entries.pop(key, None)
    return bool(pairs)


def _change_consent(subject: enrollment_pb2.Subject, purpose: str | None, expires: str | None) -> bool:
    """A consent to something new is given now; one that is only prolonged was given when it was."""
    if purpose is not None:
        subject.consent.purpose = purpose
        subject.consent.given_time.FromDatetime(datetime.now(UTC))
    elif expires is not None and not subject.HasField("consent"):
        raise InputError(f"{subject.subject_id} has given no consent that could expire: add --consent-purpose")
    if expires is not None:
        subject.consent.expire_time.FromDatetime(_parse_time(expires))
    return purpose is not None or expires is not None


def _parse_time(text: str) -> datetime:
    """An ISO 8601 date or time; without a zone it is the local one. Raises ``InputError``."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{text!r} is not an ISO date, such as 2030-01-31 or 2030-01-31T18:00+01:00") from error


def _print(subject: enrollment_pb2.Subject) -> None:
    rows = {
        "Id": subject.subject_id,
        "Name": subject.display_name,
        "Collection": subject.collection_id,
        "External ids": _pairs(subject.external_ids),
        "Metadata": _pairs(subject.metadata),
        "State": _state(subject),
        "Samples": str(subject.sample_count),
        "Created": _time(subject.create_time),
        "Updated": _time(subject.update_time),
    }
    table = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        table.add_row(cell(name, "bold"), cell(value))
    out.print(table)


def _state(subject: enrollment_pb2.Subject) -> str:
    parts = ["disabled"] if subject.disabled else ["enabled"]
    if subject.HasField("consent"):
        consent = subject.consent
        until = f" until {_time(consent.expire_time)}" if consent.HasField("expire_time") else ""
        expired = bool(until) and consent.expire_time.ToDatetime(UTC) <= datetime.now(UTC)
        parts.append(f"{'consent expired' if expired else 'consent'} to {consent.purpose or 'anything'}{until}")
    return ", ".join(parts)


def _pairs(entries: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={entries[key]}" for key in sorted(entries))


def _time(message: Timestamp) -> str:
    """A time for people, in the local zone."""
    return message.ToDatetime(UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _plain(message: Message) -> dict[str, Any]:
    """A message as the API writes it in JSON."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
