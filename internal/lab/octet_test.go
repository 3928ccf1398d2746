package lab

import (
	"errors"
	"io"
	"path/filepath"
	"syscall"
	"testing"

	"sallyport/internal/fault"
)

// fakeComputer says which octets labs hold.
type fakeComputer map[int]bool

type fakeClaim struct {
	computer fakeComputer
	octet    int
}

func (c fakeClaim) Close() error {
	delete(c.computer, c.octet)
	return nil
}

func (c fakeComputer) reserve(octet int) (io.Closer, error) {
	if c[octet] {
		return nil, &wrapped{syscall.EADDRINUSE}
	}
	c[octet] = true
	return fakeClaim{c, octet}, nil
}

type wrapped struct{ error }

func (w *wrapped) Unwrap() error { return w.error }

func TestOctet_TwoLabsGetTwoAndKeepThem(t *testing.T) {
	computer := fakeComputer{}
	dir := filepath.Join(t.TempDir(), "lab")
	computer[octetOf(dir)] = true // of a lab that came first
	s := openTest(t, dir)
	claim, err := claimOctet(s, computer.reserve)
	if err != nil {
		t.Fatal(err)
	}
	want := (octetOf(dir) + 1) % octets
	if s.octet != want {
		t.Errorf("octet %d, want %d", s.octet, want)
	}
	if err := errors.Join(claim.Close(), s.close()); err != nil {
		t.Fatal(err)
	}
	delete(computer, octetOf(dir))
	s = openTest(t, dir)
	if _, err := claimOctet(s, computer.reserve); err != nil || s.octet != want {
		t.Errorf("after a restart: octet %d %v, want %d", s.octet, err, want)
	}
}

func TestOctet_TakenMeanwhile(t *testing.T) {
	for _, machines := range []bool{false, true} {
		s := openTest(t, filepath.Join(t.TempDir(), "lab"))
		s.octet = 255
		if machines {
			s.records[idOf(1)] = record{ID: idOf(1), Name: "web-1", Host: 2}
		}
		_, err := claimOctet(s, fakeComputer{255: true}.reserve)
		if machines && !fault.Is(err, fault.Conflict) {
			t.Errorf("a lab with machines: %v", err)
		}
		if want := map[bool]int{false: 0, true: 255}[machines]; s.octet != want {
			t.Errorf("with machines %v: octet %d, want %d", machines, s.octet, want)
		}
	}
}

func TestOctet_AllTakenOrForbidden(t *testing.T) {
	computer := fakeComputer{}
	for octet := range octets {
		computer[octet] = true
	}
	s := openTest(t, filepath.Join(t.TempDir(), "lab"))
	if _, err := claimOctet(s, computer.reserve); !fault.Is(err, fault.Exhausted) {
		t.Errorf("all taken: %v", err)
	}
	forbidden := func(int) (io.Closer, error) { return nil, syscall.EACCES }
	if _, err := claimOctet(s, forbidden); !errors.Is(err, syscall.EACCES) || s.octet != noOctet {
		t.Errorf("forbidden: %v, octet %d", err, s.octet)
	}
}
