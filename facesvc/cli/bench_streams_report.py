"""What the benchmark of streams found: a line for each figure, with the bar it is held against."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from facesvc.cli.console import cell


@dataclass(frozen=True, slots=True)
class Row:
    """A figure of a workload, in words and as ``value``; the ``bar`` and whether it is met, where there is one."""

    workload: str
    what: str
    figure: str
    value: float
    bar: str = ""
    met: bool | None = None


def at_most(workload: str, what: str, value: float, bar: float, form: str = "{:.2f}") -> Row:
    """A figure that may be ``bar`` and no more; one that is no number is not met."""
    return Row(workload, what, form.format(value), value, f"≤ {form.format(bar)}", value <= bar)


def at_least(workload: str, what: str, value: float, bar: float, form: str = "{:.2f}") -> Row:
    """A figure that has to be ``bar`` or more."""
    return Row(workload, what, form.format(value), value, f"≥ {form.format(bar)}", value >= bar)


def plain(workload: str, what: str, value: float, form: str = "{:.2f}") -> Row:
    """A figure without a bar."""
    return Row(workload, what, form.format(value), value)


def as_object(rows: Sequence[Row]) -> dict[str, Any]:
    """For programs."""
    return {"rows": [asdict(row) for row in rows], "met": all(row.met is not False for row in rows)}


def as_rich(rows: Sequence[Row], title: str) -> Table:
    """For people."""
    table = Table("workload", "what", "figure", "bar", "met", title=title)
    table.columns[2].justify = "right"
    before = ""
    for row in rows:
        if before and row.workload != before:
            table.add_section()
        met = {None: ("", ""), True: ("yes", "green"), False: ("no", "red")}[row.met]
        name = row.workload if row.workload != before else ""
        table.add_row(name, cell(row.what), cell(row.figure), cell(row.bar), cell(*met))
        before = row.workload
    return table
