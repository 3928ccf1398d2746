-- What sign-in and OAuth remember. Secrets are keyed hashes in base64; times are
-- microseconds, 0 for none; factors are JSON of factor name -> microseconds.
CREATE TABLE signin_session (
  id TEXT PRIMARY KEY,
  key_hash TEXT NOT NULL UNIQUE,
  user_id TEXT NOT NULL,
  factors TEXT NOT NULL,
  signed_in_at BIGINT NOT NULL,
  seen_at BIGINT NOT NULL,
  ends BIGINT NOT NULL,
  tries BIGINT NOT NULL
);
CREATE INDEX signin_session_ends ON signin_session (ends);
CREATE TABLE oauth_code (
  hash TEXT PRIMARY KEY,
  client TEXT NOT NULL,
  redirect_uri TEXT NOT NULL,
  challenge TEXT NOT NULL,
  scope TEXT NOT NULL,
  nonce TEXT NOT NULL,
  user_id TEXT NOT NULL,
  session TEXT NOT NULL,
  factors TEXT NOT NULL,
  signed_in_at BIGINT NOT NULL,
  ends BIGINT NOT NULL,
  family TEXT NOT NULL,
  used BIGINT NOT NULL
);
CREATE INDEX oauth_code_ends ON oauth_code (ends);
CREATE TABLE refresh_family (
  id TEXT PRIMARY KEY,
  principal TEXT NOT NULL,
  client TEXT NOT NULL,
  session TEXT NOT NULL,
  scope TEXT NOT NULL,
  factors TEXT NOT NULL,
  signed_in_at BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  rotated_at BIGINT NOT NULL,
  slides BIGINT NOT NULL,
  ends BIGINT NOT NULL,
  current_hash TEXT NOT NULL,
  previous_hash TEXT NOT NULL,
  ended_for TEXT NOT NULL
);
CREATE INDEX refresh_family_slides ON refresh_family (slides);
CREATE TABLE device_request (
  hash TEXT PRIMARY KEY,
  user_code TEXT NOT NULL UNIQUE,
  client TEXT NOT NULL,
  scope TEXT NOT NULL,
  address TEXT NOT NULL,
  state TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  ends BIGINT NOT NULL,
  polled_at BIGINT NOT NULL,
  user_id TEXT NOT NULL,
  session TEXT NOT NULL,
  factors TEXT NOT NULL,
  signed_in_at BIGINT NOT NULL
);
CREATE INDEX device_request_ends ON device_request (ends);
CREATE TABLE client_assertion (
  client TEXT NOT NULL,
  id TEXT NOT NULL,
  ends BIGINT NOT NULL,
  PRIMARY KEY (client, id)
);
CREATE INDEX client_assertion_ends ON client_assertion (ends);
