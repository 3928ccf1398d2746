package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/route"
	"sallyport/internal/scope"
	"sallyport/internal/sshca"
	"sallyport/internal/store"
)

func TestAbuse_Proxies(t *testing.T) {
	p, err := Abuse{TrustedProxies: []string{"10.0.0.0/24", " 192.0.2.7", "2001:db8::/32"}, ProxyHeader: "forwarded"}.proxies()
	if err != nil || len(p.Networks) != 3 || p.Networks[1].String() != "192.0.2.7/32" || p.Header != "Forwarded" {
		t.Fatalf("%+v %v", p, err)
	}
	if p, err := (Abuse{}).proxies(); err != nil || len(p.Networks) != 0 || p.Header != "X-Forwarded-For" {
		t.Fatalf("%+v %v", p, err)
	}
	for _, bad := range []Abuse{{TrustedProxies: []string{"10.0.0.1/24"}}, {TrustedProxies: []string{"proxy"}}, {TrustedProxies: []string{"0.0.0.0/0"}}, {TrustedProxies: []string{"::/0"}},
		{TrustedProxies: []string{""}}, {TrustedProxies: []string{"fe80::1%eth0"}}, {ProxyHeader: "X-Real-IP"}} {
		if _, err := bad.proxies(); !fault.Is(err, fault.Invalid) || fault.As(err).Remedy == "" {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestSettings_Lists(t *testing.T) {
	flags := settingFlags()
	if faults := parseSettings("f", []byte(`{"trustedProxies":["10.0.0.0/8","192.0.2.7"],"connectionsPerAddress":7}`), flags); len(faults) > 0 {
		t.Fatal(faults)
	}
	if got := flags.Lookup("trusted-proxy").Value.String(); got != "[10.0.0.0/8,192.0.2.7]" {
		t.Error(got)
	}
	for _, text := range []string{`{"trustedProxies":"10.0.0.0/8"}`, `{"trustedProxies":[7]}`, `{"trustedProxies":["a,b"]}`, `{"connectionsPerAddress":-1}`, `{"connectionsPerAddress":"7"}`, `{"connectionsPerAddress":1.5}`} {
		if faults := parseSettings("f", []byte(text), settingFlags()); len(faults) == 0 {
			t.Errorf("%s was accepted", text)
		}
	}
}

// listening serves a rig and returns its address.
func listening(t *testing.T, d *deployment) string {
	t.Helper()
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.cfg.Listen = port.Addr().String()
	if err := port.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ready, ended := make(chan struct{}), make(chan error, 1)
	d.cfg.Notify = func(state string) error {
		if state == "READY=1" {
			close(ready)
		}
		return nil
	}
	go func() { ended <- d.serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	<-ready
	return d.cfg.Listen
}

// frame is one HTTP/2 frame (RFC 9113 section 4.1).
func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	b := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags}
	return append(binary.BigEndian.AppendUint32(b, stream), payload...)
}

// CVE-2023-44487: while streams are opened and reset by the thousand, the server
// goes on answering others; a connection's streams are bounded.
func TestServe_CVE_2023_44487_RapidReset(t *testing.T) {
	where := listening(t, rig(t, time.Now))
	c, err := tls.Dial("tcp", where, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}) //nolint:gosec // the test's own server
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	// :method GET, :scheme https, :path /, :authority h (RFC 7541 appendix A).
	headers := []byte{0x82, 0x87, 0x84, 0x41, 1, 'h'}
	var flood bytes.Buffer
	flood.WriteString("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	flood.Write(frame(4, 0, 0, nil))
	for i := range uint32(20_000) {
		flood.Write(frame(1, 0x5, 2*i+1, headers))
		flood.Write(frame(3, 0, 2*i+1, []byte{0, 0, 0, 8}))
	}
	go func() { _, _ = c.Write(flood.Bytes()) }() // the server stops reading
	streams := uint32(0)
	for streams == 0 {
		head := make([]byte, 9)
		if _, err := io.ReadFull(c, head); err != nil {
			t.Fatal("no settings: ", err)
		}
		payload := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
		if _, err := io.ReadFull(c, payload); err != nil {
			t.Fatal(err)
		}
		for ; head[3] == 4 && len(payload) >= 6; payload = payload[6:] {
			if binary.BigEndian.Uint16(payload) == 3 { // SETTINGS_MAX_CONCURRENT_STREAMS
				streams = binary.BigEndian.Uint32(payload[2:])
			}
		}
	}
	if streams != 100 {
		t.Errorf("a connection may have %d streams", streams)
	}
	go func() { _, _ = io.Copy(io.Discard, c) }()
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // as above
	res, err := client.Get("https://" + where + "/healthz")
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(res, err)
	}
	_ = res.Body.Close()
}

// The front believes the configured proxies and nobody else, and the address
// that they name is the one that is limited.
func TestDoors_TrustedProxy(t *testing.T) {
	d := rig(t, time.Now)
	d.cfg.Abuse.TrustedProxies = []string{"10.0.0.0/8"}
	var log bytes.Buffer
	d.cfg.Log = textLog(&log)
	doors, err := d.doors()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{{"10.0.0.1:1", "address=203.0.113.7"}, {"192.0.2.1:1", "address=192.0.2.1"}} {
		log.Reset()
		r, err := http.NewRequestWithContext(t.Context(), "GET", "/healthz", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.RemoteAddr = c[0]
		r.Header.Set("X-Forwarded-For", "6.6.6.6, 203.0.113.7")
		doors.ServeHTTP(discard{http.Header{}}, r)
		if !strings.Contains(log.String(), c[1]) {
			t.Errorf("%s: %s", c[0], log.String())
		}
	}
}

// discard takes an answer.
type discard struct{ header http.Header }

func (d discard) Header() http.Header       { return d.header }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}

func textLog(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// Refusals of people who are signed in are summed up too: who asks for the same
// a hundred times leaves a few records and, a minute later, a number.
func TestRepeats_RefusalsOfCallers(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	c := newCA(t) // follows its own changes
	d := c.deployment
	by := audit.By{Principal: "0aaaaaaa-0000-4000-8000-0000000000aa", Type: audit.User, Address: "192.0.2.1", CorrelationID: zeroID, At: now}
	for range 100 {
		if err := d.engine.Authorize(t.Context(), by, "Microsoft.Compute/virtualMachines/write", scope.Root()); !fault.Is(err, fault.Forbidden) {
			t.Fatal(err)
		}
		if err := d.people.RevokeSessions(t.Context(), by, d.admin(t)); !fault.Is(err, fault.Forbidden) {
			t.Fatal(err)
		}
	}
	if err := d.repeats.Flush(t.Context(), now, true); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"resource.authorize", "user.revokeSessions"} {
		var told []audit.Record
		if err := d.store.Read(t.Context(), func(tx *store.Tx) (err error) {
			told, err = tx.AuditRecords(store.AuditFilter{Type: kind})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if len(told) != 6 || told[0].Detail["repeats"] != "95" {
			t.Errorf("%s: %d records, the last %v", kind, len(told), told[0].Detail)
		}
	}
}

// One machine's reports leave the writer to others: each may replace 1,024 rows.
func TestLimits_ReportsOfOneMachine(t *testing.T) {
	for _, row := range route.All() {
		if row.ID != "machine.report" {
			continue
		}
		if l := limits()[row.Limiter]; l.PrincipalPerSecond <= 0 || l.PrincipalPerSecond > 10 || l.PrincipalBurst > 100 {
			t.Errorf("%s: %+v", row.Limiter, l)
		}
		return
	}
	t.Error("there is no such row")
}

// Who downloads packages slowly, which anybody may, takes no room from sign-in
// pages, keys and probes.
func TestLimits_DownloadsHaveRoomOfTheirOwn(t *testing.T) {
	class := map[string]string{}
	for _, row := range route.All() {
		class[row.ID] = row.Limiter
	}
	downloads := class["operations.repository"]
	if limits()[downloads].InFlight <= 0 {
		t.Errorf("%q has no bound", downloads)
	}
	for id, of := range class {
		if of == downloads && id != "operations.repository" {
			t.Errorf("%s waits for downloads", id)
		}
	}
}

// A revoked certificate reaches what machines are told, and leaves it a day after
// its end.
func TestRevocations_ReachTheMachines(t *testing.T) {
	c := newCA(t)
	r := sshca.Revocation{Serial: "7", Principal: "p", Reason: "r", At: c.now.read(), Ends: c.now.read().Add(time.Hour)}
	c.must(c.follow.Write(t.Context(), func(tx *store.Tx) error { return tx.PutRevocation(r) }))
	if got := c.revokedSerials(); len(got) != 1 || got[0] != "7" {
		t.Errorf("%v", got)
	}
	fresh := sshca.NewRevocations() // of another replica, or after a start
	c.must(c.store.Read(t.Context(), func(tx *store.Tx) error { return fresh.Load(tx) }))
	if got := fresh.Serials(c.now.read()); len(got) != 1 {
		t.Errorf("loaded %v", got)
	}
	c.now.add(3 * time.Hour)
	if got := c.revokedSerials(); len(got) != 1 {
		t.Errorf("what the certificate opened on a machine that was away goes on: %v", got)
	}
	c.now.add(24 * time.Hour)
	c.must(c.sweepAbuse(t.Context()))
	c.must(c.store.Read(t.Context(), func(tx *store.Tx) error {
		if _, found, err := tx.RevocationBySerial("7"); found || err != nil {
			t.Error("it is kept", err)
		}
		return nil
	}))
	if got := c.revokedSerials(); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

// admin is the first administrator's object id.
func (d *deployment) admin(t *testing.T) string {
	t.Helper()
	id, ok := d.person("admin@corp.example")
	if !ok {
		t.Fatal("no administrator")
	}
	return id
}
