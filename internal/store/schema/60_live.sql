-- The sessions that machines say are open, and when the list last changed.
-- digest is of the whole list, so that an unchanged one costs no write.
CREATE TABLE machine_session (
  machine_id TEXT NOT NULL,
  id TEXT NOT NULL,
  object_id TEXT NOT NULL,
  body TEXT NOT NULL,
  PRIMARY KEY (machine_id, id)
);
CREATE INDEX machine_session_object ON machine_session (object_id);
CREATE INDEX machine_session_id ON machine_session (id);
CREATE TABLE machine_session_list (
  machine_id TEXT PRIMARY KEY,
  digest TEXT NOT NULL,
  more BIGINT NOT NULL,
  at BIGINT NOT NULL
);
-- Sessions that somebody ended. gone_at is when the machine said that it has
-- carried that out, 0 until then.
CREATE TABLE ended_session (
  machine_id TEXT NOT NULL,
  id TEXT NOT NULL,
  object_id TEXT NOT NULL,
  ended_by TEXT NOT NULL,
  correlation TEXT NOT NULL,
  at BIGINT NOT NULL,
  gone_at BIGINT NOT NULL,
  processes TEXT NOT NULL,
  remaining TEXT NOT NULL,
  body TEXT NOT NULL,
  PRIMARY KEY (machine_id, id)
);
CREATE INDEX ended_session_at ON ended_session (at);
CREATE INDEX ended_session_id ON ended_session (id);
