"""The daily export: for every finished day a signed file, in order; again as a new revision where somebody asks.

Each is three files: NAME.csv, NAME.json (the manifest) and NAME.sig (its signature); they count from the moment the
manifest is there. A file that was written is never written over. Where we stopped is a note; after a crash between
manifest and note, or with a database from a backup, the folder knows more, and is believed where the signature is ours.
"""

import asyncio
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import JsonValue

from facesvc.errors import DependencyError, InputError, NotFoundError, PreconditionError
from facesvc.events.plugin import Box
from facesvc_attendance.folder import Folder
from facesvc_attendance.keeping import integer
from facesvc_attendance.ledger import Asked, Ledger
from facesvc_attendance.manifest import (
    MAX_REVISION,
    Manifest,
    is_signed,
    key_id,
    public_text,
    read_key,
    read_public,
    sha256,
    stem_of,
)
from facesvc_attendance.people import cards
from facesvc_attendance.rules import DAY
from facesvc_attendance.settings import Settings
from facesvc_attendance.tables import as_csv
from facesvc_attendance.verifying import Finding, verify_all, verify_one

HEAD = "export/head"


@dataclass(frozen=True, slots=True)
class Head:
    """Where we are: the manifest written last (empty: none), and the first day that is not exported."""

    sequence: int
    stem: str
    sha256: str
    next_day: date


class Exporter:
    """Writes exports and verifies them. Raises ``ConfigError`` and ``DependencyError`` where folder or key fail."""

    def __init__(self, settings: Settings, box: Box, ledger: Ledger) -> None:
        self._settings = settings
        self._box = box
        self._ledger = ledger
        self._writing = asyncio.Lock()

    @property
    def folder(self) -> Folder:
        """Where exports lie. Raises ``PreconditionError`` where none is set."""
        if not self._settings.export_folder:
            message = "exports are off: set export_folder and signing_key in [plugins.attendance]"
            raise PreconditionError(message, reason="EXPORT_OFF")
        return Folder(Path(self._settings.export_folder))

    def finish_time(self, day: date) -> datetime:
        """When a day is finished, everywhere."""
        return max(rules.end(day) for rules in self._settings.all_rules()) + timedelta(
            hours=self._settings.export_after_hours
        )

    def keys(self) -> list[Ed25519PublicKey]:
        """Those that exports may be signed with, today's first."""
        today = read_key(self._settings.signing_key).public_key()
        return [today, *map(read_public, self._settings.former_public_keys)]

    def public_key(self) -> dict[str, str]:
        """Today's, for those who verify."""
        key = read_key(self._settings.signing_key).public_key()
        text = public_text(key)
        return {
            "key_id": key_id(key),
            "base64": text,
            "pem": f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n",
        }

    async def due(self) -> list[str]:
        """Write what is due, day after day; the names."""
        async with self._writing:
            await asyncio.to_thread(self.folder.make)
            head, written = await self._head(), []
            if not head.sequence:
                await self._keep(head)  # from this day on, also if it takes a while until it is finished
            while self.finish_time(head.next_day) <= self._box.now():
                manifest, head = await self._write(head.next_day, head)
                head = replace(head, next_day=head.next_day + DAY)
                await self._keep(head)
                written.append(manifest.stem)
            return written

    async def export(self, day: date) -> tuple[Manifest, bool]:
        """Write a finished day, unless its last file still holds; the manifest, and whether it is new."""
        async with self._writing:
            if (finish := self.finish_time(day)) > self._box.now():
                when = self._settings.rules().local(finish).isoformat(timespec="minutes")
                message = f"{day} is not finished before {when} (export_after_hours)"
                raise InputError(message, field="day")
            if day < self._ledger.kept_from(("", ""), self._box.now()):
                raise InputError(f"bookings of {day} are not kept any more (retention_days)", field="day")
            await asyncio.to_thread(self.folder.make)
            before = await self._head()
            manifest, head = await self._write(day, before)
            await self._keep(head)
            return manifest, head.sequence != before.sequence

    async def verify(self, stem: str) -> Finding:
        """One file by its name, or all of them where it is empty, and that the last one is there."""
        folder, keys = self.folder, self.keys()
        if stem:
            return await asyncio.to_thread(verify_one, folder, stem, keys)
        finding = await asyncio.to_thread(verify_all, folder, keys)
        head = await self._head()
        last = finding.manifests.get(head.stem, (None, ""))[1]
        if finding.complete and head.stem and last != head.sha256:
            finding.problems.append(f"{head.stem}.json, the last that was written, is missing or another")
        return finding

    async def _write(self, day: date, head: Head) -> tuple[Manifest, Head]:
        """The day's files; those that are there already where they hold what would be written."""
        key, folder = read_key(self._settings.signing_key), self.folder
        days = await self._ledger.days(Asked(first=day, last=day))
        known = await cards(self._box, (one.about for one in days))
        content = (await asyncio.to_thread(as_csv, days, known, self._ledger.rules)).encode()
        revision = await asyncio.to_thread(folder.last_revision, day)
        if revision:
            last = await asyncio.to_thread(self._ours, folder, stem_of(day, revision))
            if last is not None:
                head = _further(head, *last)
                if last[0].csv_sha256 == sha256(content):
                    return last[0], head
        if revision == MAX_REVISION:
            raise DependencyError(f"{day} has {MAX_REVISION} revisions in {folder.path}: move them away")
        manifest = Manifest(
            day=day,
            revision=revision + 1,
            sequence=head.sequence + 1,
            csv_sha256=sha256(content),
            rows=sum(one.about in known for one in days),
            previous=head.stem,
            previous_sha256=head.sha256,
            written_time=self._box.now().isoformat(timespec="seconds"),
            key_id=key_id(key.public_key()),
        )
        signed = manifest.content()
        # Before there is a copy: there is none that the log does not know of.
        await self._box.audit("ExportAttendance", f"{manifest.stem}: {manifest.rows} rows")
        await asyncio.to_thread(folder.write, f"{manifest.stem}.csv", content)
        await asyncio.to_thread(folder.write, f"{manifest.stem}.sig", key.sign(signed))
        await asyncio.to_thread(folder.write, f"{manifest.stem}.json", signed)
        return manifest, _further(head, manifest, sha256(signed))

    def _ours(self, folder: Folder, stem: str) -> tuple[Manifest, str] | None:
        """A manifest of the folder and its hash, if we signed it and its CSV is there."""
        try:
            content, signature = folder.read(f"{stem}.json"), folder.read(f"{stem}.sig")
            manifest = Manifest.parse(content)
            whole = sha256(folder.read(f"{stem}.csv")) == manifest.csv_sha256
        except (NotFoundError, ValueError):
            return None
        signed = any(is_signed(content, signature, key) for key in self.keys())
        return (manifest, sha256(content)) if signed and whole and manifest.stem == stem else None

    async def _head(self) -> Head:
        value = await self._box.notes.get(HEAD)
        today = self._settings.rules().day_of(self._box.now())
        if not isinstance(value, dict):
            return Head(0, "", "", today)
        try:
            next_day = date.fromisoformat(str(value["next_day"]))
            head = Head(integer(value["sequence"]), str(value["stem"]), str(value["sha256"]), next_day)
        except (KeyError, ValueError) as error:
            raise DependencyError(f"the note {HEAD} cannot be understood", reason="NOTE_DAMAGED") from error
        return replace(head, next_day=max(next_day, self._ledger.kept_from(("", ""), self._box.now())))

    async def _keep(self, head: Head) -> None:
        value: JsonValue = {
            "sequence": head.sequence,
            "stem": head.stem,
            "sha256": head.sha256,
            "next_day": str(head.next_day),
        }
        await self._box.notes.put(HEAD, value)


def _further(head: Head, manifest: Manifest, digest: str) -> Head:
    """The head at a manifest, if that was written later."""
    if manifest.sequence <= head.sequence:
        return head
    return replace(head, sequence=manifest.sequence, stem=manifest.stem, sha256=digest)
