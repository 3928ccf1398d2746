-- What proves identities: hashes only.
CREATE TABLE password (
  user_id TEXT PRIMARY KEY,
  hash TEXT NOT NULL,
  must_change BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  changed_at BIGINT NOT NULL
);
CREATE TABLE attempts (
  subject TEXT PRIMARY KEY,
  failures BIGINT NOT NULL,
  locked_until BIGINT NOT NULL,
  last_at BIGINT NOT NULL
);
CREATE INDEX attempts_last ON attempts (last_at);
CREATE TABLE client_secret (
  id TEXT PRIMARY KEY,
  owner_id TEXT NOT NULL,
  display_name TEXT NOT NULL,
  hint TEXT NOT NULL,
  keyed TEXT NOT NULL,
  start_at BIGINT NOT NULL,
  end_at BIGINT NOT NULL
);
CREATE INDEX client_secret_owner ON client_secret (owner_id);
CREATE TABLE client_certificate (
  id TEXT PRIMARY KEY,
  owner_id TEXT NOT NULL,
  display_name TEXT NOT NULL,
  sha1 TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  der TEXT NOT NULL,
  start_at BIGINT NOT NULL,
  end_at BIGINT NOT NULL,
  UNIQUE (owner_id, sha256)
);
