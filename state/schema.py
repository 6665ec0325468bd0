"""The tables of the state file, one migration after another; PRAGMA user_version counts them."""

MIGRATIONS = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE registry (
        name TEXT PRIMARY KEY,
        epoch INTEGER NOT NULL,
        epoch_age REAL,            -- seconds; NULL counts as old
        minutes TEXT NOT NULL,     -- JSON: ten [present, in service], oldest first
        counted_ago REAL NOT NULL, -- seconds
        configuration TEXT NOT NULL
    ) STRICT;
    CREATE TABLE observed (
        registry TEXT NOT NULL,
        service TEXT NOT NULL,
        instances TEXT NOT NULL,   -- JSON
        epoch INTEGER NOT NULL,    -- in which the service was last read
        consul_index TEXT NOT NULL, -- unsigned 64 bits do not fit an INTEGER
        PRIMARY KEY (registry, service)
    ) STRICT;
    CREATE TABLE waiting (
        registry TEXT NOT NULL,
        service TEXT NOT NULL,
        node TEXT NOT NULL,
        id TEXT NOT NULL,
        reason TEXT NOT NULL,
        word TEXT,                 -- JSON: what the registry says now; NULL: vanished
        waited REAL NOT NULL,      -- seconds
        proofs INTEGER NOT NULL,
        proved_ago REAL NOT NULL,  -- seconds
        PRIMARY KEY (registry, service, node, id)
    ) STRICT;
    CREATE TABLE applied (
        cluster TEXT NOT NULL,
        kind TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        digest TEXT NOT NULL,      -- of the spec
        uid TEXT NOT NULL,
        generation INTEGER NOT NULL,
        resource_version TEXT NOT NULL,
        labels TEXT NOT NULL,      -- JSON: the keys of the labels that are ours
        unneeded REAL,             -- seconds for which a ServiceEntry had no need and no WorkloadEntry
        PRIMARY KEY (cluster, kind, namespace, name)
    ) STRICT;
    CREATE TABLE cluster (
        name TEXT PRIMARY KEY,
        configuration TEXT NOT NULL, -- digest under which the last whole plan was carried out
        version TEXT NOT NULL,
        accepted TEXT NOT NULL       -- digest under which an operator accepted deletions
    ) STRICT;
    CREATE TABLE history (
        id INTEGER PRIMARY KEY,
        at REAL NOT NULL,          -- seconds since 1970
        cluster TEXT NOT NULL,
        action TEXT NOT NULL,
        kind TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        why TEXT NOT NULL,
        lag REAL                   -- seconds from the registry's word to the cluster's
    ) STRICT;
    """,
    """
    ALTER TABLE registry ADD COLUMN consul_index TEXT NOT NULL DEFAULT '0'; -- the highest of its lists' in the epoch
    """,
    """
    ALTER TABLE registry ADD COLUMN versions TEXT NOT NULL DEFAULT '[]'; -- JSON: of Eureka's servers, [URL, version]
    ALTER TABLE history ADD COLUMN host TEXT NOT NULL DEFAULT '';
    ALTER TABLE history ADD COLUMN registry TEXT NOT NULL DEFAULT '';   -- whose word led to it
    CREATE INDEX history_of_host ON history (host, id);
    CREATE TABLE paused (cluster TEXT PRIMARY KEY) STRICT;              -- by an operator, until resumed
    CREATE TABLE forsaken (                                             -- ServiceEntries of other owners
        cluster TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        uid TEXT NOT NULL,
        author TEXT NOT NULL,
        seconds REAL NOT NULL,     -- for which the author was seen without a WorkloadEntry on the host
        PRIMARY KEY (cluster, namespace, name)
    ) STRICT;
    """,
)
VERSION = len(MIGRATIONS)
HISTORY = 10_000  # rows that are kept
