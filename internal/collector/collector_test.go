package collector

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"sallyport/internal/audit"
)

func records(n int) []audit.Record {
	var list []audit.Record
	var last audit.Record
	for i := range n {
		by := audit.By{Principal: "p", Type: audit.User, Name: "alice@corp.example", Address: "192.0.2.7", CorrelationID: fmt.Sprint("c", i), At: time.Unix(1_800_000_000, 123456000).UTC()}
		e := audit.Event{Type: "group.addMember", Outcome: []audit.Outcome{audit.Success, audit.Denied, audit.Failure}[i%3], Target: "g\n\"é", Detail: map[string]string{"member": "m"}}
		last = audit.NewRecord(by, e).Seal("server-1", int64(i+1), last.Hash)
		list = append(list, last)
	}
	return list
}

// whole checks that text is the JSON of list[i], hash included.
func whole(t *testing.T, text []byte, want audit.Record) {
	t.Helper()
	var got audit.Record
	if err := json.Unmarshal(text, &got); err != nil || got.Sequence != want.Sequence || !bytes.Equal(got.Hash, want.Hash) || got.Verify(audit.Record{Writer: "server-1", Sequence: want.Sequence - 1, Hash: previous(want)}) != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

func previous(r audit.Record) []byte {
	if r.Sequence == 1 {
		return nil
	}
	return records(int(r.Sequence - 1))[r.Sequence-2].Hash
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within 20 s: " + what)
		}
	}
}

// A real rsyslogd takes every record over each transport that it has, as it was
// sent.
func TestSyslog_RealRsyslog(t *testing.T) {
	program, err := exec.LookPath("rsyslogd")
	if err != nil {
		program = "/usr/sbin/rsyslogd"
	}
	dir := t.TempDir()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	_ = free.Close()
	out := filepath.Join(dir, "out")
	config := fmt.Sprintf(`global(workDirectory=%q maxMessageSize="64k" parser.escapeControlCharactersOnReceive="off")
module(load="imtcp") module(load="imudp") module(load="imuxsock" SysSock.Use="off")
template(name="all" type="string" string="%%pri%% %%app-name%% %%procid%% %%msgid%% %%timestamp:::date-rfc3339%% %%msg:::drop-last-lf%%\n")
ruleset(name="audit") { action(type="omfile" file=%q template="all") }
input(type="imtcp" port="%d" address="127.0.0.1" ruleset="audit")
input(type="imudp" port="%d" address="127.0.0.1" ruleset="audit")
input(type="imuxsock" Socket=%q UseSysTimeStamp="off" ParseTrusted="off" Annotate="off" UseSpecialParser="off" ruleset="audit" RateLimit.Interval="0")
`, dir, out, port, port, filepath.Join(dir, "sock"))
	path := filepath.Join(dir, "rsyslog.conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	said, err := os.Create(filepath.Join(dir, "said"))
	if err != nil {
		t.Fatal(err)
	}
	daemon := exec.Command(program, "-n", "-f", path, "-i", filepath.Join(dir, "pid"))
	daemon.Stdout, daemon.Stderr = said, said
	if err := daemon.Start(); err != nil {
		t.Fatalf("this test needs rsyslog (packaging/deps.sh installs it): %v", err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
		_ = said.Close()
		if b, _ := os.ReadFile(said.Name()); t.Failed() {
			t.Logf("rsyslogd: %s", b)
		}
	})
	list := records(30)
	seen := 0
	for _, address := range []string{fmt.Sprintf("tcp://127.0.0.1:%d", port), fmt.Sprintf("udp://127.0.0.1:%d", port), "unix://" + filepath.Join(dir, "sock")} {
		s, err := NewSyslog(address, "host.example", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		until(t, "rsyslogd listens on "+address, func() bool {
			return s.Send(t.Context(), list) == nil
		})
		seen += len(list)
		var lines []string
		until(t, "records by "+address, func() bool {
			b, _ := os.ReadFile(out)
			lines = strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
			return len(b) > 0 && len(lines) >= seen
		})
		for i, l := range lines[seen-len(list):] {
			want := []string{"110", "108", "107"}[i%3] + " sallyport server-1 group.addMember 2027-01-15T08:00:00.123456"
			if strings.HasPrefix(address, "unix") { // its input module takes its own time
				want = strings.TrimSuffix(want, "2027-01-15T08:00:00.123456")
			}
			_, body, ok := strings.Cut(l, "{")
			if !ok || !strings.HasPrefix(l, want) {
				t.Fatalf("%s %d: %s", address, i, l)
			}
			whole(t, []byte("{"+body), list[i])
		}
	}
}

// Octet counting over TLS, read by the grammar of RFC 5425 and RFC 5424; a
// stranger's certificate gets nothing.
func TestSyslog_TLS(t *testing.T) {
	web := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	defer web.Close()
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: web.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	got := make(chan []byte, 100)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			in := bufio.NewReader(conn)
			for {
				size, err := in.ReadString(' ')
				if err != nil {
					break
				}
				n, err := strconv.Atoi(strings.TrimSuffix(size, " "))
				m := make([]byte, n)
				if _, rerr := io.ReadFull(in, m); err != nil || rerr != nil {
					break
				}
				got <- m
			}
		}
	}()
	list := records(7)
	s, err := NewSyslog("tls://"+l.Addr().String(), "", roots, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	form := regexp.MustCompile(`^<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (\S{1,255}) (\S{1,48}) (\S{1,128}) (\S{1,32}) - (\{.*)$`)
	for i := range list {
		m := form.FindSubmatch(<-got)
		if m == nil || string(m[3]) != "-" {
			t.Fatalf("%d is no RFC 5424 message", i)
		}
		whole(t, m[7], list[i])
	}
	stranger, err := NewSyslog("tls://"+l.Addr().String(), "", x509.NewCertPool(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.Send(t.Context(), list); err == nil || len(got) != 0 {
		t.Fatal(err)
	}
}

// A collector that closes the connection has not taken the batch.
func TestSyslog_ClosedStreamIsAFailure(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	s, err := NewSyslog("tcp://"+l.Addr().String(), "h", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), records(3)); err == nil || s.conn != nil {
		t.Fatal("a closed connection counted as taken")
	}
}

func TestAddresses_Refused(t *testing.T) {
	for _, bad := range []string{"", "x", "unix://", "unix://host/x", "tcp://host", "tcp://:514", "tcp://host:0", "tcp://host:99999", "http://host:514", "tcp://u@host:514", "udp://host:514/x"} {
		if _, err := NewSyslog(bad, "h", nil, nil); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	for _, bad := range []string{"", "http://collector/v1/logs", "https://", "https://u:p@collector/", "file:///x"} {
		if _, err := NewOTLP(bad, nil, nil, nil); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// The messages of opentelemetry-proto's logs.proto, common.proto and
// resource.proto (v1.3) in their JSON mapping: names in lower camel case, nothing
// else, 64-bit integers as texts.
type strictRequest struct {
	ResourceLogs []struct {
		Resource struct {
			Attributes []strictPair `json:"attributes"`
		} `json:"resource"`
		ScopeLogs []struct {
			Scope struct {
				Name string `json:"name"`
			} `json:"scope"`
			LogRecords []struct {
				TimeUnixNano         string       `json:"timeUnixNano"`
				ObservedTimeUnixNano string       `json:"observedTimeUnixNano"`
				SeverityNumber       int          `json:"severityNumber"`
				SeverityText         string       `json:"severityText"`
				Body                 strictValue  `json:"body"`
				Attributes           []strictPair `json:"attributes"`
				EventName            string       `json:"eventName"`
			} `json:"logRecords"`
		} `json:"scopeLogs"`
	} `json:"resourceLogs"`
}

type strictPair struct {
	Key   string      `json:"key"`
	Value strictValue `json:"value"`
}

type strictValue struct {
	StringValue *string `json:"stringValue"`
	IntValue    *string `json:"intValue"`
}

// The collector understands strictly, wants its header, and refuses one record.
func TestOTLP_StrictCollector(t *testing.T) {
	list := records(9)
	var taken [][]byte
	posts := 0
	web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		posts++
		if r.Method != "POST" || r.URL.Path != "/v1/logs" || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("X-Key") != "k" {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		d := json.NewDecoder(r.Body)
		d.DisallowUnknownFields()
		var q strictRequest
		if err := d.Decode(&q); err != nil {
			t.Error(err)
		}
		var batch [][]byte
		for _, rl := range q.ResourceLogs {
			for _, l := range rl.ScopeLogs[0].LogRecords {
				at, err := strconv.ParseUint(l.TimeUnixNano, 10, 64)
				if err != nil || at != 1_800_000_000_123_456_000 || l.SeverityNumber < 1 || l.SeverityNumber > 24 || l.Body.StringValue == nil || l.EventName != "group.addMember" {
					t.Errorf("%+v", l)
				}
				keys := map[string]bool{}
				for _, a := range l.Attributes {
					if keys[a.Key] || (a.Value.StringValue == nil) == (a.Value.IntValue == nil) {
						t.Errorf("attribute %s is there twice, or has not one value", a.Key)
					}
					keys[a.Key] = true
				}
				batch = append(batch, []byte(*l.Body.StringValue))
			}
		}
		for _, b := range batch {
			if bytes.Contains(b, []byte(`"sequence":4,`)) {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
		}
		taken = append(taken, batch...)
		_, _ = io.WriteString(w, `{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"full"}}`)
	}))
	defer web.Close()
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	rejected := map[string]int64{}
	o, err := NewOTLP(web.URL+"/v1/logs", http.Header{"X-Key": {"k"}}, roots, func(n int64, why string) { rejected[why] += n })
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Send(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	if len(taken) != 8 || rejected["record server-1/4: the collector answered with status 400"] != 1 || rejected["full"] == 0 || posts > 8 {
		t.Fatal(len(taken), rejected, posts)
	}
	i := 0
	for _, r := range list {
		if r.Sequence != 4 {
			whole(t, taken[i], r)
			i++
		}
	}
	web.Config.Handler = http.RedirectHandler("https://elsewhere.example/", http.StatusTemporaryRedirect)
	if err := o.Send(t.Context(), list); err == nil {
		t.Fatal("a redirect was followed or taken for success")
	}
}

// queue is a store in memory.
type queue struct {
	mu     sync.Mutex
	list   []audit.Record
	cursor int64
	holder string
}

func (q *queue) Hold(_ context.Context, _, holder string, _ time.Time) (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.holder == "" {
		q.holder = holder
	}
	return q.holder == holder, nil
}

func (q *queue) Next(_ context.Context, _ string, limit int) ([]audit.Record, audit.Cursor, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	page := q.list[q.cursor:min(int64(len(q.list)), q.cursor+int64(min(limit, 4)))]
	return page, audit.Cursor{"server-1": q.cursor + int64(len(page))}, nil
}

func (q *queue) Delivered(_ context.Context, _ string, c audit.Cursor) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cursor = c["server-1"]
	return nil
}

// flaky takes records, and fails before and after as it is told.
type flaky struct {
	fail func(attempt int) error
	n    int
	got  []int64
	done func()
}

func (f *flaky) Send(_ context.Context, list []audit.Record) error {
	f.n++
	if err := f.fail(f.n); err != nil {
		return err
	}
	for _, r := range list {
		f.got = append(f.got, r.Sequence)
	}
	if f.got[len(f.got)-1] == 10 {
		f.done()
	}
	return nil
}

// Every record arrives, in order, whatever fails in between; waits grow; one of
// two processes delivers.
func TestDeliverer_AtLeastOnceAndBackOff(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	q := &queue{list: records(10)}
	out := &flaky{done: cancel, fail: func(n int) error {
		if n >= 2 && n <= 9 {
			return errors.New("away")
		}
		return nil
	}}
	var waits []time.Duration
	var failures, delivered int
	now := time.Unix(1000, 0)
	cfg := Config{Name: "x", Holder: "a", Output: out, Queue: q, Now: func() time.Time { return now }, Wait: func(_ context.Context, d time.Duration) { now = now.Add(d); waits = append(waits, d) },
		Count: func(n int, err error) {
			if delivered += n; err != nil {
				failures++
			}
		}}
	d := New(cfg)
	d.Run(ctx)
	if want := "[1 2 3 4 5 6 7 8 9 10]"; fmt.Sprint(out.got) != want || delivered < 8 || failures != 8 {
		t.Fatal(out.got, delivered, failures)
	}
	if fmt.Sprint(waits[:8]) != "[1s 2s 4s 8s 16s 32s 1m0s 1m0s]" {
		t.Fatal(waits)
	}
	if _, err := d.Failing(); err != nil {
		t.Fatal("still failing after a success")
	}
	second, stop := context.WithCancel(t.Context())
	cfg.Holder, cfg.Output = "b", &flaky{fail: func(int) error { t.Error("two deliver"); return nil }}
	cfg.Wait = func(context.Context, time.Duration) { stop() }
	New(cfg).Run(second)
}

// A record that no datagram carries holds up none of those behind it: it is cut
// and counted.
func TestSyslog_LongRecordHoldsNobodyUp(t *testing.T) {
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	var why []string
	s, err := NewSyslog("udp://"+l.LocalAddr().String(), "h", nil, func(_ int64, text string) { why = append(why, text) })
	if err != nil {
		t.Fatal(err)
	}
	list := records(3)
	list[1].Detail = map[string]string{"facts": strings.Repeat("é", 40<<10)}
	if err := s.Send(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 70<<10)
	for i := range list {
		_ = l.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, _, err := l.ReadFrom(buffer)
		if err != nil {
			t.Fatal(err)
		}
		_, body, _ := strings.Cut(string(buffer[:n]), " - ")
		if whole := json.Valid([]byte(body)); !utf8.ValidString(body) || whole == (i == 1) {
			t.Errorf("message %d of %d bytes: whole %v", i, n, whole)
		}
	}
	if len(why) != 1 || !strings.Contains(why[0], "/2:") {
		t.Error(why)
	}
}
