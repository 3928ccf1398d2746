-- The host key that a machine has proven to hold, in authorized_keys form.
ALTER TABLE machines ADD COLUMN proven_key TEXT NOT NULL DEFAULT '';
