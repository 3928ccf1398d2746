package root

import (
	"context"

	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// inventory reads the machine for people who plan. One at a time: a home on a
// file system that hangs holds up the next inventory and nothing else.
func (s *Service) inventory(ctx context.Context) (*protocol.Inventory, error) {
	if s.cfg.Inventory == nil {
		return &protocol.Inventory{}, nil
	}
	if !s.collecting.TryLock() {
		return nil, fault.New(fault.Unavailable, "InventoryRuns", "an inventory is being made already")
	}
	// A home on a server that is gone holds up whoever looks at it. The agent ends,
	// and says so, without waiting for that.
	made := make(chan protocol.Inventory, 1)
	go func() {
		defer s.collecting.Unlock()
		made <- s.cfg.Inventory(ctx)
	}()
	select {
	case i := <-made:
		return &i, nil
	case <-ctx.Done():
		return nil, fault.Wrap(ctx.Err(), fault.Unavailable, "InventoryAborted", "the inventory was not finished: %v", ctx.Err())
	}
}
