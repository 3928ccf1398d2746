package machine

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// InventoryPart is one part of what a machine says of itself, as JSON, with when it
// last said something else. It is the machine's word: people read it, nothing is
// decided by it.
type InventoryPart struct {
	Document []byte
	At       time.Time
}

// InventoryTx stores inventories.
type InventoryTx interface {
	InventoryParts(machineID string) (map[string]InventoryPart, error)
	PutInventoryPart(machineID, part string, document []byte, at time.Time) error
}

// inventoryParts takes an inventory apart; parts that are not there are left out.
func inventoryParts(i protocol.Inventory) (map[string]json.RawMessage, error) {
	b, err := json.Marshal(i)
	if err != nil {
		return nil, err
	}
	var parts map[string]json.RawMessage
	return parts, json.Unmarshal(b, &parts)
}

// inventoryPause is how often a machine changes what it says of itself. An agent
// does so at its start and every ten minutes; who has taken one over shall not
// write to the store without pause.
const inventoryPause = 10 * time.Second

// Inventory stores the parts that differ from what the machine said before.
// by.Principal is the machine. Nothing is written when nothing is new.
func (s *Service) Inventory(ctx context.Context, by audit.By, i protocol.Inventory) error {
	if _, ok := s.cfg.Machines.ByID(by.Principal); !ok {
		return errUnknownMachine()
	}
	if err := i.Check(); err != nil {
		return errReport(err.Error())
	}
	parts, err := inventoryParts(i)
	if err != nil {
		return err
	}
	var held map[string]InventoryPart
	if err := s.cfg.Read(ctx, func(t Tx) (err error) { held, err = t.InventoryParts(by.Principal); return err }); err != nil {
		return err
	}
	for name, document := range parts {
		if bytes.Equal(held[name].Document, document) {
			delete(parts, name)
		}
	}
	s.seen(by.Principal)
	if len(parts) == 0 {
		return nil
	}
	if err := rested(held, s.cfg.Now()); err != nil {
		return err
	}
	return s.cfg.Write(ctx, func(t Tx) error {
		// Another answer to the same machine may have been stored since.
		held, err := t.InventoryParts(by.Principal)
		if err != nil {
			return err
		}
		if err := rested(held, t.Now()); err != nil {
			return err
		}
		for name, document := range parts {
			if err := t.PutInventoryPart(by.Principal, name, document, t.Now()); err != nil {
				return err
			}
		}
		return nil
	})
}

// rested refuses a change so soon after the one before.
func rested(held map[string]InventoryPart, now time.Time) error {
	for _, part := range held {
		if since := now.Sub(part.At); since >= 0 && since < inventoryPause {
			return fault.New(fault.Exhausted, "InventoryTooOften", "what this machine says of itself was changed %s ago", since.Round(time.Second)).
				WithRemedy("Once in %s is often enough; the agent tries again.", inventoryPause)
		}
	}
	return nil
}

// InventoryOf returns what a machine has said of itself, by part.
func (s *Service) InventoryOf(ctx context.Context, machineID string) (parts map[string]InventoryPart, err error) {
	err = s.cfg.Read(ctx, func(t Tx) error { parts, err = t.InventoryParts(machineID); return err })
	return parts, err
}
