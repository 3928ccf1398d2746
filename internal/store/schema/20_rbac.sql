-- Role assignments. The built-in definitions are code, not rows.
CREATE TABLE role_assignment (
  id TEXT PRIMARY KEY,
  scope_key TEXT NOT NULL,
  scope TEXT NOT NULL,
  role TEXT NOT NULL,
  principal TEXT NOT NULL,
  principal_type TEXT NOT NULL,
  description TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  created_by TEXT NOT NULL,
  updated_at BIGINT NOT NULL,
  updated_by TEXT NOT NULL,
  UNIQUE (scope_key, role, principal)
);
CREATE INDEX role_assignment_principal ON role_assignment (principal);
