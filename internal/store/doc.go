// Package store is the only SQL. It owns the database, a SQLite file of one
// process or a PostgreSQL database of several: one writer per server with group
// commit, consistent reads, the change feed, the audit chain's storage, and one
// file per domain that satisfies the transaction interface which that domain
// declares.
//
// A write is state + feed rows + audit events in one transaction, or nothing,
// and it is durable (fsync) before Write returns. Write may run its function
// twice, so the function has no effect outside its transaction.
//
// It refuses: decisions. No method here checks a right or a policy. SQL is
// portable between SQLite and PostgreSQL: $1 placeholders, ON CONFLICT,
// RETURNING, text ids and JSON, integer microseconds, no now().
package store
