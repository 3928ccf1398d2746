package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"golang.org/x/sys/unix"

	"sallyport/internal/fault"
)

const (
	// idleLimit is after how long PostgreSQL ends a transaction whose server has
	// frozen, so that the others can write again.
	idleLimit = 5 * time.Second
	// lockLimit is how long a write waits for the other servers; longer than
	// idleLimit.
	lockLimit = 10 * time.Second
	// dialLimit bounds one attempt to connect.
	dialLimit = 5 * time.Second
	// deafLimit is after how long a connection that nobody answers counts as lost.
	deafLimit = 5 * time.Second
)

// postgres is a database that several processes may write to.
//
// Writing transactions run one after another, across all servers: the first
// statement of each locks the feed's position, and under READ COMMITTED every
// statement after it sees what was committed before the lock was had. That is a
// serial execution, what SQLite's BEGIN IMMEDIATE gives one process. SERIALIZABLE
// would buy nothing, because every write moves the position, and would fail each
// second one of two busy servers.
func postgres() dialect {
	return dialect{
		shared: true, readers: 8,
		begin: "BEGIN ISOLATION LEVEL READ COMMITTED", read: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", readOnly: "SET default_transaction_read_only = on",
		serialize: "SELECT position FROM feed_position WHERE id = 1 FOR UPDATE",
		// Not from information_schema, whose views take twenty times as long for this.
		tables: `SELECT c.relname::text, a.attname::text, (SELECT count(*) FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND a.attnum = ANY (i.indkey))
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) AND c.relkind = 'r' ORDER BY c.relname::text COLLATE "C", a.attnum`,
		place: placePostgres, connect: connectPostgres,
		reserve: func(Config) error { return nil }, discard: func(Config) {},
		own:   func(Config, bool) (io.Closer, error) { return nil, nil },
		check: checkPostgres,
		script: func(ctx context.Context, c *conn, text string) error {
			_, err := c.raw.ExecContext(ctx, portable(text), pgx.QueryExecModeSimpleProtocol)
			return err
		},
		commit: commitPostgres, again: conflicted, broken: brokenPostgres,
	}
}

// portable turns a schema file into PostgreSQL's words. Text is compared byte
// by byte, as SQLite does it: what lies below a key is a range of keys.
func portable(ddl string) string {
	ddl = regexp.MustCompile(`\bTEXT\b`).ReplaceAllString(ddl, `TEXT COLLATE "C"`)
	return regexp.MustCompile(`\bBLOB\b`).ReplaceAllString(ddl, `BYTEA`)
}

// placePostgres names host and database; a URL may hold a password.
func placePostgres(cfg Config) string {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return "the PostgreSQL database"
	}
	host := u.Host
	if h := u.Query().Get("host"); h != "" {
		host = h
	}
	return fmt.Sprintf("the PostgreSQL database %q at %q", strings.TrimPrefix(u.Path, "/"), host)
}

// CheckURL says what is wrong with the URL of a database, without its password.
func CheckURL(text string) error {
	_, err := parsePostgres(Config{URL: text})
	return err
}

// parsePostgres reads the URL as libpq does (its manual, section 34.1.1.2), with
// one difference: a database on another computer must prove itself, also without
// sslmode.
func parsePostgres(cfg Config) (*pgx.ConnConfig, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, fault.New(fault.Invalid, "InvalidDatabase", "the database is not given as a postgres:// URL").WithTarget("database").
			WithRemedy("For example: --database postgres://sallyport@db.corp.example/sallyport")
	}
	c, err := pgx.ParseConfig(cfg.URL)
	if err == nil && !u.Query().Has("sslmode") && os.Getenv("PGSSLMODE") == "" && remote(c) {
		q := u.Query()
		q.Set("sslmode", "verify-full")
		u.RawQuery = q.Encode()
		c, err = pgx.ParseConfig(u.String())
	}
	if err != nil {
		// The parser's error blanks the password out.
		return nil, fault.New(fault.Invalid, "InvalidDatabase", "the database's URL cannot be used: %v", err).WithTarget("database")
	}
	return c, proven(c)
}

// remote reports whether any of the hosts is another computer.
func remote(c *pgx.ConnConfig) bool {
	for _, f := range c.Fallbacks {
		if far(f.Host) {
			return true
		}
	}
	return far(c.Host)
}

func far(host string) bool {
	ip := net.ParseIP(host)
	return !strings.HasPrefix(host, "/") && !strings.HasPrefix(host, "@") && host != "localhost" && (ip == nil || !ip.IsLoopback())
}

// proven refuses settings under which a database on another computer need not
// prove itself: whoever stands in between would be the directory, the roles and
// the audit log of this deployment.
func proven(c *pgx.ConnConfig) error {
	ways := []*pgconn.FallbackConfig{{Host: c.Host, TLSConfig: c.TLSConfig}}
	for _, f := range append(ways, c.Fallbacks...) {
		// verify-ca checks the chain in VerifyPeerCertificate and leaves out the name,
		// so that an authority which certifies anybody is no proof.
		checked := f.TLSConfig != nil && (!f.TLSConfig.InsecureSkipVerify || f.TLSConfig.VerifyPeerCertificate != nil && f.TLSConfig.RootCAs != nil)
		if far(f.Host) && !checked {
			return fault.New(fault.Invalid, "DatabaseUnproven", "with this sslmode the database at %s need not prove itself", f.Host).WithTarget("database").
				WithRemedy("Leave sslmode out, which is verify-full, and name the authority of the database's certificate: sslrootcert=FILE.")
		}
	}
	return nil
}

func connectPostgres(cfg Config) (*sql.DB, error) {
	c, err := parsePostgres(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Password != "" {
		c.Password = cfg.Password
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = dialLimit
	}
	if c.ValidateConnect == nil {
		c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite // never a standby
	}
	c.DialFunc = (&net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 2 * time.Second, Interval: time.Second, Count: 3}, Control: noticeSilence}).DialContext
	ms := func(d time.Duration) string { return fmt.Sprint(d.Milliseconds()) }
	for name, value := range map[string]string{"application_name": "sallyport " + cfg.Writer, "synchronous_commit": "on",
		"idle_in_transaction_session_timeout": ms(idleLimit), "lock_timeout": ms(lockLimit)} {
		c.RuntimeParams[name] = value
	}
	return stdlib.OpenDB(*c), nil
}

// noticeSilence makes the kernel give up a connection whose other end no longer
// takes what is sent (tcp(7), TCP_USER_TIMEOUT).
func noticeSilence(network, _ string, raw syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deafLimit.Milliseconds())) //nolint:gosec // a descriptor fits
	})
	return errors.Join(err, failed)
}

// checkPostgres refuses a database that would lose what was answered, or that
// cannot hold every name.
func checkPostgres(ctx context.Context, c *conn) error {
	for _, want := range []struct{ setting, value, why string }{
		{"server_encoding", "UTF8", "it cannot hold every name"},
		{"fsync", "on", "what was answered could be lost"},
	} {
		var got string
		if err := c.raw.QueryRowContext(ctx, `SELECT current_setting($1)`, want.setting).Scan(&got); err != nil {
			return err
		}
		if got != want.value {
			return fault.New(fault.Conflict, "DatabaseSetting", "the database has %s=%s: %s", want.setting, got, want.why).WithRemedy("It must be %s=%s.", want.setting, want.value)
		}
	}
	return nil
}

// native runs f on the connection as pgx knows it.
func native(c *conn, f func(*pgx.Conn) error) error {
	return c.raw.Raw(func(driver any) error {
		p, ok := driver.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("a connection of type %T", driver)
		}
		return f(p.Conn())
	})
}

// commitPostgres commits. PostgreSQL answers COMMIT of a failed transaction
// with ROLLBACK and no error.
func commitPostgres(ctx context.Context, c *conn) error {
	return native(c, func(p *pgx.Conn) error {
		tag, err := p.Exec(ctx, "COMMIT")
		if err == nil && tag.String() != "COMMIT" {
			err = fmt.Errorf("commit was answered with %s", tag)
		}
		return err
	})
}

func brokenPostgres(c *conn) bool {
	closed := false
	err := native(c, func(p *pgx.Conn) error { closed = p.IsClosed(); return nil })
	return err != nil || closed
}

// Away reports whether Open failed because a shared database could not be
// reached, or takes nobody yet, so that it may succeed later. One that answers
// and refuses (its password, its name) does not change its mind.
func Away(err error) bool {
	var f *fault.Error
	if !errors.As(err, &f) || f.Code != "StoreNotOpened" {
		return false
	}
	var p *pgconn.PgError
	if errors.As(err, &p) {
		return p.Code == "57P03" || p.Code == "57P01" || p.Code == "53300"
	}
	var c *pgconn.ConnectError
	return errors.As(err, &c)
}

// conflicted: 40001 and 40P01 say that the transaction met another one, 55P03
// that a lock was not had in time (PostgreSQL's manual, appendix A).
func conflicted(err error) bool {
	var p *pgconn.PgError
	return errors.As(err, &p) && (p.Code == "40001" || p.Code == "40P01" || p.Code == "55P03")
}
