package store

import (
	"fmt"
	"strings"
	"testing"

	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
	"sallyport/internal/store/postgrestest"
)

// TestPostgres_ProvesItselfAndAsks: over TCP the database proves itself by its
// certificate, and asks for the password; each side refuses the other.
func TestPostgres_ProvesItselfAndAsks(t *testing.T) {
	server := postgrestest.NewSecure(t)
	server.Database(t) // d1
	at := func(host, query string) string {
		return fmt.Sprintf("postgres://sallyport@%s:%d/d1?%s", host, server.Port, query)
	}
	full := at("localhost", "sslmode=verify-full&sslrootcert="+server.CA)
	s, err := Create(t.Context(), Config{URL: full, Password: server.Password, Now: clock, Writer: "w"})
	if err != nil {
		t.Fatal(err)
	}
	if used := server.SQL(t, server.URL("d1"), "SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.application_name = 'sallyport w' AND NOT s.ssl"); used != "0" {
		t.Errorf("%s connections without TLS", used)
	}
	if how := server.SQL(t, server.URL("d1"), "SELECT left(rolpassword, 13) FROM pg_authid WHERE rolname = 'sallyport'"); how != "SCRAM-SHA-256" {
		t.Errorf("the password is held as %s", how)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, url, password, code string }{
		{"verify-ca", at("127.0.0.1", "sslmode=verify-ca&sslrootcert="+server.CA), server.Password, ""},
		{"wrong password", full, "Copper-Harbor-41-Willow", "DatabaseRefuses"},
		{"no password", full, "", "DatabaseRefuses"},
		{"wrong authority", at("localhost", "sslmode=verify-full&sslrootcert="+server.OtherCA), server.Password, "DatabaseUnproven"},
		{"wrong authority, verify-ca", at("localhost", "sslmode=verify-ca&sslrootcert="+server.OtherCA), server.Password, "DatabaseUnproven"},
		{"the system's authorities", at("localhost", "sslmode=verify-full"), server.Password, "DatabaseUnproven"},
		{"another name", at("127.0.0.1", "sslmode=verify-full&sslrootcert="+server.CA), server.Password, "DatabaseUnproven"},
		{"without TLS", at("localhost", "sslmode=disable"), server.Password, "DatabaseRefuses"},
		{"another role", strings.Replace(full, "sallyport@", "somebody@", 1), server.Password, "DatabaseRefuses"},
		{"no such database", strings.Replace(full, "/d1", "/d2", 1), server.Password, "DatabaseNotFound"},
	} {
		s, err := Open(t.Context(), Config{URL: c.url, Password: c.password, Now: clock, Writer: "w"})
		if err == nil {
			err = s.Close()
		}
		if page := map[string]string{"DatabaseRefuses": "start.DatabaseRefuses", "DatabaseUnproven": "start.DatabaseUnproven", "DatabaseNotFound": "start.DatabaseNotFound"}[c.code]; page != "" && err != nil {
			handbooktest.Said(t, fault.As(err).Public(), page)
		}
		if c.code == "" && err != nil || c.code != "" && (err == nil || fault.As(err).Code != c.code) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil && (strings.Contains(err.Error(), c.password) && c.password != "" || Away(err)) {
			t.Errorf("%s: the password is told, or the server waits for what does not come: %v", c.name, err)
		}
	}
}

// A database on another computer proves itself, or nobody dials.
func TestURL_RemoteMustProveItself(t *testing.T) {
	ca := postgrestest.Authority(t)
	for query, refusal := range map[string]bool{"": false, "sslmode=verify-full": false, "sslmode=verify-ca&sslrootcert=" + ca: false, "sslmode=require&sslrootcert=" + ca: false,
		"sslmode=disable": true, "sslmode=allow": true, "sslmode=prefer": true, "sslmode=require": true, "sslmode=verify-ca": true} {
		for _, host := range []string{"db.example", "192.0.2.7", "localhost,db.example"} {
			err := CheckURL("postgres://u@" + host + "/x?" + query)
			if refusal != (err != nil) || err != nil && fault.As(err).Code != "DatabaseUnproven" {
				t.Errorf("%s %s: %v", host, query, err)
			}
		}
		for _, host := range []string{"localhost", "127.0.0.1", "[::1]"} {
			if err := CheckURL("postgres://u@" + host + "/x?" + query); err != nil {
				t.Errorf("%s %s: %v", host, query, err)
			}
		}
	}
	t.Setenv("PGSSLMODE", "disable")
	if err := CheckURL("postgres://u@db.example/x"); err == nil {
		t.Error("by the environment: taken")
	} else {
		handbooktest.Said(t, fault.As(err).Public(), "start.DatabaseUnproven.mode")
	}
}
