"""Backups: made while everything goes on, readable with the master key only, and never a way back for the erased.

A backup is a copy of the database in chunks, a manifest, and a file of keys:

    FOLDER/chunks/…               pieces of copies; what has not changed since the last backup is shared with it
    FOLDER/keys/NAME.keys         what opens what is sealed in the copy, one record a person
    FOLDER/manifests/NAME.manifest  which chunks, how much of what; written last: what has none is no backup

What always holds:

- Everything is sealed under keys of the backups' own, and these under the master key. When that is exchanged, only the
  first lines of the manifests are written anew.
- Whoever is erased is taken out of every backup: zeros are written over their key, where it lies. A copy of the folder
  that was made before, elsewhere, is out of our reach; so is what a file system or a disk keeps of overwritten bytes.
  That the copy of the database still holds what that key would open does no harm then. A sample of theirs that was
  taken for another person's when the backup was made stays readable with that one's key: the receipt names the backup.
- A backup that was not finished is none, and a restore that was not finished has changed nothing: the next start goes
  on with it or clears it away.
- Whoever was erased after a backup, as the receipts of the present gallery say, is not brought back by it either.

Reading order, which is the import order: ``folder`` (files), ``tables`` (keys as rows), ``keys`` (their file),
``manifest``, ``shelf`` (a folder's backups), ``present`` (what outlives a restore), ``backups`` (making them),
``restore``.
"""

from facesvc.backup.backups import Backups
from facesvc.backup.shelf import Backup, Shelf, keys_at_hand

__all__ = ["Backup", "Backups", "Shelf", "keys_at_hand"]
