package store

import (
	"path/filepath"
	"testing"

	"sallyport/internal/fault"
	"sallyport/internal/machine"
	"sallyport/internal/scope"
)

// TestPutMachine_OneMachineHasAKey: also where two servers of one database take two
// machines with one key in at a time.
func TestPutMachine_OneMachineHasAKey(t *testing.T) {
	s := open4test(t)
	err := s.Write(t.Context(), func(tx *Tx) error {
		at, err := scope.Parse("/subscriptions/0aaaaaaa-0000-4000-8000-000000000001/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm1")
		if err != nil {
			return err
		}
		m := machine.Machine{ID: "0aaaaaaa-0000-4000-8000-000000000002", ResourceID: at, Thumbprint: "key", JoinedAt: clock()}
		if err := tx.PutMachine(m); err != nil {
			return err
		}
		m.ID = "0aaaaaaa-0000-4000-8000-000000000003"
		return tx.PutMachine(m)
	})
	if !fault.Is(err, fault.Conflict) || fault.As(err).Code != "MachineKeyInUse" {
		t.Errorf("got %v", err)
	}
}

func TestCreate_WhereNoFolderIs(t *testing.T) {
	_, err := Create(t.Context(), Config{Path: filepath.Join(t.TempDir(), "none", "store.db"), Now: clock})
	if !fault.Is(err, fault.Unavailable) || fault.As(err).Code != "StoreNotCreated" {
		t.Errorf("got %v", err)
	}
}
