"""``facesvc enroll``: make people known by their pictures."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from facesvc.cli.console import (
    Collection,
    Json,
    Server,
    cell,
    client_of,
    complain,
    err,
    out,
    print_json,
    printable,
    say,
    table_of,
)
from facesvc.cli.people import Person, find_people
from facesvc.cli.pictures import read
from facesvc.client import CallError, Client, sample
from facesvc.errors import ImageError
from facesvc.v1 import enrollment_pb2

_ENROLLED, _ALREADY, _UNREADABLE = "ENROLLED", "DUPLICATE_IMAGE", "UNDECODABLE"
_STYLES = {_ENROLLED: "green", _ALREADY: "dim"}
_MAX_SOURCE_LENGTH = 256


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one picture; ``verdict`` is the API's word, or the reason of an error."""

    path: Path
    subject_id: str
    verdict: str
    message: str

    @property
    def failed(self) -> bool:
        """Whether the picture is not in."""
        return self.verdict not in {_ENROLLED, _ALREADY}

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"path": self.path, "subject_id": self.subject_id, "verdict": self.verdict, "message": self.message}


def enroll(
    context: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", help="'Jane Doe.jpg', a folder 'Jane Doe', a folder of such, or a CSV."),
    ],
    *,
    name: Annotated[str, typer.Option(help="All the pictures are of this person.")] = "",
    collection: Collection = "",
    allow_conflict: Annotated[
        bool, typer.Option("--allow-conflict", help="Take faces that look like somebody else who is enrolled.")
    ] = False,
    server: Server = "",
    as_json: Json = False,
) -> None:
    """Make people known by their pictures, and the people where they are not; exit 1 when a picture failed."""
    people = find_people(paths, name)
    results: list[Result] = []
    with client_of(context, server) as client, _progress() as progress:
        enrolment = _Enrolment(client, collection, allow_conflict, client.server_info().limits.max_image_bytes)
        task = progress.add_task("", total=sum(len(person.pictures) for person in people))
        for person in people:
            for result in enrolment.enrol(person):
                results.append(result)
                progress.advance(task)
                if not as_json:
                    _print(result, person)
    if as_json:
        print_json(_summary(results))
    else:
        out.print(_table(people, results))
    raise typer.Exit(1 if any(result.failed for result in results) else 0)


@dataclass(frozen=True, slots=True)
class _Enrolment:
    """Pictures on their way to the server, read one by one as it takes them."""

    client: Client
    collection_id: str
    allow_conflict: bool
    max_image_bytes: int

    def enrol(self, person: Person) -> Iterator[Result]:
        """A result for each picture of a person; those that could not be sent come last."""
        if problem := self._make_known(person):
            yield from (Result(picture.path, person.subject_id, *problem) for picture in person.pictures)
            return
        sent: list[Path] = []
        unsent: list[Result] = []
        for place, answer in enumerate(self.client.enroll(self._samples(person, sent, unsent))):
            yield _result(sent[place], person.subject_id, answer)
        yield from unsent

    def _make_known(self, person: Person) -> tuple[str, str] | None:
        """Create the person where there is none; the reason and message of why that cannot be."""
        subject = enrollment_pb2.Subject(
            collection_id=self.collection_id,
            subject_id=person.subject_id,
            display_name=person.display_name,
            external_ids=person.external_ids,
        )
        try:
            self.client.create_subject(subject)
        except CallError as error:
            if error.code.name == "ALREADY_EXISTS":
                self._mention_other_name(person)
            elif error.code.name == "INVALID_ARGUMENT" and error.field != "subject.collection_id":
                return error.reason, f"{person.where}: {error}"
            else:
                raise
        return None

    def _mention_other_name(self, person: Person) -> None:
        known = self.client.get_subject(person.subject_id, collection_id=self.collection_id)
        if person.display_name not in {"", known.display_name}:
            complain(
                f"{person.subject_id} is known as {known.display_name!r}, not {person.display_name!r}: the known name"
                " is kept; `facesvc subjects update` changes it"
            )

    def _samples(
        self, person: Person, sent: list[Path], unsent: list[Result]
    ) -> Iterator[enrollment_pb2.EnrollSamplesRequest]:
        """Each picture as a request, noted in ``sent``; one that cannot be read goes to ``unsent``."""
        for picture in person.pictures:
            try:
                data = read(picture.path, self.max_image_bytes)
            except ImageError as error:
                message = f"{picture.where}: {error.message}" if picture.where else error.message
                unsent.append(Result(picture.path, person.subject_id, _UNREADABLE, message))
                continue
            sent.append(picture.path)
            yield sample(
                person.subject_id,
                data,
                collection_id=self.collection_id,
                source=printable(picture.path.name)[:_MAX_SOURCE_LENGTH],
                allow_conflict=self.allow_conflict,
            )


def _result(path: Path, subject_id: str, answer: enrollment_pb2.EnrollSamplesResponse) -> Result:
    if answer.HasField("error"):
        return Result(path, subject_id, answer.error.reason, answer.error.message)
    verdict = enrollment_pb2.EnrollmentVerdict.Name(answer.verdict).removeprefix("ENROLLMENT_VERDICT_")
    return Result(path, subject_id, verdict, "already enrolled" if verdict == _ALREADY else answer.message)


class _Rate(ProgressColumn):
    """Pictures a second."""

    def render(self, task: Task) -> Text:
        """Called by rich."""
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


def _progress() -> Progress:
    """A bar with rate and time left, in a terminal only; what is printed meanwhile stands above it."""
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        redirect_stdout=out.is_terminal,
        disable=not err.is_terminal,
    )


def _print(result: Result, person: Person) -> None:
    line = f"{result.verdict:<17}  {person.display_name or person.subject_id}  {result.path}"
    say(f"{line}  {result.message}" if result.failed else line, style=_STYLES.get(result.verdict, "yellow"))


def _table(people: Sequence[Person], results: Iterable[Result]) -> Table:
    table = table_of("Person", "Id", "Pictures", "Enrolled", "Already", "Problems")
    by_person: dict[str, list[Result]] = {person.subject_id: [] for person in people}
    for result in results:
        by_person[result.subject_id].append(result)
    for person in people:
        own = by_person[person.subject_id]
        problems = [cell(f"{one.path.name}: {one.message}", "yellow") for one in own if one.failed]
        table.add_row(
            cell(person.display_name),
            cell(person.subject_id),
            *(str(number) for number in (len(own), *_counts(own)[:2])),
            Text("\n").join(problems),
        )
    return table


def _counts(results: Iterable[Result]) -> tuple[int, int, int]:
    """How many are enrolled now, were already, and failed."""
    verdicts = [result.verdict for result in results]
    enrolled, already = verdicts.count(_ENROLLED), verdicts.count(_ALREADY)
    return enrolled, already, len(verdicts) - enrolled - already


def _summary(results: Sequence[Result]) -> dict[str, Any]:
    enrolled, already, failed = _counts(results)
    return {
        "pictures": [result.as_json() for result in results],
        "enrolled": enrolled,
        "already": already,
        "failed": failed,
    }
