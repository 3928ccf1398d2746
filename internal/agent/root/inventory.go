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
	defer s.collecting.Unlock()
	i := s.cfg.Inventory(ctx)
	return &i, nil
}
