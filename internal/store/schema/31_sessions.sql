-- From where sessions, refresh families and device requests began, and what
-- counts them per user; certificates that were revoked before their end.
ALTER TABLE signin_session ADD COLUMN address TEXT NOT NULL DEFAULT '';
ALTER TABLE refresh_family ADD COLUMN address TEXT NOT NULL DEFAULT '';
ALTER TABLE device_request ADD COLUMN network TEXT NOT NULL DEFAULT '';
ALTER TABLE device_request ADD COLUMN wide TEXT NOT NULL DEFAULT '';
CREATE INDEX signin_session_user ON signin_session (user_id, seen_at);
CREATE INDEX refresh_family_principal ON refresh_family (principal, rotated_at);
CREATE INDEX oauth_code_user ON oauth_code (user_id);
CREATE INDEX device_request_wide ON device_request (wide, network);
CREATE TABLE revoked_certificate (
  serial TEXT PRIMARY KEY,
  principal TEXT NOT NULL,
  reason TEXT NOT NULL,
  at BIGINT NOT NULL,
  ends BIGINT NOT NULL
);
CREATE INDEX revoked_certificate_ends ON revoked_certificate (ends);
