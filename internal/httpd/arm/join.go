package arm

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/httpd"
	"sallyport/internal/machine"
	"sallyport/internal/scope"
)

// Joins makes join tokens; *machine.Service does. It asks for the right to.
type Joins interface {
	MintFor(ctx context.Context, by audit.By, at scope.ID) (token string, expires time.Time, err error)
}

// Inventories knows what machines say of themselves; *machine.Service does.
type Inventories interface {
	InventoryOf(ctx context.Context, machineID string) (map[string]machine.InventoryPart, error)
}

// readInventory is apart from reading the machine: who may log in reads the
// machine, and has no business in its sudoers.
const readInventory = "Sallyport.Access/inventory/read"

// addInventory shows the inventory to who asks for it and may read it.
func (h *Handler) addInventory(c *httpd.Call, at scope.ID, shown map[string]any) error {
	given := c.R.URL.Query().Get("$expand")
	if given == "" {
		return nil
	}
	if !strings.EqualFold(given, "inventory") {
		return notExpanded(given, "inventory")
	}
	if err := h.cfg.Engine.Authorize(c.R.Context(), c.By, readInventory, at); err != nil {
		return err
	}
	p, _ := shown["properties"].(map[string]any)
	id, _ := p["machineId"].(string)
	parts, err := h.cfg.Inventories.InventoryOf(c.R.Context(), id)
	if err != nil {
		return err
	}
	out := map[string]any{"claimedBy": "the machine"}
	for name, part := range parts {
		out[name] = map[string]any{"changedAt": part.At.UTC(), "value": json.RawMessage(part.Document)}
	}
	p["inventory"] = out
	return nil
}

func (h *Handler) mountJoin(m *httpd.Mux) { m.Handle("arm.joinTokens.create", h.joinToken) }

// joinToken makes a token for a machine, or for a new one in a resource group. The
// answer is the only place where it is ever shown.
func (h *Handler) joinToken(c *httpd.Call) error {
	at, err := scope.Parse("/" + c.Var("scope"))
	if err != nil {
		return err
	}
	token, expires, err := h.cfg.Joins.MintFor(c.R.Context(), c.By, at)
	if err != nil {
		return err
	}
	c.W.Header().Set("Cache-Control", "no-store")
	return c.JSON(http.StatusOK, map[string]any{"joinToken": token, "expiresOn": expires.UTC(), "scope": at.String()})
}
