"""The tables of the gallery, as the migrations that led to them; see ``facesvc.sqlite``."""

from facesvc.sqlite import Kind, Step

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
)

GALLERY = Kind("the gallery", "GALLERY", _MIGRATIONS)
