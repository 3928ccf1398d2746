// Package postgrestest gives tests a real PostgreSQL server of their own: a
// temporary folder, a unix socket in it, an unprivileged uid, gone with the
// test. Only tests import it.
//
// It refuses to skip: a computer without PostgreSQL fails the test.
package postgrestest
