"""``facesvc doctor``: whether this box is fit to run facesvc, and what to do where it is not."""

import typer
from rich.table import Column, Table

from facesvc.cli import doctor_machine, doctor_oidc, doctor_security, doctor_software
from facesvc.cli.console import Json, cell, out, print_json, settings_of
from facesvc.cli.findings import Check, Level, examine

CHECKS: dict[str, Check] = {
    "python": doctor_software.python,
    "cpu": doctor_machine.cpu,
    "memory": doctor_machine.memory,
    "disk": doctor_machine.disk,
    "cache folder": doctor_machine.cache_folder,
    "data folder": doctor_machine.data_folder,
    "opencv": doctor_software.opencv,
    "model pack": doctor_software.pack,
    "providers": doctor_software.providers,
    "telemetry": doctor_software.telemetry,
    "port": doctor_machine.port,
    "certificate": doctor_security.certificate,
    "rights": doctor_security.rights,
    "swap": doctor_security.swapping,
    "clock": doctor_machine.clock,
    "identity provider": doctor_oidc.identity_provider,
}
"""Every check by its name, in the order of the rows."""

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "bold red"}


def doctor(context: typer.Context, as_json: Json = False) -> None:
    """Check this box, and say what to do about each finding; the exit status is 1 where there is an error."""
    settings = settings_of(context)
    findings = {name: examine(check, settings) for name, check in CHECKS.items()}
    if as_json:
        print_json(
            [
                {"check": name, "level": finding.level.value, "found": finding.found, "advice": finding.advice}
                for name, finding in findings.items()
            ]
        )
    else:
        table = Table("check", "", Column("found", overflow="fold"), Column("what to do", overflow="fold"))
        for name, finding in findings.items():
            table.add_row(
                name, cell(finding.level.value, _STYLES[finding.level]), cell(finding.found), cell(finding.advice)
            )
        out.print(table)
    if any(finding.level is Level.ERROR for finding in findings.values()):
        raise typer.Exit(1)
