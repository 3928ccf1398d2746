-- Who made a join token: "" for the server itself. One without a machine is for a
-- new machine in the group that resource_id is.
ALTER TABLE join_tokens ADD COLUMN minted_by TEXT NOT NULL DEFAULT '';
-- The key that a machine had before it joined again, and when that died.
ALTER TABLE machines ADD COLUMN replaced TEXT NOT NULL DEFAULT '';
ALTER TABLE machines ADD COLUMN replaced_at BIGINT NOT NULL DEFAULT 0;
