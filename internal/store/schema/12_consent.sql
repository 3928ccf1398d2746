-- What applications were given. principal is empty for everybody; scopes are a
-- JSON list.
CREATE TABLE permission_grant (
  id TEXT PRIMARY KEY,
  client TEXT NOT NULL,
  resource TEXT NOT NULL,
  principal TEXT NOT NULL,
  scopes TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  UNIQUE (client, resource, principal)
);
CREATE TABLE app_role_assignment (
  id TEXT PRIMARY KEY,
  principal TEXT NOT NULL,
  resource TEXT NOT NULL,
  role TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  UNIQUE (principal, resource, role)
);
-- Switches of the directory, as JSON.
CREATE TABLE directory_policy (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
);
