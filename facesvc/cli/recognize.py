"""``facesvc recognize``: who is in a picture, a folder, a video, or before a camera."""

from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Annotated

import typer

from facesvc.cli.console import Collection, Json, Server, client_of, complain, out, print_json, say
from facesvc.cli.draw import draw, label_of
from facesvc.cli.pictures import check_writable, is_picture, pixels_of, read, write
from facesvc.cli.results import Policy, answer_as_json, faces_table
from facesvc.cli.screening import Screening
from facesvc.cli.sources import Film, FilmWriter, Footage, check_film_writable, film_of
from facesvc.client import CallError, Client, opening
from facesvc.errors import ImageError, InputError
from facesvc.v1 import recognition_pb2


def recognize(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(help="A picture, a folder, a video file, a camera's number, or an RTSP or HTTP URL.")
    ],
    *,
    picture: Annotated[
        Path | None, typer.Option("--out", help="Write the picture, folder or video with boxes and names here.")
    ] = None,
    policy: Policy = "",
    collection: Collection = "",
    camera_id: Annotated[str, typer.Option(help="The camera's name in events.")] = "cli",
    zone: Annotated[str, typer.Option(help="Where the camera looks.")] = "",
    max_candidates: Annotated[int, typer.Option(min=0, max=20, help="Show so many candidates for each face.")] = 0,
    server: Server = "",
    as_json: Json = False,
) -> None:
    """Say who is there, how similar, and with which outcome.

    Every picture and every frame of a video file gets an answer; of a camera or a stream it is the newest frame.
    """
    film = film_of(source)
    if picture is not None:
        _check_target(source, film, picture)
    opened = opening(
        camera_id,
        zone=zone,
        collection_id=collection,
        policy=policy,
        max_candidates=max_candidates,
        every_frame=film is not None and not film.live,
    )
    with client_of(context, server) as client:
        if film is None:
            _Stills(client, opened, as_json=as_json).recognize(Path(source), picture)
        else:
            _play(client, film, opened, picture, as_json=as_json)


def _check_target(source: str, film: Film | None, target: Path) -> None:
    """Refuse what cannot be written before anything is asked. Raises ``InputError``."""
    if target.exists() and not (film and film.live) and target.samefile(source):
        raise InputError(f"{target} would overwrite what it is made from: choose another --out")
    if film is not None:
        check_film_writable(target)
    elif not Path(source).is_dir():
        check_writable(target)
    elif target.exists() and not target.is_dir():
        raise InputError(f"{target} is no folder, and {source} is one: choose another --out")


def _play(
    client: Client, film: Film, opened: recognition_pb2.StreamOpening, target: Path | None, *, as_json: bool
) -> None:
    with Footage(film) as footage:
        with FilmWriter(target, footage.frame_rate) if target else nullcontext() as writer:
            screening = Screening(client, film, footage, writer, as_json=as_json)
            # Ctrl-C is how somebody who has seen enough of a camera says so.
            with suppress(KeyboardInterrupt) if film.live else nullcontext():
                screening.run(opened)
        screening.sum_up()


class _Stills:
    """Pictures, asked for one by one."""

    def __init__(self, client: Client, opened: recognition_pb2.StreamOpening, *, as_json: bool) -> None:
        self._client = client
        self._opened = opened
        self._as_json = as_json
        self._max_bytes = client.server_info().limits.max_image_bytes

    def recognize(self, source: Path, target: Path | None) -> None:
        """A picture, or all of a folder; exit 1 when one in the folder could not be looked at."""
        if not source.is_dir():
            self._answer(source, target)
            return
        paths = sorted(path for path in source.rglob("*") if is_picture(path) and path.is_file())
        if not paths:
            raise InputError(f"there are no pictures in {source}")
        failed = False
        for path in paths:
            try:
                self._answer(path, target and target / path.relative_to(source))
            except ImageError as error:
                failed = True
                self._tell_failure(path, error)
        raise typer.Exit(1 if failed else 0)

    def _answer(self, path: Path, target: Path | None) -> None:
        data = read(path, self._max_bytes)
        answer = self._ask(path, data)
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            write(target, draw(pixels_of(data), [label_of(face) for face in answer.faces]))
        if self._as_json:
            print_json({"path": path, **answer_as_json(answer), "error": None})
            return
        omitted = f" and {answer.faces_omitted} more, left out" if answer.faces_omitted else ""
        say(f"{path}: {len(answer.faces)} {'face' if len(answer.faces) == 1 else 'faces'}{omitted}")
        if answer.faces:
            out.print(faces_table(answer.faces, candidates=self._opened.max_candidates > 0))

    def _ask(self, path: Path, data: bytes) -> recognition_pb2.SearchResponse:
        """Who is there. Raises ``ImageError`` naming the file where the picture is at fault, else ``CallError``."""
        opened = self._opened
        try:
            return self._client.search(
                data, collection_id=opened.collection_id, policy=opened.policy, max_candidates=opened.max_candidates
            )
        except CallError as error:
            if error.field != "image.data":
                raise
            raise ImageError(f"{path}: {error}", reason=error.reason) from error

    def _tell_failure(self, path: Path, error: ImageError) -> None:
        if self._as_json:
            print_json({"path": path, "faces": [], "error": {"reason": error.reason, "message": error.message}})
        else:
            complain(error.message)
