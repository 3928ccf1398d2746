-- Who exists. Object ids, UPNs and domains are stored in lower case. Times are
-- microseconds, 0 for none; lists are JSON.
CREATE TABLE tenant (
  one BIGINT PRIMARY KEY CHECK (one = 1),
  id TEXT NOT NULL,
  display_name TEXT NOT NULL,
  domains TEXT NOT NULL,
  created_at BIGINT NOT NULL
);
-- Counts up for ever: a POSIX id is never given twice.
CREATE TABLE posix_counter (
  one BIGINT PRIMARY KEY CHECK (one = 1),
  next BIGINT NOT NULL
);
CREATE TABLE directory_user (
  id TEXT PRIMARY KEY,
  upn TEXT NOT NULL UNIQUE,
  uid BIGINT NOT NULL UNIQUE,
  display_name TEXT NOT NULL,
  given_name TEXT NOT NULL,
  surname TEXT NOT NULL,
  mail TEXT NOT NULL,
  job_title TEXT NOT NULL,
  mail_nickname TEXT NOT NULL,
  mobile_phone TEXT NOT NULL,
  enabled BIGINT NOT NULL,
  not_before BIGINT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE TABLE directory_group (
  id TEXT PRIMARY KEY,
  display_name TEXT NOT NULL,
  description TEXT NOT NULL,
  mail_nickname TEXT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE TABLE group_member (
  group_id TEXT NOT NULL,
  member_id TEXT NOT NULL,
  member_type TEXT NOT NULL,
  PRIMARY KEY (group_id, member_id)
);
CREATE INDEX group_member_member ON group_member (member_id);
CREATE TABLE application (
  id TEXT PRIMARY KEY,
  app_id TEXT NOT NULL UNIQUE,
  display_name TEXT NOT NULL,
  public BIGINT NOT NULL,
  redirect_uris TEXT NOT NULL,
  built_in BIGINT NOT NULL,
  owners TEXT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE TABLE service_principal (
  id TEXT PRIMARY KEY,
  app_id TEXT NOT NULL UNIQUE,
  uid BIGINT NOT NULL UNIQUE,
  display_name TEXT NOT NULL,
  type TEXT NOT NULL,
  names TEXT NOT NULL,
  resource_id TEXT NOT NULL,
  enabled BIGINT NOT NULL,
  not_before BIGINT NOT NULL,
  created_at BIGINT NOT NULL
);
