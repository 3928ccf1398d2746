-- Failed tries at a name from a place, either "*" for all together; the places
-- where a user signed in; whose device asked for a code.
DROP TABLE attempts;
CREATE TABLE signin_attempt (
  name TEXT NOT NULL,
  place TEXT NOT NULL,
  failures BIGINT NOT NULL,
  locked_until BIGINT NOT NULL,
  last_at BIGINT NOT NULL,
  PRIMARY KEY (name, place)
);
CREATE INDEX signin_attempt_last ON signin_attempt (last_at);
CREATE TABLE familiar_place (
  user_id TEXT NOT NULL,
  place TEXT NOT NULL,
  last_at BIGINT NOT NULL,
  PRIMARY KEY (user_id, place)
);
CREATE INDEX familiar_place_last ON familiar_place (last_at);
