package arm

import (
	"context"
	"net/http"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/httpd"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/resource/types"
)

// Keys shows and replaces the deployment's signing keys.
type Keys interface {
	Keys(ctx context.Context) (KeyList, error)
	Rotate(ctx context.Context, by audit.By, r Rotation) error
	Request(ctx context.Context) (protocol.ManifestRequest, error)
	Apply(ctx context.Context, by audit.By, m protocol.SignedManifest) error
}

// Rotation asks for the successor of one purpose's key.
type Rotation struct {
	Purpose     string
	Compromised bool          // withdraw the keys in force at once
	Force       bool          // do not wait for machines
	After       time.Duration // wait for machines at most so long
}

// KeyList is what there is to know of the keys, without any private half.
type KeyList struct {
	Manifest ManifestState `json:"manifest"`
	Value    []KeyState    `json:"value"`
	// Behind counts the machines in which the newest manifest is not in force;
	// Machines lists some of them.
	Behind   int             `json:"machinesBehind"`
	Machines []MachineBehind `json:"machines"`
}

// ManifestState is the list of keys that is in force.
type ManifestState struct {
	Epoch    int64     `json:"epoch"`
	Version  int64     `json:"version"`
	IssuedAt time.Time `json:"issuedAt"`
	KeyID    string    `json:"keyId"` // thumbprint of the manifest key
	OnServer bool      `json:"keyOnServer"`
	Unsigned bool      `json:"unsigned"` // a newer list waits for the manifest key
}

// KeyState is one key.
type KeyState struct {
	Purpose     string     `json:"purpose"`
	ID          string     `json:"id"`
	Fingerprint string     `json:"fingerprint"` // as ssh-keygen -l shows it
	State       string     `json:"state"`
	Since       time.Time  `json:"since"`
	Created     time.Time  `json:"created"`
	Until       *time.Time `json:"until,omitempty"` // retiring: when it ends
	WaitsFor    string     `json:"waitsFor,omitempty"`
	Held        bool       `json:"held"` // this server has the private half
}

// MachineBehind is a machine that has not taken over the newest manifest.
type MachineBehind struct {
	ID         string     `json:"machineId"`
	ResourceID string     `json:"resourceId"`
	Version    int64      `json:"version"`
	LastSeen   *time.Time `json:"lastSeen"`
}

const (
	readKeys   = "Sallyport.Access/keys/read"
	rotateKeys = "Sallyport.Access/keys/rotate/action"
)

func (h *Handler) mountKeys(m *httpd.Mux) {
	m.Handle("arm.keys.list", h.listKeys)
	m.Handle("arm.keys.rotate", h.rotateKey)
	m.Handle("arm.keys.manifestRequest", h.manifestRequest)
	m.Handle("arm.keys.applyManifest", h.applyManifest)
}

// mayRotate: whoever replaces a key decides whom machines believe, which is more
// than any role assignment gives. So it takes the right to assign roles at the
// root as well: Contributor has every action of this namespace, and not that.
func (h *Handler) mayRotate(c *httpd.Call) error {
	for _, action := range []string{rotateKeys, types.RoleAssignment + "/write"} {
		if err := h.cfg.Engine.Authorize(c.R.Context(), c.By, action, h.auditScope()); err != nil {
			return err
		}
	}
	return nil
}

func (h *Handler) listKeys(c *httpd.Call) error {
	if err := h.cfg.Engine.Authorize(c.R.Context(), c.By, readKeys, h.auditScope()); err != nil {
		return err
	}
	list, err := h.cfg.Keys.Keys(c.R.Context())
	if err != nil {
		return err
	}
	for i := range list.Machines {
		if agent, ok := h.cfg.Agents.Agent(list.Machines[i].ID); ok && !agent.LastSeen.IsZero() {
			list.Machines[i].LastSeen = &agent.LastSeen
		}
	}
	return c.JSON(http.StatusOK, list)
}

func (h *Handler) rotateKey(c *httpd.Call) error {
	if err := h.mayRotate(c); err != nil {
		return err
	}
	var body struct {
		Purpose     string `json:"purpose"`
		Compromised bool   `json:"compromised"`
		Force       bool   `json:"force"`
		After       int64  `json:"afterSeconds"`
	}
	if err := decode(c, &body); err != nil {
		return err
	}
	const year = int64(365 * 24 * time.Hour / time.Second)
	if body.After < 0 || body.After > year {
		return fault.New(fault.Invalid, "InvalidParameter", "afterSeconds is from 0 to %d, which is a year", year).WithTarget("afterSeconds")
	}
	r := Rotation{Purpose: body.Purpose, Compromised: body.Compromised, Force: body.Force, After: time.Duration(body.After) * time.Second}
	if err := h.cfg.Keys.Rotate(c.R.Context(), c.By, r); err != nil {
		return err
	}
	return h.listKeys(c)
}

func (h *Handler) manifestRequest(c *httpd.Call) error {
	if err := h.mayRotate(c); err != nil {
		return err
	}
	r, err := h.cfg.Keys.Request(c.R.Context())
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, r)
}

func (h *Handler) applyManifest(c *httpd.Call) error {
	if err := h.mayRotate(c); err != nil {
		return err
	}
	var signed protocol.SignedManifest
	if err := decode(c, &signed); err != nil {
		return err
	}
	if err := h.cfg.Keys.Apply(c.R.Context(), c.By, signed); err != nil {
		return err
	}
	return h.listKeys(c)
}

// decode reads a body of exactly one shape.
func decode(c *httpd.Call, v any) error {
	body, err := c.Body()
	if err != nil {
		return err
	}
	if err := protocol.Decode(body, v); err != nil {
		return httpd.NotDecoded(err)
	}
	return nil
}
