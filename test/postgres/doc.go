// Package postgres runs the suites of everything that uses a store again, on a
// real PostgreSQL (build tag e2e).
package postgres
