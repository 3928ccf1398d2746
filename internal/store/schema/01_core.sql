-- The change feed: positions come from one locked row, so their order is the
-- order of commits on any database.
CREATE TABLE feed_position (
  id BIGINT PRIMARY KEY,
  position BIGINT NOT NULL
);
INSERT INTO feed_position (id, position) VALUES (1, 0);
CREATE TABLE feed (
  position BIGINT PRIMARY KEY,
  kind TEXT NOT NULL,
  key TEXT NOT NULL,
  at BIGINT NOT NULL
);
-- The audit chain, one per writer. body is the record as JSON; the columns
-- beside it are what people filter by.
CREATE TABLE audit (
  writer TEXT NOT NULL,
  sequence BIGINT NOT NULL,
  at BIGINT NOT NULL,
  correlation TEXT NOT NULL,
  principal TEXT NOT NULL,
  type TEXT NOT NULL,
  outcome TEXT NOT NULL,
  target TEXT NOT NULL,
  body TEXT NOT NULL,
  hash TEXT NOT NULL,
  PRIMARY KEY (writer, sequence)
);
CREATE INDEX audit_correlation ON audit (correlation);
CREATE INDEX audit_at ON audit (at);
-- Small facts about the deployment: tenant, epoch, manifest. Values are JSON.
CREATE TABLE deployment (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
);
