"""``facesvc encodings``: take over encodings made elsewhere, and take one's own elsewhere."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from facesvc.cli import encoding_files, encoding_output
from facesvc.cli.console import Collection, Json, Server, client_of, complain, print_json, printable, say
from facesvc.cli.encoding_entries import Encoding, Encodings
from facesvc.cli.encoding_owners import Owned, Owners
from facesvc.cli.progress import tracked
from facesvc.client import Client, encoding
from facesvc.errors import InputError
from facesvc.v1 import enrollment_pb2

app = typer.Typer(help="Encodings made elsewhere, and one's own taken elsewhere.", no_args_is_help=True)

_MAX_SOURCE_LENGTH = 256
_LISTED = 100  # problems in words; --json has them all
_IMPORTED, _DUPLICATE, _CONFLICT = "IMPORTED", "DUPLICATE", "IDENTITY_CONFLICT"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one encoding; ``verdict`` is the API's word, or the reason of an error."""

    entry: Encoding
    subject_id: str
    verdict: str
    message: str

    @property
    def failed(self) -> bool:
        """Whether the encoding is not in."""
        return self.verdict not in {_IMPORTED, _DUPLICATE}

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "place": self.entry.where,
            "name": self.entry.name,
            "subject_id": self.subject_id,
            "verdict": self.verdict,
            "message": self.message,
        }


@app.command("import")
def import_(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="An .npz, JSON, or a pickle, which is read and never run.")
    ],
    *,
    collection: Collection = "",
    contract: Annotated[
        str, typer.Option(metavar="ID", help="The embedding contract they were made under, where the file names none.")
    ] = "",
    create: Annotated[bool, typer.Option("--create", help="Make people known who are not yet.")] = False,
    allow_conflict: Annotated[
        bool, typer.Option("--allow-conflict", help="Take encodings that look like somebody else who is enrolled.")
    ] = False,
    server: Server = "",
    as_json: Json = False,
) -> None:
    """Take over encodings, such as those of the face_recognition library; exit 1 when some were not taken."""
    encodings = encoding_files.read(file)
    if contract and encodings.contract not in ("", contract):
        raise InputError(f"{file} is of {encodings.contract}, as it says, and not of {contract}: leave out --contract")
    with client_of(context, server) as client:
        _mention_models(client, file, encodings.contract or contract)
        owned, refused = _owned(client, collection, encodings)
        takeover = _Takeover(
            client=client,
            collection_id=collection,
            contract=encodings.contract or contract,
            source=printable(file.name)[:_MAX_SOURCE_LENGTH],
            create=create,
            allow_conflict=allow_conflict,
        )
        answers = tracked(takeover.results(owned), len(owned), what="importing", show=not as_json)
        counts, problems = _counted([*refused], answers)
    if as_json:
        print_json(_summary(counts, problems))
    else:
        _print(counts, problems, create=create)
    raise typer.Exit(1 if problems else 0)


def _mention_models(client: Client, file: Path, contract: str) -> None:
    """Say what is taken for granted of encodings that do not say which models they are of."""
    in_use = client.server_info().model_pack.embedding_contract
    if not contract and not in_use.startswith(encoding_output.DLIB_CONTRACTS):
        complain(
            f"{file} does not say which models its encodings were made with: they are taken for those of {in_use}. If"
            " they are not, nobody will be recognised by them"
        )


def _owned(client: Client, collection: str, encodings: Encodings) -> tuple[list[Owned], list[Result]]:
    """Whose each encoding is; what is nobody's is refused."""
    known = {subject.subject_id: subject.display_name for subject in client.list_subjects(collection_id=collection)}
    owners = Owners(known)
    owned, refused = [], []
    for entry in encodings.entries:
        try:
            owned.append(owners.owned(entry))
        except InputError as error:
            refused.append(Result(entry, entry.subject_id, error.reason, error.message))
    for subject_id, name in owners.renamed.items():
        complain(
            f"{subject_id} is known as {known[subject_id]!r}, not {name!r}: the known name is kept;"
            " `facesvc subjects update` changes it"
        )
    return owned, refused


@dataclass(frozen=True, slots=True, kw_only=True)
class _Takeover:
    """Encodings on their way to the server."""

    client: Client
    collection_id: str
    contract: str
    source: str
    create: bool
    allow_conflict: bool

    def results(self, owned: Iterable[Owned]) -> Iterator[Result]:
        """What became of each, in order."""
        sent: deque[Owned] = deque()
        for answer in self.client.import_encodings(self._requests(owned, sent)):
            one = sent.popleft()
            verdict = enrollment_pb2.ImportVerdict.Name(answer.verdict).removeprefix("IMPORT_VERDICT_")
            yield Result(one.entry, one.subject_id, answer.error.reason or verdict, answer.message)

    def _requests(
        self, owned: Iterable[Owned], sent: "deque[Owned]"
    ) -> Iterator[enrollment_pb2.ImportEncodingsRequest]:
        for one in owned:
            sent.append(one)
            yield encoding(
                one.subject_id,
                one.entry.vector.tolist(),
                collection_id=self.collection_id,
                embedding_contract=self.contract,
                display_name=one.display_name,
                create_subject=self.create,
                source=self.source,
                allow_conflict=self.allow_conflict,
            )


def _counted(refused: list[Result], answers: Iterable[Result]) -> tuple["Counter[str]", list[Result]]:
    """How many there were of each verdict, and those that failed."""
    counts: Counter[str] = Counter(one.verdict for one in refused)
    problems = list(refused)
    for one in answers:
        counts[one.verdict] += 1
        if one.failed:
            problems.append(one)
    return counts, problems


def _summary(counts: "Counter[str]", problems: list[Result]) -> dict[str, Any]:
    return {
        "imported": counts[_IMPORTED],
        "duplicate": counts[_DUPLICATE],
        "conflict": counts[_CONFLICT],
        "refused": len(problems) - counts[_CONFLICT],
        "problems": [one.as_json() for one in problems],
    }


def _print(counts: "Counter[str]", problems: list[Result], *, create: bool) -> None:
    for one in problems[:_LISTED]:
        who = one.entry.name or one.subject_id
        say(f"{one.verdict:<17}  {who}  {one.entry.where}  {one.message}", style="yellow")
    if len(problems) > _LISTED:
        complain(f"and {len(problems) - _LISTED:,} more: --json has them all")
    if counts["NOT_FOUND"] and not create:
        complain("--create makes people known who are not yet")
    refused = len(problems) - counts[_CONFLICT]
    say(
        f"{counts[_IMPORTED]:,} imported, {counts[_DUPLICATE]:,} were there already, {counts[_CONFLICT]:,} look like"
        f" somebody else, {refused:,} refused"
    )


@app.command()
def export(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A new file: .npz, .json, or .pickle as face_recognition has it.")
    ],
    *,
    subject: Annotated[str, typer.Option(metavar="ID", help="Only of this person.")] = "",
    collection: Collection = "",
    server: Server = "",
) -> None:
    """Write the encodings of everybody, or of one person, into a file that only its owner may read."""
    encoding_output.check_writable(file)
    with client_of(context, server) as client:
        entries, contracts = [], set()
        for one in client.export_encodings(collection_id=collection, subject_id=subject):
            entries.append(
                Encoding(one.subject_id, one.display_name, np.array(one.embedding, np.float32), one.sample_id)
            )
            contracts.add(one.embedding_contract)
    if not entries:
        raise InputError("there are no encodings to export")
    (contract,) = contracts  # the server sees to that
    encoding_output.write(file, Encodings(contract, tuple(entries)))
    people = len({entry.subject_id for entry in entries})
    say(f"wrote {len(entries):,} encodings of {people:,} people to {file}, made under {contract}")
    complain(f"{file} is not sealed: whoever can read it can look for these people elsewhere")
