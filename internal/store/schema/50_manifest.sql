-- Which manifest each machine has in force, as it last said.
CREATE TABLE machine_manifest (
  machine_id TEXT PRIMARY KEY,
  epoch BIGINT NOT NULL,
  version BIGINT NOT NULL,
  at BIGINT NOT NULL
);
