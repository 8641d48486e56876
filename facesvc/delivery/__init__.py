"""From the journal to plugins: every event that one wants, in order, and back what they found out about people.

The journal is the queue. For each plugin the database has a place in it, up to which everything is settled, and a row
for each event that was not simply delivered: it waits, is dead, expired, or of unknown effect. What is about one person
is delivered one after the other, what is about different people side by side.

Each plugin runs in a thread of its own, on an event loop of its own, with a time limit for every call. Nothing that it
does, or fails to do, holds up recognition, the journal, or another plugin.

Reading order, which is the import order: ``schema`` (the tables), ``wants`` (which events), ``breaker`` (when to try
again), ``outbox`` (on the disk), ``lanes`` (what waits), ``pace`` (when to give up), ``ledger`` (what is still to be
written down), ``calling`` (calls that may hang), ``handover`` (one event, once), ``courier`` (the deliveries to one
plugin), ``notes`` (what plugins keep and found out), ``desk`` (what a plugin is given), ``roll`` (which plugins there
are), ``threads`` and ``runner`` (one plugin at work), ``host`` (all of them; the way in). ``kit``, ``rig`` and
``contract`` are for tests of plugins.
"""
