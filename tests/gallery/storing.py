"""The way of people through the storage, in a process of its own: some are enrolled, all are searched, some are erased.

``python storing.py GALLERY KEY``: the number of a ``traces.Conspicuous`` who is to be enrolled comes on the standard
input; all but the first are erased. Nothing of them stays in the program's own variables. It says "done", waits until
the input ends, and then ends itself so that the kernel writes a dump.
"""

import os
import resource
import sys
from pathlib import Path

from gallery.traces import CONTRACT, NOW, Conspicuous

from facesvc.database.sqlite import SqliteDatabase
from facesvc.gallery import Gallery
from facesvc.gallery.masterkey import KeyFile


def _enrol(gallery: Gallery, number: int) -> None:
    person = Conspicuous(number)
    gallery.create_subject(person.subject)
    for sample in person.samples:
        gallery.add_sample(sample, 0.9, NOW, contract_id=CONTRACT.contract_id, crop=person.crop)


def _use(gallery: Gallery, subject_id: str) -> None:
    """Everything that a server does with somebody."""
    subject = gallery.get_subject("office", subject_id)
    gallery.list_subjects("office", 100, "", subject.display_name[:3])
    gallery.update_subject(subject, {"metadata", "consent"}, NOW)
    gallery.crops("office", subject_id)
    for sample in gallery.list_samples("office", subject_id):
        assert sample.vector is not None
        [[best, *_]] = gallery.search(CONTRACT.contract_id, "office", sample.vector[None], 5, NOW)
        assert best.subject_id == subject_id


def _live(gallery: Gallery, number: int) -> None:
    _enrol(gallery, number)
    page, _ = gallery.list_subjects("office", 1000)
    subject_ids = [subject.subject_id for subject in page]
    del page
    for subject_id in subject_ids:
        _use(gallery, subject_id)
    for subject_id in subject_ids[1:]:  # one stays, so that it is known that people are found
        gallery.erase_subject("office", subject_id, NOW)


def _main() -> None:
    _, path, key = sys.argv
    gallery = Gallery.open(SqliteDatabase(Path(path)), CONTRACT, NOW, [KeyFile(Path(key))])
    _live(gallery, int(os.read(0, 100)))
    os.write(1, b"done\n")
    os.read(0, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    os.chdir(Path(path).parent)
    os.abort()


if __name__ == "__main__":
    _main()
