package machine_test

import (
	"testing"

	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// Two requests of one machine at the same time change what it says of itself once:
// the pause between changes is held inside the write.
func TestInventory_PauseInsideTheWrite(t *testing.T) {
	r := newRig(t)
	r.joined()
	say := func(kernel string) error {
		return r.Inventory(t.Context(), r.by(machineID), protocol.Inventory{System: &protocol.InventorySystem{Kernel: kernel}})
	}
	r.afterRead = func() {
		if err := say("6.1"); err != nil {
			t.Errorf("the one in between: %v", err)
		}
	}
	if err := say("6.2"); !fault.Is(err, fault.Exhausted) {
		t.Errorf("the other: %v", err)
	}
	parts, err := r.InventoryOf(t.Context(), machineID)
	if err != nil || len(parts) != 1 || string(parts["system"].Document) != `{"distribution":"","kernel":"6.1","architecture":"","openssh":"","agent":""}` {
		t.Errorf("%v %v", parts, err)
	}
}
