-- How far the numbered events of a machine have come, by the machine's key.
CREATE TABLE machine_stream (
  machine_id TEXT PRIMARY KEY,
  thumbprint TEXT NOT NULL,
  sequence BIGINT NOT NULL
);
