-- Groups that directory roles can be assigned to (Graph's isAssignableToRole).
ALTER TABLE directory_group ADD COLUMN role_assignable BIGINT NOT NULL DEFAULT 0;
