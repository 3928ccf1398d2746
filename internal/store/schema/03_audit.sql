-- Whom a record is about: the principal, or the person in a machine's report.
-- target_key is the target in lower case. Both are for searching; the record is
-- body.
ALTER TABLE audit ADD COLUMN subject TEXT NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN target_key TEXT NOT NULL DEFAULT '';
UPDATE audit SET subject = principal, target_key = lower(target);
DROP INDEX audit_at;
CREATE INDEX audit_place ON audit (at, writer, sequence);
CREATE INDEX audit_subject ON audit (subject, at);
CREATE INDEX audit_type ON audit (type, at);
CREATE INDEX audit_target ON audit (target_key, at);
CREATE INDEX audit_refused ON audit (outcome, at) WHERE outcome <> 'success';
-- Heads of chains that machines have seen, each signed by the audit key.
CREATE TABLE audit_witness (
  machine_id TEXT NOT NULL,
  writer TEXT NOT NULL,
  sequence BIGINT NOT NULL,
  epoch BIGINT NOT NULL,
  hash TEXT NOT NULL,
  key_id TEXT NOT NULL,
  signature TEXT NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (machine_id, writer, sequence, epoch, hash)
);
-- What stands for records that were deleted after their time: a document that
-- the audit key signed.
CREATE TABLE audit_checkpoint (
  writer TEXT NOT NULL,
  sequence BIGINT NOT NULL,
  envelope TEXT NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (writer, sequence)
);
-- How far each collector has the records of each writer, and which server
-- delivers to it now.
CREATE TABLE audit_cursor (
  output TEXT NOT NULL,
  writer TEXT NOT NULL,
  sequence BIGINT NOT NULL,
  PRIMARY KEY (output, writer)
);
CREATE TABLE audit_output (
  output TEXT PRIMARY KEY,
  holder TEXT NOT NULL,
  until BIGINT NOT NULL
);
