package machine_test

import (
	"testing"

	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// TestUpgrade_IsWishedAndReported: machines that know the word are told, others
// would read a document with a field that they refuse; what they say is kept when
// it is one of the words.
func TestUpgrade_IsWishedAndReported(t *testing.T) {
	r := newRig(t)
	r.joined()
	r.wish = &protocol.UpgradeWish{ID: otherID, Version: "2.0", WaitSeconds: 60}
	if got := r.snapshot(protocol.UpgradeCapability); got.Upgrade == nil || *got.Upgrade != *r.wish {
		t.Fatalf("told %+v", got.Upgrade)
	}
	if got := r.snapshot(protocol.UpgradeCapability - 1); got.Upgrade != nil {
		t.Fatal("a machine that does not know the word is told")
	}
	good := protocol.UpgradeState{ID: otherID, Version: "2.0", From: "1.0", State: protocol.UpgradeReturned, Reason: "why"}
	report := func(capability int, u protocol.UpgradeState) error {
		return r.Report(t.Context(), r.by(machineID), protocol.Report{Capability: capability, Agent: "1.0", Upgrade: &u})
	}
	if err := report(protocol.UpgradeCapability, good); err != nil {
		t.Fatal(err)
	}
	if st, _ := r.State(machineID); st.Report.Upgrade == nil || *st.Report.Upgrade != good {
		t.Fatalf("%+v", st.Report.Upgrade)
	}
	for name, change := range map[string]func(*protocol.UpgradeState){
		"state": func(u *protocol.UpgradeState) { u.State = "fine" }, "version": func(u *protocol.UpgradeState) { u.Version = "x" }, "id": func(u *protocol.UpgradeState) { u.ID = "x" },
		"paints on a terminal": func(u *protocol.UpgradeState) { u.Reason = "\x1b[2J" },
	} {
		bad := good
		change(&bad)
		if err := report(protocol.UpgradeCapability, bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := report(protocol.UpgradeCapability-1, good); !fault.Is(err, fault.Invalid) {
		t.Errorf("a capability that has none: %v", err)
	}
}
