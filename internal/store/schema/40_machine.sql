-- Machines that joined, with what they last said of themselves.
CREATE TABLE machines (
  id TEXT PRIMARY KEY,
  resource_id TEXT NOT NULL,
  thumbprint TEXT NOT NULL UNIQUE,
  joined_at BIGINT NOT NULL,
  hostname TEXT NOT NULL,
  os TEXT NOT NULL,
  openssh TEXT NOT NULL,
  agent TEXT NOT NULL,
  host_keys TEXT NOT NULL,
  report TEXT NOT NULL
);
-- Join tokens by the keyed hash of their secret. used_at is set once.
CREATE TABLE join_tokens (
  hash TEXT PRIMARY KEY,
  machine_id TEXT NOT NULL,
  resource_id TEXT NOT NULL,
  expires_at BIGINT NOT NULL,
  used_at BIGINT NOT NULL,
  used_by TEXT NOT NULL
);
-- Ids of machine events that were audited, so that a repeat is not.
CREATE TABLE machine_events (
  machine_id TEXT NOT NULL,
  event_id TEXT NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (machine_id, event_id)
);
CREATE INDEX machine_events_at ON machine_events (at);
