-- Times are milliseconds since 1970-01-01T00:00:00Z. A realm is a name from the config file and has no row of its own.
-- COLLATE "C": names are equal and sorted byte by byte, as in the other engine and whatever the database's locale is.

CREATE TABLE accounts (
    realm TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL CHECK (id <> ''),
    username TEXT NOT NULL,
    username_canonical TEXT COLLATE "C" NOT NULL CHECK (username_canonical <> ''),
    email TEXT,
    email_canonical TEXT COLLATE "C" CHECK (email_canonical <> ''),
    display_name TEXT,
    status TEXT NOT NULL CHECK (status IN ('active', 'disabled')),
    -- The cast fails for what is no JSON.
    roles TEXT NOT NULL CHECK (roles::json IS NOT NULL),
    tenants TEXT NOT NULL CHECK (tenants::json IS NOT NULL),
    attributes TEXT NOT NULL CHECK (attributes::json IS NOT NULL),
    -- A PHC string. NULL: the account has no password, and no password is ever right.
    password TEXT CHECK (password <> ''),
    created_at BIGINT NOT NULL,
    sessions_valid_from BIGINT NOT NULL,
    PRIMARY KEY (realm, id),
    UNIQUE (realm, username_canonical)
);

CREATE INDEX accounts_by_email ON accounts (realm, email_canonical);

CREATE TABLE sessions (
    realm TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL CHECK (id <> ''),
    api TEXT NOT NULL,
    account TEXT COLLATE "C" NOT NULL,
    -- SHA-256 of the refresh token.
    refresh BYTEA NOT NULL CHECK (length(refresh) = 32),
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    ended_at BIGINT,
    PRIMARY KEY (realm, id),
    UNIQUE (realm, refresh),
    FOREIGN KEY (realm, account) REFERENCES accounts (realm, id)
);

CREATE INDEX sessions_by_account ON sessions (realm, account);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

CREATE TABLE keys (
    realm TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL CHECK (id <> ''),
    owner TEXT COLLATE "C" NOT NULL,
    name TEXT NOT NULL,
    -- Separated by single spaces.
    scopes TEXT NOT NULL,
    tenants TEXT NOT NULL CHECK (tenants::json IS NOT NULL),
    allowed_ips TEXT NOT NULL CHECK (allowed_ips::json IS NOT NULL),
    environment TEXT NOT NULL,
    -- SHA-256 of the whole key.
    digest BYTEA NOT NULL CHECK (length(digest) = 32),
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    last_used_at BIGINT,
    PRIMARY KEY (realm, id),
    UNIQUE (realm, digest),
    FOREIGN KEY (realm, owner) REFERENCES accounts (realm, id)
);

CREATE INDEX keys_by_owner ON keys (realm, owner);
CREATE INDEX keys_by_id ON keys (id);

CREATE TABLE audit (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at BIGINT NOT NULL,
    realm TEXT NOT NULL,
    action TEXT NOT NULL,
    done BIGINT NOT NULL CHECK (done IN (0, 1)),
    actor TEXT NOT NULL,
    object TEXT NOT NULL,
    client_ip TEXT,
    request_id TEXT,
    reason TEXT
);

CREATE INDEX audit_by_time ON audit (at);

CREATE TABLE signing_keys (
    api TEXT COLLATE "C" NOT NULL,
    algorithm TEXT COLLATE "C" NOT NULL,
    -- AES-256-GCM: nonce, ciphertext, tag.
    sealed BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (api, algorithm)
);

-- What other processes must read again. Whoever writes holds a lock and gives the next number, so that "greater than the
-- last one seen" finds every change; the newest is never deleted.
CREATE TABLE changes (
    seq BIGINT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('account', 'key', 'session')),
    realm TEXT NOT NULL,
    id TEXT NOT NULL,
    at BIGINT NOT NULL
);
