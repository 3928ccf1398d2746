package arm

import (
	"context"
	"net/http"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/httpd"
)

// The rights about a restored backup, at the root management group.
const (
	readRestore    = "Sallyport.Access/restores/read"
	confirmRestore = "Sallyport.Access/restores/confirm/action"
)

// Restores knows of the last restore; server does.
type Restores interface {
	// RestoreReview says what the restored backup gives to whom. It is NotFound
	// in a deployment that was never restored.
	RestoreReview() (RestoreReview, error)
	// ConfirmRestore opens the gate for the restore that the caller has reviewed.
	ConfirmRestore(ctx context.Context, by audit.By, restoreID string) error
}

// RestoreReview is what an administrator confirms.
type RestoreReview struct {
	RestoreID   string           `json:"restoreId"`
	RestoredAt  time.Time        `json:"restoredAt"`
	BackupTaken time.Time        `json:"backupTaken"`
	BackupAge   string           `json:"backupAge"` // when it was restored
	Build       string           `json:"build"`     // that wrote the backup
	Epoch       int64            `json:"epoch"`
	EpochSigned bool             `json:"epochSigned"` // the manifest has it, signed by the manifest key
	Confirmed   bool             `json:"confirmed"`
	ConfirmedBy string           `json:"confirmedBy,omitempty"`
	ConfirmedAt *time.Time       `json:"confirmedAt,omitempty"`
	Counts      map[string]int   `json:"counts"`
	Entries     []ReviewedAccess `json:"entries"`
	Omitted     int              `json:"omitted"` // entries beyond what one answer holds
}

// ReviewedAccess is one thing that the backup gives to somebody.
type ReviewedAccess struct {
	What        string     `json:"what"` // "roleAssignment", "member" of a group that holds one, "user" for an enabled account, or "policy" of Conditional Access
	Principal   string     `json:"principal"`
	PrincipalID string     `json:"principalId"`
	Type        string     `json:"principalType"`
	Role        string     `json:"role,omitempty"`
	Scope       string     `json:"scope,omitempty"`
	Through     string     `json:"through,omitempty"` // the group
	Since       *time.Time `json:"since,omitempty"`   // when it was given
}

func (h *Handler) mountRestore(m *httpd.Mux) {
	m.Handle("arm.restore.review", h.restoreReview)
	m.Handle("arm.restore.confirm", h.restoreConfirm)
}

func (h *Handler) restoreReview(c *httpd.Call) error {
	if err := h.cfg.Engine.Authorize(c.R.Context(), c.By, readRestore, h.auditScope()); err != nil {
		return err
	}
	review, err := h.cfg.Restores.RestoreReview()
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]any{"id": "/providers/Sallyport.Access/restore", "name": "restore", "type": "Sallyport.Access/restores", "properties": review})
}

func (h *Handler) restoreConfirm(c *httpd.Call) error {
	if err := h.cfg.Engine.Authorize(c.R.Context(), c.By, confirmRestore, h.auditScope()); err != nil {
		return err
	}
	var body struct {
		RestoreID string `json:"restoreId"`
	}
	if err := c.Decode(&body); err != nil {
		return err
	}
	if err := h.cfg.Restores.ConfirmRestore(c.R.Context(), c.By, body.RestoreID); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}
