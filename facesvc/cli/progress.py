"""The progress bar of commands that look at many pictures."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from facesvc.cli.console import err

Item = TypeVar("Item")


def tracked(items: Iterable[Item], total: int, *, what: str = "looking at pictures", show: bool) -> Iterator[Item]:
    """The ``items``, with a bar on a terminal's standard error meanwhile."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not (show and err.is_terminal)) as progress:
        yield from progress.track(items, total=total, description=what)


class _Rate(ProgressColumn):
    """Pictures a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.0f}/s", style="progress.data.speed")
