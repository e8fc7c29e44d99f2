-- Times are milliseconds since 1970-01-01T00:00:00Z. A realm is a name from the config file and has no row of its own.

CREATE TABLE accounts (
    realm TEXT NOT NULL,
    id TEXT NOT NULL CHECK (id <> ''),
    username TEXT NOT NULL,
    username_canonical TEXT NOT NULL CHECK (username_canonical <> ''),
    email TEXT,
    email_canonical TEXT CHECK (email_canonical <> ''),
    display_name TEXT,
    status TEXT NOT NULL CHECK (status IN ('active', 'disabled')),
    roles TEXT NOT NULL CHECK (json_valid(roles)),
    tenants TEXT NOT NULL CHECK (json_valid(tenants)),
    attributes TEXT NOT NULL CHECK (json_valid(attributes)),
    -- A PHC string. NULL: the account has no password, and no password is ever right.
    password TEXT CHECK (password <> ''),
    created_at INTEGER NOT NULL,
    sessions_valid_from INTEGER NOT NULL,
    PRIMARY KEY (realm, id),
    UNIQUE (realm, username_canonical)
) STRICT;

CREATE INDEX accounts_by_email ON accounts (realm, email_canonical);

CREATE TABLE sessions (
    realm TEXT NOT NULL,
    id TEXT NOT NULL CHECK (id <> ''),
    api TEXT NOT NULL,
    account TEXT NOT NULL,
    -- SHA-256 of the refresh token.
    refresh BLOB NOT NULL CHECK (length(refresh) = 32),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    ended_at INTEGER,
    PRIMARY KEY (realm, id),
    UNIQUE (realm, refresh),
    FOREIGN KEY (realm, account) REFERENCES accounts (realm, id)
) STRICT;

CREATE INDEX sessions_by_account ON sessions (realm, account);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

CREATE TABLE keys (
    realm TEXT NOT NULL,
    id TEXT NOT NULL CHECK (id <> ''),
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    -- Separated by single spaces.
    scopes TEXT NOT NULL,
    tenants TEXT NOT NULL CHECK (json_valid(tenants)),
    allowed_ips TEXT NOT NULL CHECK (json_valid(allowed_ips)),
    environment TEXT NOT NULL,
    -- SHA-256 of the whole key.
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    last_used_at INTEGER,
    PRIMARY KEY (realm, id),
    UNIQUE (realm, digest),
    FOREIGN KEY (realm, owner) REFERENCES accounts (realm, id)
) STRICT;

CREATE INDEX keys_by_owner ON keys (realm, owner);
CREATE INDEX keys_by_id ON keys (id);

CREATE TABLE audit (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    realm TEXT NOT NULL,
    action TEXT NOT NULL,
    done INTEGER NOT NULL CHECK (done IN (0, 1)),
    actor TEXT NOT NULL,
    object TEXT NOT NULL,
    client_ip TEXT,
    request_id TEXT,
    reason TEXT
) STRICT;

CREATE INDEX audit_by_time ON audit (at);

CREATE TABLE signing_keys (
    api TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    -- AES-256-GCM: nonce, ciphertext, tag.
    sealed BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (api, algorithm)
) STRICT;

-- What other processes must read again. AUTOINCREMENT: a number is never used twice, so that "greater than the last one
-- seen" finds every change.
CREATE TABLE changes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL CHECK (kind IN ('account', 'key', 'session')),
    realm TEXT NOT NULL,
    id TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;
