package root

import (
	"context"
	"testing"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// TestInventory_DeadHome: what hangs in an inventory holds up neither the agent's
// end nor a second inventory's refusal.
func TestInventory_DeadHome(t *testing.T) {
	hung, release := make(chan struct{}), make(chan struct{})
	s := &Service{cfg: Config{Inventory: func(context.Context) protocol.Inventory {
		close(hung)
		<-release
		return protocol.Inventory{}
	}}}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { _, err := s.inventory(ctx); ended <- err }()
	<-hung
	if _, err := s.inventory(t.Context()); fault.As(err).Code != "InventoryRuns" {
		t.Errorf("a second one: %v", err)
	}
	stop()
	select {
	case err := <-ended:
		if fault.As(err).Code != "InventoryAborted" {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the agent waits for a dead home")
	}
	close(release)
}
