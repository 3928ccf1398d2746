-- What a machine says of itself, a part each: a claim, for people to read.
CREATE TABLE machine_inventory (
  machine_id TEXT NOT NULL,
  part TEXT NOT NULL,
  document TEXT NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (machine_id, part)
);
