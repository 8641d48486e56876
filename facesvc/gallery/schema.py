"""The tables of the gallery and of its keys, as the migrations that led to them; see ``facesvc.database``."""

from facesvc.database import Schema, Step

# One row: what the vectors of this gallery are.
_META = """
    CREATE TABLE meta (
        singleton INTEGER PRIMARY KEY CHECK (singleton = 1),
        contract_id TEXT NOT NULL,
        dimension INTEGER NOT NULL,
        create_time INTEGER NOT NULL
    ) STRICT
"""

_SUBJECTS = """
    CREATE TABLE subjects (
        collection_id TEXT NOT NULL,
        subject_id TEXT NOT NULL,
        display_name TEXT NOT NULL,
        external_ids TEXT NOT NULL,
        metadata TEXT NOT NULL,
        consent_purpose TEXT,
        consent_given_time INTEGER,
        consent_expire_time INTEGER,
        enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
        create_time INTEGER NOT NULL,
        update_time INTEGER NOT NULL,
        PRIMARY KEY (collection_id, subject_id)
    ) STRICT, WITHOUT ROWID
"""

# row_id is the id of the vector in the search index. AUTOINCREMENT: the number of an erased sample is never given to
# somebody else's. The UNIQUE over three columns also serves the foreign key and the listing of a subject's samples.
_SAMPLES = """
    CREATE TABLE samples (
        row_id INTEGER PRIMARY KEY AUTOINCREMENT,
        sample_id TEXT NOT NULL UNIQUE,
        collection_id TEXT NOT NULL,
        subject_id TEXT NOT NULL,
        vector BLOB NOT NULL,
        quality REAL NOT NULL,
        source TEXT NOT NULL,
        image_sha256 BLOB NOT NULL,
        create_time INTEGER NOT NULL,
        UNIQUE (collection_id, subject_id, image_sha256),
        FOREIGN KEY (collection_id, subject_id) REFERENCES subjects ON DELETE CASCADE
    ) STRICT
"""

# Which subject a request created, for as long as the subject exists.
_REQUESTS = """
    CREATE TABLE requests (
        request_id TEXT PRIMARY KEY,
        collection_id TEXT NOT NULL,
        subject_id TEXT NOT NULL,
        FOREIGN KEY (collection_id, subject_id) REFERENCES subjects ON DELETE CASCADE
    ) STRICT
"""
_REQUESTS_OF_SUBJECT = "CREATE INDEX requests_of_subject ON requests (collection_id, subject_id)"

_RECEIPTS = """
    CREATE TABLE receipts (
        receipt_id TEXT PRIMARY KEY,
        collection_id TEXT NOT NULL,
        subject_id TEXT NOT NULL,
        sample_ids TEXT NOT NULL,
        erase_time INTEGER NOT NULL
    ) STRICT
"""

# Every contract that some vector was made under. A gallery had one, its dimension in ``meta``.
_CONTRACTS = """
    CREATE TABLE contracts (
        contract_id TEXT PRIMARY KEY,
        dimension INTEGER NOT NULL
    ) STRICT
"""
_KNOWN_CONTRACT = "INSERT INTO contracts SELECT contract_id, dimension FROM meta"

# One row: the contract that searches use, the one before it (to go back to), and since when.
_META_OF_CONTRACTS = """
    CREATE TABLE meta_of_contracts (
        singleton INTEGER PRIMARY KEY CHECK (singleton = 1),
        contract_id TEXT NOT NULL REFERENCES contracts,
        previous_contract_id TEXT REFERENCES contracts,
        create_time INTEGER NOT NULL,
        switch_time INTEGER NOT NULL
    ) STRICT
"""
_KNOWN_META = """
    INSERT INTO meta_of_contracts
    SELECT singleton, contract_id, NULL, create_time, create_time FROM meta
"""

# A sample has at most one vector under each contract. The key begins with the sample, which serves the cascade.
_VECTORS = """
    CREATE TABLE vectors (
        row_id INTEGER NOT NULL REFERENCES samples ON DELETE CASCADE,
        contract_id TEXT NOT NULL REFERENCES contracts,
        vector BLOB NOT NULL,
        PRIMARY KEY (row_id, contract_id)
    ) STRICT
"""
_KNOWN_VECTORS = "INSERT INTO vectors SELECT row_id, contract_id, vector FROM samples, meta ORDER BY row_id"

# What sealed the crops, and something that it sealed, by which a wrong key is noticed.
_KEYS = """
    CREATE TABLE keys (
        key_id TEXT PRIMARY KEY,
        sealed_check BLOB NOT NULL,
        create_time INTEGER NOT NULL
    ) STRICT
"""
_CROPS = """
    CREATE TABLE crops (
        row_id INTEGER PRIMARY KEY REFERENCES samples ON DELETE CASCADE,
        key_id TEXT NOT NULL REFERENCES keys,
        sealed BLOB NOT NULL
    ) STRICT
"""

# From here on what is known of people is sealed: see ``rows`` for what is inside. ``change`` is the number of the last
# change of the subject or its samples; those who keep a view follow it.
_SEALED_SUBJECTS = """
    CREATE TABLE sealed_subjects (
        collection_id TEXT NOT NULL,
        subject_id TEXT NOT NULL,
        enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
        create_time INTEGER NOT NULL,
        update_time INTEGER NOT NULL,
        change INTEGER NOT NULL,
        sealed BLOB NOT NULL,
        PRIMARY KEY (collection_id, subject_id)
    )
"""
_SUBJECTS_BY_CHANGE = "CREATE INDEX subjects_by_change ON subjects (change)"

# image_tag tells pictures of one person apart and says nothing else: it is keyed.
_SEALED_SAMPLES = """
    CREATE TABLE sealed_samples (
        row_id INTEGER PRIMARY KEY AUTOINCREMENT,
        sample_id TEXT NOT NULL UNIQUE,
        collection_id TEXT NOT NULL,
        subject_id TEXT NOT NULL,
        quality REAL NOT NULL,
        create_time INTEGER NOT NULL,
        image_tag BLOB NOT NULL,
        sealed BLOB NOT NULL,
        UNIQUE (collection_id, subject_id, image_tag),
        FOREIGN KEY (collection_id, subject_id) REFERENCES sealed_subjects ON DELETE CASCADE
    )
"""
_SEALED_VECTORS = """
    CREATE TABLE sealed_vectors (
        row_id INTEGER NOT NULL REFERENCES sealed_samples ON DELETE CASCADE,
        contract_id TEXT NOT NULL REFERENCES contracts,
        sealed BLOB NOT NULL,
        PRIMARY KEY (row_id, contract_id)
    )
"""
_SEALED_CROPS = """
    CREATE TABLE sealed_crops (
        row_id INTEGER PRIMARY KEY REFERENCES sealed_samples ON DELETE CASCADE,
        sealed BLOB NOT NULL
    )
"""
_SEALED_REQUESTS = """
    CREATE TABLE sealed_requests (
        request_id TEXT PRIMARY KEY,
        collection_id TEXT NOT NULL,
        subject_id TEXT NOT NULL,
        FOREIGN KEY (collection_id, subject_id) REFERENCES sealed_subjects ON DELETE CASCADE
    )
"""
# What was erased, for those who follow the changes and for backups from before; ``receipt`` is JSON, signed.
_SIGNED_RECEIPTS = """
    CREATE TABLE signed_receipts (
        receipt_id TEXT PRIMARY KEY,
        collection_id TEXT NOT NULL,
        subject_id TEXT NOT NULL,
        erase_time INTEGER NOT NULL,
        change INTEGER NOT NULL,
        receipt TEXT NOT NULL,
        signature BLOB NOT NULL
    )
"""
# The boxes that search this gallery: up to which change each has followed, and when it last said so.
_BOXES = """
    CREATE TABLE boxes (
        box_id TEXT PRIMARY KEY,
        change INTEGER NOT NULL,
        seen_time INTEGER NOT NULL
    )
"""
# One row: the number of the last change. Whoever changes something raises it first, and so waits for all who do:
# changes are seen in the order of their numbers.
_CHANGES = "CREATE TABLE changes (singleton INTEGER PRIMARY KEY CHECK (singleton = 1), change INTEGER NOT NULL)"

# One row: something sealed with nobody's key, by which another gallery's keys are noticed.
_KEYS_CHECK = "CREATE TABLE keys_check (singleton INTEGER PRIMARY KEY CHECK (singleton = 1), sealed BLOB NOT NULL)"

_MIGRATIONS = (
    Step("0001_gallery", (_META, _SUBJECTS, _SAMPLES, _REQUESTS, _REQUESTS_OF_SUBJECT, _RECEIPTS)),
    Step(
        "0002_contracts",
        (
            _CONTRACTS,
            _KNOWN_CONTRACT,
            _VECTORS,
            _KNOWN_VECTORS,
            "ALTER TABLE samples DROP COLUMN vector",
            _META_OF_CONTRACTS,
            _KNOWN_META,
            "DROP TABLE meta",
            "ALTER TABLE meta_of_contracts RENAME TO meta",
            _KEYS,
            _CROPS,
        ),
    ),
    Step(
        "0003_sealed",
        (
            _SEALED_SUBJECTS,
            _SEALED_SAMPLES,
            _SEALED_VECTORS,
            _SEALED_CROPS,
            _SEALED_REQUESTS,
            _SIGNED_RECEIPTS,
            _BOXES,
            _CHANGES,
            "INSERT INTO changes VALUES (1, 0)",
            _KEYS_CHECK,
        ),
        afterwards=(
            "INSERT INTO sealed_requests SELECT request_id, collection_id, subject_id FROM requests",
            "DROP TABLE crops",
            "DROP TABLE keys",
            "DROP TABLE vectors",
            "DROP TABLE requests",
            "DROP TABLE samples",
            "DROP TABLE subjects",
            "DROP TABLE receipts",
            "ALTER TABLE sealed_subjects RENAME TO subjects",
            "ALTER TABLE sealed_samples RENAME TO samples",
            "ALTER TABLE sealed_vectors RENAME TO vectors",
            "ALTER TABLE sealed_crops RENAME TO crops",
            "ALTER TABLE sealed_requests RENAME TO requests",
            "ALTER TABLE signed_receipts RENAME TO receipts",
            _SUBJECTS_BY_CHANGE,
            _REQUESTS_OF_SUBJECT,
        ),
    ),
)

GALLERY = Schema("migrations", _MIGRATIONS)

# The keys that wrap the others, none of which is here: only what proves that a key is the right one.
_MASTER_KEYS = """
    CREATE TABLE keyring.master_keys (
        key_id TEXT PRIMARY KEY,
        sealed_check BLOB NOT NULL,
        create_time INTEGER NOT NULL
    )
"""
# A data key for each subject, wrapped. It seals everything that is known of the subject; the one of the empty ids seals
# what is about nobody in particular.
_SUBJECT_KEYS = """
    CREATE TABLE keyring.subject_keys (
        collection_id TEXT NOT NULL,
        subject_id TEXT NOT NULL,
        key_id TEXT NOT NULL,
        wrapped BLOB NOT NULL,
        PRIMARY KEY (collection_id, subject_id)
    )
"""
# One row: what receipts are signed with, sealed.
_SIGNER = "CREATE TABLE keyring.signer (singleton INTEGER PRIMARY KEY CHECK (singleton = 1), sealed BLOB NOT NULL)"

KEYRING = Schema("keyring.migrations", (Step("0001_keyring", (_MASTER_KEYS, _SUBJECT_KEYS, _SIGNER)),))
