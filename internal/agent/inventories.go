package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"sallyport/internal/agent/control"
	"sallyport/internal/agent/inventory"
	"sallyport/internal/agent/proc"
	"sallyport/internal/agent/root"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// inventoryTime is how often the machine is read for people who plan; the first
// time a moment after the start, when the machine has other things to do.
const (
	inventoryFirst = 5 * time.Second
	inventoryTime  = 10 * time.Minute
)

// inventoryConfig looks at this machine.
func inventoryConfig(version string) inventory.Config {
	return inventory.Config{Root: "/", Version: version, Processes: proc.Table{Dir: "/proc"}.All,
		Run: func(ctx context.Context, argv ...string) ([]byte, error) { return run(ctx, root.Command{Argv: argv}) }}
}

// inventories tells the server what the root part reads of the machine: at a start
// everything, later what has changed.
func (a *Agent) inventories(ctx context.Context, p *pause) {
	if !a.cfg.Inventory {
		return
	}
	a.cfg.Wait(ctx, inventoryFirst)
	told := map[string][]byte{}
	for ctx.Err() == nil {
		if err := a.inventory(ctx, told); err != nil && !noInventory(err) {
			p.failed(ctx, "inventory", err)
			continue
		}
		p.next = 0
		a.cfg.Wait(ctx, inventoryTime)
	}
}

// noInventory reports whether the server is older than inventories.
func noInventory(err error) bool { return fault.As(err).Code == codeNoRoute }

// codeNoRoute is what a server answers where it has no such address.
const codeNoRoute = "InvalidResourcePath"

func (a *Agent) inventory(ctx context.Context, told map[string][]byte) error {
	_, c, _, err := a.status(ctx)
	if err != nil {
		return err
	}
	answer, err := a.cfg.Root.Ask(ctx, control.Request{Op: control.OpInventory})
	if err != nil {
		return err
	}
	if answer.Inventory == nil {
		return nil
	}
	news, all, err := changed(*answer.Inventory, told)
	if err != nil || len(all) == 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	if err := c.call(ctx, "POST", "/machine/v1/inventory", news, nil); err != nil {
		return err
	}
	for name, part := range all {
		told[name] = part
	}
	return nil
}

// changed leaves the parts that were not told like this before.
func changed(i protocol.Inventory, told map[string][]byte) (news protocol.Inventory, parts map[string]json.RawMessage, err error) {
	b, err := json.Marshal(i)
	if err != nil {
		return news, nil, err
	}
	if err := json.Unmarshal(b, &parts); err != nil {
		return news, nil, err
	}
	for name, part := range parts {
		if bytes.Equal(told[name], part) {
			delete(parts, name)
		}
	}
	if b, err = json.Marshal(parts); err != nil {
		return news, nil, err
	}
	return news, parts, json.Unmarshal(b, &news)
}
