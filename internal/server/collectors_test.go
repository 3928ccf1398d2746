package server

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/collector"
	"sallyport/internal/credential"
	"sallyport/internal/directory"
	"sallyport/internal/store"
)

// A dead collector holds nobody up: writes go on, the server stays ready and
// says what is wrong, and retention keeps what was not delivered. When the
// collector comes, it gets everything.
func TestCollectors_DeadOneIsToldAndRefusesNobody(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "sock")
	d := rig(t, time.Now)
	d.cfg.Collectors = Collectors{Syslog: "unix://" + socket}
	if err := d.cfg.Collectors.check(); err != nil {
		t.Fatal(err)
	}
	if err := d.openCollectors(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.deliver(ctx) }()
	defer func() { cancel(); <-ended }()
	wait4 := func(what string, f func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("not within 20 s: " + what)
			}
		}
	}
	d.happen(t, 20)
	wait4("a failure", func() bool { return strings.HasPrefix(d.collectorsReady(), "ok; the syslog collector") })
	if d.auditBehind() < 20 {
		t.Fatal(d.auditBehind())
	}
	if w := get(t, d, "/readyz"); w.Code != 200 || !strings.Contains(w.Body.String(), "ok; the syslog collector") {
		t.Fatal(w.Code, w.Body)
	}
	if err := d.checkpoint(t.Context(), writerName, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if p, err := (auditor{d}).Proof(t.Context()); err != nil || len(p.Checkpoints) != 0 {
		t.Fatal("records that no collector has may be deleted", err)
	}
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	next := int64(1)
	buffer := make([]byte, 64<<10)
	for heads, _ := (auditor{d}).Heads(t.Context()); next <= heads[0].Sequence; next++ {
		if err := l.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := l.Read(buffer)
		if err != nil {
			t.Fatal(next, err)
		}
		_, body, _ := strings.Cut(string(buffer[:n]), " - {")
		var r audit.Record
		if err := json.Unmarshal([]byte("{"+body), &r); err != nil || r.Sequence != next {
			t.Fatalf("%d instead of %d, %v", r.Sequence, next, err)
		}
	}
	wait4("delivered", func() bool { return d.auditBehind() == 0 && d.collectorsReady() == "ok" })
}

func TestCollectors_SettingsAreChecked(t *testing.T) {
	dir := t.TempDir()
	headers := filepath.Join(dir, "headers")
	if err := os.WriteFile(headers, []byte(`{"Authorization":"Bearer x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Collectors{OTLP: "https://collector.example/v1/logs", OTLPHeaders: headers}
	if err := c.check(); err != nil || c.headers.Get("Authorization") != "Bearer x" {
		t.Fatal(err)
	}
	if err := os.Chmod(headers, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []Collectors{c, {Syslog: "x"}, {OTLP: "http://collector.example/"}, {SyslogCA: headers}, {OTLPCA: filepath.Join(dir, "none")}} {
		if err := bad.check(); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

// Of servers that share a store one delivers at a time.
func TestCollectors_OneOfSeveralServersDelivers(t *testing.T) {
	d := rig(t, time.Now)
	var q collector.Queue = auditQueue{d.store}
	hold := func(holder string, until time.Time) bool {
		ok, err := q.Hold(t.Context(), "syslog", holder, until)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	future, past := time.Now().Add(time.Minute), time.Now().Add(-time.Second)
	if !hold("a", future) || hold("b", future) || !hold("a", past) || !hold("b", future) || hold("a", future) {
		t.Fatal("not one at a time")
	}
	if err := q.Delivered(t.Context(), "syslog", audit.Cursor{writerName: 2}); err != nil {
		t.Fatal(err)
	}
	if err := q.Delivered(t.Context(), "syslog", audit.Cursor{writerName: 1}); err != nil {
		t.Fatal(err)
	}
	if list, c, err := q.Next(t.Context(), "syslog", 10); err != nil || c[writerName] < 2 || len(list) > 0 && list[0].Sequence != 3 {
		t.Fatal(list, c, err)
	}
}

// No record holds a secret: passwords and client secrets that were used, right
// and wrong, join tokens, and the keys.
func TestAudit_HoldsNoSecret(t *testing.T) {
	d := rig(t, time.Now)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = d.follow.run(ctx) }()
	defer func() { stop(); <-ended }()
	var admin directory.User
	d.directory.Users(func(u directory.User) bool { admin = u; return true })
	by := audit.By{Principal: admin.ID, Type: audit.User, Name: admin.UPN, Address: "192.0.2.1", CorrelationID: correlationID, At: time.Now(), Permissions: []string{directory.AccessAsUser}}
	secrets := []string{"Quartz-Lantern-83-Meadow", "Wrong-Guess-5512-Falcon", "Copper-Violet-77-Harbor"}
	u, err := d.credentials.CreateUser(t.Context(), by, directory.NewUser{UPN: "bob@corp.example", DisplayName: "Bob", MailNickname: "bob", Enabled: true}, secrets[0], false)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range secrets[:2] {
		_, _ = d.credentials.Verify(t.Context(), by, u.ID, p)
	}
	_ = d.credentials.ChangePassword(t.Context(), by, u.UPN, secrets[0], secrets[2])
	app, err := d.people.CreateApplication(t.Context(), by, directory.NewApplication{DisplayName: "App"})
	if err != nil {
		t.Fatal(err)
	}
	_, secret, err := d.credentials.AddSecret(t.Context(), by, app.ID, "s", credential.Life{})
	if err != nil {
		t.Fatal(err)
	}
	d.enrol(t)
	m, _ := d.machineKeys.ByID(vmID)
	token, err := d.machines.MintJoinToken(t.Context(), by, "0aaaaaaa-0000-4000-8000-000000000009", m.ResourceID)
	if err != nil {
		t.Fatal(err)
	}
	secrets = append(secrets, secret, token, token[strings.LastIndexByte(token, '#')+1:])
	n := 0
	err = d.store.Read(t.Context(), func(tx *store.Tx) error {
		c := audit.Cursor{}
		for {
			list, err := tx.AuditAfter(c, 100)
			if err != nil || len(list) == 0 {
				return err
			}
			for _, r := range list {
				n++
				text, _ := json.Marshal(r)
				for _, s := range secrets {
					if strings.Contains(string(text), s) {
						return errors.New(r.Type + " holds a secret: " + s)
					}
				}
			}
		}
	})
	if err != nil || n < 8 {
		t.Fatal(n, err)
	}
}
