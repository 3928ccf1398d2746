-- Changes that take something away from people who are on machines. A machine
-- that has everything up to position has acknowledged it. reach says which
-- machines it concerns: all, machine:ID, group:ID or scope:ID.
CREATE TABLE revocation (
  id TEXT PRIMARY KEY,
  position BIGINT NOT NULL,
  at BIGINT NOT NULL,
  type TEXT NOT NULL,
  target TEXT NOT NULL,
  what TEXT NOT NULL,
  by_id TEXT NOT NULL,
  by_name TEXT NOT NULL,
  correlation TEXT NOT NULL,
  reach TEXT NOT NULL
);
CREATE INDEX revocation_position ON revocation (position);
-- Up to which position a machine holds everything that concerns it, as each
-- server knows.
ALTER TABLE machine_presence ADD COLUMN current BIGINT NOT NULL DEFAULT 0;
