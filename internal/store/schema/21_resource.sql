-- Resources of every type, subscriptions and groups included. key is the
-- lower-cased id: what lies below an id is a range of keys.
CREATE TABLE resource (
  key TEXT PRIMARY KEY,
  id TEXT NOT NULL,
  type_key TEXT NOT NULL,
  machine TEXT NOT NULL,
  location TEXT NOT NULL,
  tags TEXT NOT NULL,
  identity TEXT NOT NULL,
  top TEXT NOT NULL,
  properties TEXT NOT NULL,
  private TEXT NOT NULL,
  above TEXT NOT NULL,
  etag TEXT NOT NULL,
  revision BIGINT NOT NULL,
  observed BIGINT NOT NULL,
  wanted_at BIGINT NOT NULL,
  state TEXT NOT NULL,
  error TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  changed_at BIGINT NOT NULL,
  behind BIGINT NOT NULL,
  due BIGINT NOT NULL,
  lease BIGINT NOT NULL
);
CREATE INDEX resource_type ON resource (type_key, key);
CREATE INDEX resource_behind ON resource (behind, due);
CREATE INDEX resource_machine ON resource (machine);
-- Tickets for writes. What they stand at is derived from the resource.
CREATE TABLE operation (
  id TEXT PRIMARY KEY,
  resource TEXT NOT NULL,
  born BIGINT NOT NULL,
  revision BIGINT NOT NULL,
  verb TEXT NOT NULL,
  principal TEXT NOT NULL,
  started_at BIGINT NOT NULL
);
CREATE INDEX operation_started ON operation (started_at);
