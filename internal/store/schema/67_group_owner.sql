-- Owners of groups: people and service principals, told and shown; they give no right.
CREATE TABLE group_owner (
  group_id TEXT NOT NULL,
  owner_id TEXT NOT NULL,
  PRIMARY KEY (group_id, owner_id)
);
CREATE INDEX group_owner_owner ON group_owner (owner_id);
