package control

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

func TestParseRequest_Accepts(t *testing.T) {
	for _, text := range []string{
		`{"op":"status"}`, `{"op":"homes"}`, `{"op":"host-proof"}`,
		`{"op":"take-events","acknowledge":["a"],"generation":-1,"waitMillis":60000}`,
		`{"op":"deliver-snapshot","snapshot":{"payloadType":"x","payload":"","keyId":"","sig":""}}`,
		`{"op":"deliver-host-certificate","certificate":"ssh-ed25519-cert-v01@openssh.com AAAA"}`, `{"op":"adopt-home","name":"a@b.example"}`, `{"op":"identity-members"}`, `{"op":"allow-identity","name":"www-data"}`,
	} {
		if _, err := ParseRequest([]byte(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestParseRequest_Refuses(t *testing.T) {
	for _, text := range []string{
		``, `null`, `{}`, `[]`, `{"op":"exec"}`, `{"op":"status","name":"x"}`, `{"op":"status"}{"op":"status"}`, `{"op":"status","path":"/etc/shadow"}`,
		`{"op":"deliver-snapshot"}`, `{"op":"deliver-manifest","snapshot":{}}`, `{"op":"adopt-home"}`, `{"op":"allow-identity"}`, `{"op":"identity-members","name":"x"}`, `{"op":"take-events","waitMillis":60001}`, `{"op":"take-events","waitMillis":-1}`,
		`{"op":"archive-home","name":"` + strings.Repeat("x", 256) + `"}`, `{"op":"` + strings.Repeat("x", 5000) + `"}`,
	} {
		if r, err := ParseRequest([]byte(text)); err == nil {
			t.Errorf("%.80s was taken as %+v", text, r)
		}
	}
}

// FuzzParseRequest: whatever arrives, the answer is a request that check
// accepts, or an error.
func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{`{"op":"status"}`, `{"op":"take-events","acknowledge":["a"]}`, `{"op":"deliver-manifest","manifest":{"manifestKey":"","envelope":{}}}`, `{`, `{"op":"adopt-home","name":"x"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRequest(b)
		if err == nil && r.check() != nil {
			t.Fatalf("%q", b)
		}
		var frame bytes.Buffer
		_ = binary.Write(&frame, binary.BigEndian, uint32(len(b)))
		frame.Write(b)
		got, err := read(&frame, maxRequest)
		if err != nil || !bytes.Equal(got, b) {
			t.Fatalf("%q: %v", got, err)
		}
	})
}

func TestRead_BoundsWhatItBelieves(t *testing.T) {
	if _, err := read(bytes.NewReader([]byte{0xff, 0xff, 0xff, 0xff, 'x'}), 1000); err == nil {
		t.Error("a length over the limit was believed")
	}
	if _, err := read(bytes.NewReader([]byte{0, 0, 0, 9, 'x'}), 1000); err == nil {
		t.Error("a cut message was taken")
	}
}

// echo answers status and fails everything else.
type echo struct{}

func (echo) Control(_ context.Context, root bool, r Request) (Answer, error) {
	if r.Op == OpStatus {
		return Answer{Status: &Status{MachineID: "m", Extension: root}}, nil
	}
	if r.Op == OpHostProof {
		return Answer{}, errors.New("private words")
	}
	return Answer{}, fault.New(fault.Conflict, "NoGood", "not now").WithRemedy("Wait.")
}

// listen serves echo; network is the uid that may ask beside root.
func listen(t *testing.T, network uint32) Client { return serve(t, network, echo{}) }

func serve(t *testing.T, network uint32, h Handler) Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, ServerConfig{Network: network, Handler: h}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return Client{Path: path, Owner: uint32(os.Geteuid())}
}

func TestServe_AnswersAndHidesPrivateErrors(t *testing.T) {
	c := listen(t, uint32(os.Geteuid()))
	a, err := c.Ask(context.Background(), Request{Op: OpStatus})
	if err != nil || a.Status == nil || a.Status.MachineID != "m" {
		t.Fatalf("%+v %v", a, err)
	}
	_, err = c.Ask(context.Background(), Request{Op: OpHomes})
	if f := fault.As(err); f.Code != "NoGood" || f.Kind != fault.Conflict || f.Public() != "not now. Wait." {
		t.Fatalf("%v", err)
	}
	if _, err = c.Ask(context.Background(), Request{Op: OpHostProof}); err == nil || strings.Contains(err.Error(), "private") {
		t.Fatalf("%v", err)
	}
	if _, err = c.Ask(context.Background(), Request{Op: "exec"}); !fault.Is(err, fault.Invalid) {
		t.Fatalf("%v", err)
	}
}

// patient waits until whoever asks has gone.
type patient struct{ asked, gone chan struct{} }

func (p patient) Control(ctx context.Context, _ bool, _ Request) (Answer, error) {
	p.asked <- struct{}{}
	<-ctx.Done()
	p.gone <- struct{}{}
	return Answer{}, ctx.Err()
}

// TestServe_HearsThatTheAskerHasGone: nothing is handed to a connection that has
// ended, although the handler would have gone on waiting.
func TestServe_HearsThatTheAskerHasGone(t *testing.T) {
	p := patient{make(chan struct{}, 1), make(chan struct{}, 1)}
	c := serve(t, uint32(os.Geteuid()), p)
	ctx, leave := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		_, err := c.Ask(ctx, Request{Op: OpDevices, WaitMillis: 60_000})
		done <- err
	}()
	<-p.asked
	select {
	case <-p.gone:
		t.Fatal("taken for gone while it waits")
	default:
	}
	leave()
	if err := <-done; err == nil {
		t.Fatal("answered")
	}
	select {
	case <-p.gone:
	case <-time.After(10 * time.Second):
		t.Fatal("nobody heard that the connection ended")
	}
}

func TestClient_RefusesAnImpostor(t *testing.T) {
	c := listen(t, 0)
	c.Owner++
	if _, err := c.Ask(context.Background(), Request{Op: OpStatus}); !fault.Is(err, fault.Forbidden) {
		t.Fatalf("%v", err)
	}
	c.Path += ".none"
	if _, err := c.Ask(context.Background(), Request{Op: OpStatus}); !fault.Is(err, fault.Unavailable) {
		t.Fatalf("%v", err)
	}
}

// The network part may deliver and ask, and decides nothing; nobody else is
// answered. Whoever runs this test is one uid only, so the decision is asked
// itself, and then the socket whether it asks it.
func TestServe_OnlyRootDecidesAboutHomes(t *testing.T) {
	const network, stranger = 998, 1000
	c := ServerConfig{Network: network}
	for uid, ok := range map[uint32]bool{0: true, network: true, stranger: false, ^uint32(0): false} {
		if err := c.admit(uid); (err == nil) != ok {
			t.Errorf("uid %d: %v", uid, err)
		}
	}
	for _, op := range []Op{OpStatus, OpManifest, OpAccounts, OpSnapshot, OpEvents, OpHostProof, OpHostCertificate, OpHomes, OpAdopt, OpArchive} {
		decides := op == OpAdopt || op == OpArchive
		if err := permit(network, op); fault.Is(err, fault.Forbidden) != decides {
			t.Errorf("the network part and %s: %v", op, err)
		}
		if err := permit(0, op); err != nil {
			t.Errorf("root and %s: %v", op, err)
		}
	}
	want := "NoGood" // the handler's word: root got through to it
	if os.Geteuid() != 0 {
		want = "RootOnly"
	}
	if _, err := listen(t, uint32(os.Geteuid())).Ask(context.Background(), Request{Op: OpAdopt, Name: "x"}); fault.As(err).Code != want {
		t.Fatalf("%v", err)
	}
}

func TestRequest_CarriesALargeSnapshot(t *testing.T) {
	var b bytes.Buffer
	if err := write(&b, Request{Op: OpSnapshot, Snapshot: &protocol.Envelope{Payload: make([]byte, 8<<20)}}, maxRequest); err != nil {
		t.Fatal(err)
	}
	raw, err := read(&b, maxRequest)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := ParseRequest(raw); err != nil || len(r.Snapshot.Payload) != 8<<20 {
		t.Fatal(err)
	}
}
