-- The upgrade of machines' agents in rings. rings holds one a line. ring is the
-- number of the one whose turn it is, done_at since when all so far are through.
CREATE TABLE agent_upgrade (
  name TEXT PRIMARY KEY,
  id TEXT NOT NULL,
  version TEXT NOT NULL,
  rings TEXT NOT NULL,
  soak BIGINT NOT NULL,
  wait BIGINT NOT NULL,
  timeout BIGINT NOT NULL,
  max_failures BIGINT NOT NULL,
  state TEXT NOT NULL,
  reason TEXT NOT NULL,
  ring BIGINT NOT NULL,
  ring_at BIGINT NOT NULL,
  done_at BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  created_by TEXT NOT NULL
);
