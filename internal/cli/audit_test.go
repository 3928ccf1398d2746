package cli

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/audit/proof"
	"sallyport/internal/machine/protocol"
)

const followURL = "GET " + auditURL + "/follow"

func recordsOf(n int) []audit.Record {
	var list []audit.Record
	var last audit.Record
	for i := range n {
		by := audit.By{Principal: aliceID, Type: audit.User, Name: alice, CorrelationID: certID, At: clock().Add(time.Duration(i) * time.Second)}
		last = audit.NewRecord(by, audit.Event{Type: "group.create", Outcome: audit.Success, Target: fmt.Sprint("g", i+1)}).Seal("server-1", int64(i+1), last.Hash)
		list = append(list, last)
	}
	return list
}

// pageOf is an answer of the server with records first..last.
func pageOf(t *testing.T, records []audit.Record, position int64) string {
	t.Helper()
	b, err := json.Marshal(map[string]any{"value": records, "skipToken": audit.Token(audit.Cursor{"server-1": position}), "caughtUp": len(records) == 0})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A list is read to its end; with --max-items it ends earlier and says how to go
// on.
func TestAuditList_PagesAndTokens(t *testing.T) {
	f, p := signedIn(t)
	first := `{"value":[{"type":"a"},{"type":"b"}],"nextLink":"` + f.web.URL + auditURL + `?$skipToken=TOKEN&$top=1000"}`
	f.queue = map[string][]string{"GET " + auditURL: {first, `{"value":[{"type":"c"}]}`}}
	if out := p.must("audit", "list", "--query", "[].type", "-o", "tsv"); strings.Join(strings.Fields(out), "") != "abc" {
		t.Errorf("%q", out)
	}
	f.queue["GET "+auditURL] = []string{first}
	r := p.run("audit", "list", "--max-items", "2")
	if r.code != 0 || !strings.Contains(r.err, "--next-token TOKEN") {
		t.Errorf("%+v", r)
	}
	f.log = nil
	f.routes["GET "+auditURL] = `{"value":[]}`
	p.must("audit", "list", "--next-token", "TOKEN")
	if !strings.Contains(f.log[0], "%24skipToken=TOKEN") {
		t.Error(f.log)
	}
	p.fails(2, []string{"--max-items"}, "audit", "list", "--max-items", "x")
	p.fails(2, []string{"--start-time"}, "audit", "list", "--start-time", "noon")
}

// Records hold ids: a name is looked up, also of somebody who was deleted.
func TestAuditList_ByUserName(t *testing.T) {
	f, p := signedIn(t)
	f.routes["GET /v1.0/users/"+alice] = `{"id":"` + aliceID + `"}`
	f.routes["GET "+auditURL] = `{"value":[]}`
	p.must("audit", "list", "--user", alice)
	if got := f.log[len(f.log)-1]; !strings.Contains(got, "principalId%20eq%20%27"+aliceID) {
		t.Error(got)
	}
	f.queue = map[string][]string{"GET " + auditURL: {`{"value":[{"type":"user.delete","target":"` + appID + `","detail":{"userPrincipalName":"Bob@contoso.test"}}]}`}}
	p.must("audit", "list", "--user", "bob@contoso.test")
	if got := f.log[len(f.log)-1]; !strings.Contains(got, "principalId%20eq%20%27"+appID) {
		t.Error(got)
	}
	p.fails(1, []string{"there is no user eve@contoso.test"}, "audit", "list", "--user", "eve@contoso.test")
}

// Following survives a server that goes away and comes back: it goes on at its
// own cursor, without gap or repeat.
func TestAuditTail_FollowsThroughARestart(t *testing.T) {
	f, p := signedIn(t)
	c := recordsOf(5)
	f.queue = map[string][]string{followURL: {pageOf(t, c[:2], 2), pageOf(t, c[2:3], 3), "503 {}", "503 {}", "503 {}", "503 {}", "503 {}", pageOf(t, nil, 3), pageOf(t, c[3:], 5)}}
	f.routes[followURL] = `403 {"error":{"code":"AuthorizationFailed","message":"no more"}}`
	r := p.run("audit", "tail", "-f", "-n", "2")
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	if r.code != 1 || len(lines) != 5 || !strings.Contains(r.err, "no more") || strings.Count(r.err, "does not answer") != 1 {
		t.Fatalf("%+v", r)
	}
	for i, l := range lines {
		if got, _, err := proof.ParseLine([]byte(l)); err != nil || got.Sequence != int64(i+1) {
			t.Errorf("%d: %v %s", i, err, l)
		}
	}
	var tokens []string
	for _, call := range f.log {
		if strings.Contains(call, "follow") {
			_, token, _ := strings.Cut(call, "skipToken=")
			token, _, _ = strings.Cut(token, "&")
			tokens = append(tokens, token)
		}
	}
	if tokens[2] != audit.Token(audit.Cursor{"server-1": 3}) || tokens[7] != tokens[2] {
		t.Error(tokens)
	}
	f.queue[followURL] = []string{pageOf(t, c[:1], 1)}
	if out := p.must("audit", "tail", "-o", "tsv"); out != "2026-11-22T12:00:00Z\tgroup.create\tsuccess\t"+alice+"\tg1\t"+certID+"\n" {
		t.Errorf("%q", out)
	}
	p.wait = func(context.Context, time.Duration) error { return errors.New("interrupted") }
	f.queue[followURL] = []string{pageOf(t, c[:1], 1), "503 {}", "503 {}", "503 {}", "503 {}"}
	p.fails(1, nil, "audit", "tail", "-f")
}

// An export is verified with nothing but the file and the server's address. Run
// again it goes on where it ended, also when it was cut.
func TestAuditExport_VerifiesAndGoesOn(t *testing.T) {
	f, p := signedIn(t)
	c := recordsOf(6)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f.audit = key
	signed := func(r audit.Record) protocol.SignedHead {
		h, err := protocol.SignHead(rand.Reader, key, audit.Head{Writer: r.Writer, Sequence: r.Sequence, Hash: r.Hash})
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	evidence := func(r audit.Record) {
		b, err := json.Marshal(proof.Proof{Manifest: f.signed(), Heads: []protocol.SignedHead{signed(r)}})
		if err != nil {
			t.Fatal(err)
		}
		f.routes["GET /providers/Sallyport.Access/auditProof"] = string(b)
	}
	file := filepath.Join(p.dir, "audit.jsonl")
	evidence(c[3])
	f.queue = map[string][]string{followURL: {pageOf(t, c[:2], 2), pageOf(t, c[2:4], 4)}}
	if out := p.must("audit", "export", "--file", file, "--query", "records"); strings.TrimSpace(out) != "4" {
		t.Fatal(out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text[:len(text)-40], 0o600); err != nil { // killed in the last line
		t.Fatal(err)
	}
	evidence(c[5])
	f.queue[followURL] = []string{pageOf(t, c[4:], 6)}
	if out := p.must("audit", "export", "--file", file, "--query", "records"); strings.TrimSpace(out) != "2" {
		t.Fatal(out)
	}
	if got := f.log[len(f.log)-1]; !strings.Contains(got, audit.Token(audit.Cursor{"server-1": 4})) {
		t.Error(got)
	}
	stranger := &person{t: t, dir: p.dir, env: map[string]string{"HOME": t.TempDir()}, now: clock()} // has never signed in
	if out := stranger.must("audit", "verify", "--file", file, "--server", f.address(), "--query", "[ok, records, endSigned]", "-o", "tsv"); strings.Join(strings.Fields(out), " ") != "true 6 true" && strings.Join(strings.Fields(out), " ") != "True 6 True" {
		t.Fatalf("%q", out)
	}
	manifest := filepath.Join(p.dir, "manifest.json")
	b, _ := json.Marshal(f.signed())
	status := filepath.Join(p.dir, "status.json")
	seen, _ := json.Marshal(map[string]any{"machineId": machineID, "version": 3, "witnessed": []protocol.Witnessed{{SignedHead: signed(c[5]), Epoch: 1}}})
	for path, content := range map[string][]byte{manifest: b, status: seen} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stranger.must("audit", "verify", "--file", file, "--server", manifest, "--witness", status)
	p.must("audit", "verify", "--file", file)

	// Cut, with a proof signed anew by somebody who has the audit key.
	evidence(c[2])
	cut := filepath.Join(p.dir, "cut.jsonl")
	f.queue[followURL] = []string{pageOf(t, c[:3], 3)}
	p.must("audit", "export", "--file", cut)
	stranger.must("audit", "verify", "--file", cut, "--server", f.address())
	r := stranger.fails(1, []string{"record server-1/4 is missing", "machine " + machineID}, "audit", "verify", "--file", cut, "--server", f.address(), "--witness", status)
	if !strings.Contains(r.out, `"sequence": 4`) {
		t.Error(r.out)
	}
	stranger.fails(1, []string{"without the thumbprint"}, "audit", "verify", "--file", file, "--server", f.web.URL)
	stranger.fails(1, []string{"not the output"}, "audit", "verify", "--file", file, "--server", f.address(), "--witness", manifest)
	p.fails(1, []string{"is not an export"}, "audit", "export", "--file", status)
	p.fails(2, []string{"belong to --file"}, "audit", "verify", "--witness", status)
}
