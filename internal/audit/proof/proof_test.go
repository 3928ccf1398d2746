package proof

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/machine/protocol"
)

// deployment signs what a server would.
type deployment struct {
	t                  *testing.T
	manifestKey, audit ed25519.PrivateKey
	epoch              int64
}

func newDeployment(t *testing.T) *deployment {
	d := &deployment{t: t, epoch: 1}
	for _, k := range []*ed25519.PrivateKey{&d.manifestKey, &d.audit} {
		var err error
		if _, *k, err = ed25519.GenerateKey(rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (d *deployment) pin() string {
	return must[string](d.t)(protocol.Thumbprint(d.manifestKey.Public()))
}

func (d *deployment) manifest() protocol.SignedManifest {
	key := protocol.Key{Purpose: protocol.Audit, ID: must[string](d.t)(protocol.Thumbprint(d.audit.Public())), Public: must[[]byte](d.t)(x509.MarshalPKIXPublicKey(d.audit.Public()))}
	payload := must[[]byte](d.t)(json.Marshal(protocol.Manifest{Tenant: "t", Domains: []string{"d"}, URL: "https://s", Epoch: d.epoch, Version: 1, Keys: []protocol.Key{key}}))
	return protocol.SignedManifest{ManifestKey: must[[]byte](d.t)(x509.MarshalPKIXPublicKey(d.manifestKey.Public())), Envelope: must[protocol.Envelope](d.t)(protocol.Sign(rand.Reader, d.manifestKey, protocol.TypeManifest, payload))}
}

func (d *deployment) head(r audit.Record) protocol.SignedHead {
	return must[protocol.SignedHead](d.t)(protocol.SignHead(rand.Reader, d.audit, audit.Head{Writer: r.Writer, Sequence: r.Sequence, Hash: r.Hash}))
}

func (d *deployment) seen(r audit.Record) Witness {
	return Witness{MachineID: "vm1", Witnessed: protocol.Witnessed{SignedHead: d.head(r), Epoch: d.epoch}}
}

func (d *deployment) checkpoint(r audit.Record) protocol.Envelope {
	c := audit.Checkpoint{Writer: r.Writer, Sequence: r.Sequence, Hash: r.Hash, Count: r.Sequence}
	return must[protocol.Envelope](d.t)(protocol.Sign(rand.Reader, d.audit, protocol.TypeCheckpoint, c.Bytes()))
}

func (d *deployment) open(m protocol.SignedManifest) (protocol.Manifest, error) {
	return m.Open(d.pin())
}

// written is an export of records with a proof behind them.
func (d *deployment) written(p Proof, records ...audit.Record) string {
	var b bytes.Buffer
	for _, r := range records {
		b.Write(must[[]byte](d.t)(RecordLine(r)))
	}
	b.Write(must[[]byte](d.t)(ProofLine(p)))
	return b.String()
}

func chain(n int, who string) []audit.Record {
	var list []audit.Record
	var last audit.Record
	for i := range n {
		by := audit.By{Principal: who, Type: audit.User, CorrelationID: "c", At: time.Unix(int64(1000+i), 123000).UTC()}
		last = audit.NewRecord(by, audit.Event{Type: "group.addMember", Outcome: audit.Success, Target: "g <&>", Detail: map[string]string{"member": "m"}}).Seal("server-1", int64(i+1), last.Hash)
		list = append(list, last)
	}
	return list
}

func (d *deployment) check(text string, beside ...Witness) (Result, error) {
	return Check(strings.NewReader(text), d.open, beside)
}

// Each way to tamper with an export is found without the server.
func TestCheck_FindsWhatWasTamperedWith(t *testing.T) {
	d, stranger := newDeployment(t), newDeployment(t)
	c, forged := chain(9, "alice"), chain(9, "mallory")
	full := func(records ...audit.Record) Proof {
		return Proof{Manifest: d.manifest(), Heads: []protocol.SignedHead{d.head(records[len(records)-1])}}
	}
	for name, k := range map[string]struct {
		text   string
		beside []Witness
		want   string
	}{
		"whole":                   {d.written(full(c...), c...), []Witness{d.seen(c[4])}, ""},
		"gone on with":            {d.written(full(c[:4]...), c[:4]...) + d.written(full(c...), c[4:]...), nil, ""},
		"cut in the last line":    {d.written(full(c...), c...) + `{"writer":"serv`, nil, ""},
		"changed":                 {strings.Replace(d.written(full(c...), c...), `"principalId":"alice"`, `"principalId":"bob"`, 1), nil, "server-1/1 was altered"},
		"removed":                 {d.written(full(c...), append(append([]audit.Record{}, c[:3]...), c[4:]...)...), nil, "server-1/4 is missing"},
		"inserted":                {d.written(full(c...), append(append([]audit.Record{}, c[:5]...), c[4:]...)...), nil, "server-1/5 is there again"},
		"truncated":               {d.written(full(c...), c[:6]...), nil, "server-1/7 is missing: the chain ends before it, and the signed head"},
		"cut and signed anew":     {d.written(full(c[:6]...), c[:6]...), []Witness{d.seen(c[7])}, "machine vm1 has seen it reach 8"},
		"rewritten, signed anew":  {d.written(full(forged...), forged...), []Witness{d.seen(c[7])}, "server-1/8 or one before it was replaced: machine vm1"},
		"head of a stranger":      {d.written(Proof{Manifest: d.manifest(), Heads: []protocol.SignedHead{stranger.head(c[8])}}, c...), nil, "signed by a key that the manifest does not list"},
		"deployment of another":   {stranger.written(Proof{Manifest: stranger.manifest(), Heads: []protocol.SignedHead{stranger.head(c[8])}}, c...), nil, "manifest key"},
		"no proof":                {d.written(full(c...), c...)[:20], nil, "no proof"},
		"deleted":                 {d.written(Proof{Manifest: d.manifest(), Heads: []protocol.SignedHead{d.head(c[8])}, Checkpoints: []protocol.Envelope{d.checkpoint(c[3])}}, c[4:]...), []Witness{d.seen(c[1])}, ""},
		"deleted, not signed for": {d.written(Proof{Manifest: d.manifest(), Heads: []protocol.SignedHead{d.head(c[8])}, Checkpoints: []protocol.Envelope{stranger.checkpoint(c[3])}}, c[4:]...), nil, "server-1/1 is missing"},
		"not an export":           {"{}\n", nil, "line 1: it is neither"},
	} {
		r, err := d.check(k.text, k.beside...)
		switch {
		case k.want == "" && (err != nil || !r.Signed || len(r.Notes) != 0):
			t.Errorf("%s: %v %+v", name, err, r)
		case k.want != "" && (err == nil || !strings.Contains(err.Error(), k.want)):
			t.Errorf("%s: %v, want %q", name, err, k.want)
		}
	}
}

// What does not count is said: a witness that the audit key has not signed, and
// an end that nobody signed.
func TestCheck_Notes(t *testing.T) {
	d, stranger := newDeployment(t), newDeployment(t)
	c := chain(5, "alice")
	text := d.written(Proof{Manifest: d.manifest(), Heads: []protocol.SignedHead{d.head(c[2])}}, c...)
	r, err := d.check(text, stranger.seen(c[4]))
	if err != nil || r.Signed || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "vm1") {
		t.Fatalf("%v %+v", err, r)
	}
	older := d.seen(chain(9, "alice")[8])
	d.epoch = 2
	c = append(c, audit.NewRecord(audit.By{At: time.Unix(9000, 0)}, audit.Event{Type: audit.Restored, Outcome: audit.Success, Detail: map[string]string{audit.LastSequence: "5"}}).Seal(c[4].Writer, 1000, c[4].Hash))
	text = d.written(Proof{Manifest: d.manifest(), Heads: []protocol.SignedHead{d.head(c[5])}}, c...)
	if r, err = d.check(text, older); err != nil || len(r.Notes) != 2 || !strings.Contains(r.Notes[0], "restored") || !strings.Contains(r.Notes[1], "vm1") {
		t.Fatalf("%v %+v", err, r)
	}
}

func FuzzScan(f *testing.F) {
	c := chain(2, "alice")
	for _, r := range c {
		b, _ := RecordLine(r)
		f.Add(b)
	}
	b, _ := ProofLine(Proof{})
	f.Add(b)
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		n := 0
		whole, err := Scan(bytes.NewReader(text), func(r audit.Record, p *Proof) error {
			n++
			if p == nil && (r.Writer == "" || r.Sequence < 1) {
				t.Fatal("a record without a place")
			}
			return nil
		})
		if whole < 0 || whole > int64(len(text)) || n > 0 && whole == 0 || err == nil && bytes.IndexByte(text[whole:], '\n') >= 0 {
			t.Fatalf("%d of %d, %d lines, %v", whole, len(text), n, err)
		}
		_, err = Check(bytes.NewReader(text), func(protocol.SignedManifest) (protocol.Manifest, error) { return protocol.Manifest{}, errors.New("no") }, nil)
		if err == nil {
			t.Fatal("accepted")
		}
	})
}
