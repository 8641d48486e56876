"""The tables of delivery: how far each plugin is, what waits, what plugins keep and found out."""

from facesvc.database import Schema, Step

# Whoever delivers on a box goes by the events that this box wrote: each has a place of its own.
_PLACES = """
    CREATE TABLE plugin_places (
        plugin TEXT NOT NULL,
        box_id TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        PRIMARY KEY (plugin, box_id)
    )
"""
# What is not simply delivered; the event itself is in the journal, by its number.
_DELIVERIES = """
    CREATE TABLE deliveries (
        plugin TEXT NOT NULL,
        box_id TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        event_id TEXT NOT NULL,
        collection_id TEXT NOT NULL,
        subject_id TEXT NOT NULL,
        state TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        first_time INTEGER NOT NULL,
        next_time INTEGER NOT NULL,
        update_time INTEGER NOT NULL,
        error TEXT NOT NULL,
        PRIMARY KEY (plugin, sequence)
    )
"""
_NOTES = """
    CREATE TABLE plugin_notes (
        plugin TEXT NOT NULL,
        key TEXT NOT NULL,
        collection_id TEXT NOT NULL,
        subject_id TEXT NOT NULL,
        expire_time INTEGER,
        payload BLOB NOT NULL,
        PRIMARY KEY (plugin, key, collection_id, subject_id)
    )
"""
_FACTS = """
    CREATE TABLE facts (
        collection_id TEXT NOT NULL,
        subject_id TEXT NOT NULL,
        plugin TEXT NOT NULL,
        expire_time INTEGER NOT NULL,
        payload BLOB NOT NULL,
        PRIMARY KEY (collection_id, subject_id, plugin)
    )
"""
_INDEXES = (
    "CREATE INDEX deliveries_of_subject ON deliveries (collection_id, subject_id)",
    "CREATE INDEX deliveries_by_age ON deliveries (state, update_time)",
    "CREATE INDEX plugin_notes_of_subject ON plugin_notes (collection_id, subject_id)",
    "CREATE INDEX plugin_notes_by_age ON plugin_notes (expire_time)",
    "CREATE INDEX facts_by_age ON facts (expire_time)",
)
DELIVERY = Schema("delivery_migrations", (Step("0001_delivery", (_PLACES, _DELIVERIES, _NOTES, _FACTS, *_INDEXES)),))
