-- Sign-ins that a machine asks for in the name of somebody who connects to it:
-- which machine, whom it must be, and for which key. Empty for the device codes of
-- programs. reason is why one was refused.
ALTER TABLE device_request ADD COLUMN machine_id TEXT NOT NULL DEFAULT '';
ALTER TABLE device_request ADD COLUMN machine_name TEXT NOT NULL DEFAULT '';
ALTER TABLE device_request ADD COLUMN login_name TEXT NOT NULL DEFAULT '';
ALTER TABLE device_request ADD COLUMN wanted_user TEXT NOT NULL DEFAULT '';
ALTER TABLE device_request ADD COLUMN confirmation TEXT NOT NULL DEFAULT '';
ALTER TABLE device_request ADD COLUMN correlation TEXT NOT NULL DEFAULT '';
ALTER TABLE device_request ADD COLUMN reason TEXT NOT NULL DEFAULT '';
