package linklocal

import (
	"errors"
	"net"
	"strings"
	"testing"

	"sallyport/internal/fault"
)

// TestEndpoint_WhatTheMachineRefuses: each failure of the machine is said, and an
// address that cannot be given back keeps its mark.
func TestEndpoint_WhatTheMachineRefuses(t *testing.T) {
	r := newRig(t)
	if err := r.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.fail = errors.New("exit status 2")
	if err := r.Close(t.Context()); fault.As(err).Code != "MetadataAddressFailed" || !strings.Contains(fault.As(err).Text, "could not be taken from lo: RTNETLINK answers: no") || !r.marked() {
		t.Errorf("%v", err)
	}
	// The computer of the test has no such address, whatever this list says.
	if _, err := r.Open(t.Context()); fault.As(err).Code != "MetadataListenFailed" {
		t.Errorf("%v", err)
	}
	r.cfg.Addresses = func(string) ([]net.Addr, error) { return nil, errors.New("netlink is shut") }
	if _, err := r.Open(t.Context()); fault.As(err).Code != "MetadataAddressFailed" || !strings.Contains(fault.As(err).Text, "cannot be listed") {
		t.Errorf("%v", err)
	}
}
