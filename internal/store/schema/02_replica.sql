-- Servers that share this database. A name belongs to one process: epoch rises
-- when another takes it over, commits with every commit of its holder.
CREATE TABLE replica (
  name TEXT PRIMARY KEY,
  epoch BIGINT NOT NULL,
  commits BIGINT NOT NULL,
  held BIGINT NOT NULL,
  ability TEXT NOT NULL
);
-- What each server last heard from a machine. stamp rises with every change of
-- that server.
CREATE TABLE machine_presence (
  machine_id TEXT NOT NULL,
  replica TEXT NOT NULL,
  seen_at BIGINT NOT NULL,
  version BIGINT NOT NULL,
  acknowledged BIGINT NOT NULL,
  stamp BIGINT NOT NULL,
  PRIMARY KEY (machine_id, replica)
);
CREATE INDEX machine_presence_stamp ON machine_presence (replica, stamp);
