-- Conditional Access policies: all of one is its JSON, which only the program reads.
CREATE TABLE conditional_policy (
  id TEXT PRIMARY KEY,
  policy TEXT NOT NULL
);
