package arm

import (
	"context"
	"net/http"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/httpd"
	"sallyport/internal/rollout"
)

// Upgrades upgrades machines' agents in rings; *rollout.Service does.
type Upgrades interface {
	UpgradeReader
	Create(ctx context.Context, by audit.By, u rollout.Upgrade) error
	Pause(ctx context.Context, by audit.By, name string) error
	Resume(ctx context.Context, by audit.By, name string) error
	Cancel(ctx context.Context, by audit.By, name string) error
	Delete(ctx context.Context, by audit.By, name string) error
}

// UpgradeReader shows upgrades and the machines that they are about.
type UpgradeReader interface {
	List() []rollout.Upgrade
	Get(name string) (rollout.Upgrade, error)
	Members() []rollout.Member
}

const (
	upgradesPath   = "/providers/Sallyport.Access/agentUpgrades"
	readUpgrades   = "Sallyport.Access/agentUpgrades/read"
	writeUpgrades  = "Sallyport.Access/agentUpgrades/write"
	deleteUpgrades = "Sallyport.Access/agentUpgrades/delete"
	// upgradeMost is how many machines one upgrade is shown with.
	upgradeMost = 1000
)

// Defaults of an upgrade.
const (
	upgradeSoak    = 10 * time.Minute
	upgradeWait    = 5 * time.Minute
	upgradeTimeout = time.Hour
)

func (h *Handler) mountUpgrades(m *httpd.Mux) {
	guarded := func(row, action string, next httpd.HandlerFunc) {
		m.Handle("arm.agentUpgrades."+row, func(c *httpd.Call) error {
			// Programs of root on every machine: the right is asked for above them all.
			if err := h.cfg.Engine.Authorize(c.R.Context(), c.By, action, h.auditScope()); err != nil {
				return err
			}
			return next(c)
		})
	}
	turn := func(f func(ctx context.Context, by audit.By, name string) error) httpd.HandlerFunc {
		return func(c *httpd.Call) error {
			if err := f(c.R.Context(), c.By, c.Var("name")); err != nil {
				return err
			}
			return h.upgrade(c)
		}
	}
	guarded("list", readUpgrades, h.upgrades)
	guarded("get", readUpgrades, h.upgrade)
	guarded("put", writeUpgrades, h.putUpgrade)
	guarded("delete", deleteUpgrades, func(c *httpd.Call) error {
		if err := h.cfg.Upgrades.Delete(c.R.Context(), c.By, c.Var("name")); err != nil {
			return err
		}
		return c.NoContent(http.StatusNoContent)
	})
	guarded("pause", writeUpgrades, turn(func(ctx context.Context, by audit.By, name string) error { return h.cfg.Upgrades.Pause(ctx, by, name) }))
	guarded("resume", writeUpgrades, turn(func(ctx context.Context, by audit.By, name string) error { return h.cfg.Upgrades.Resume(ctx, by, name) }))
	guarded("cancel", writeUpgrades, turn(func(ctx context.Context, by audit.By, name string) error { return h.cfg.Upgrades.Cancel(ctx, by, name) }))
}

func (h *Handler) putUpgrade(c *httpd.Call) error {
	var body struct {
		Properties struct {
			Version         string   `json:"version"`
			Rings           []string `json:"rings"`
			SoakSeconds     *int64   `json:"soakSeconds"`
			WaitSeconds     *int64   `json:"waitSeconds"`
			TimeoutSeconds  *int64   `json:"timeoutSeconds"`
			MaximumFailures int      `json:"maximumFailures"`
		} `json:"properties"`
	}
	if err := c.Decode(&body); err != nil {
		return err
	}
	p := body.Properties
	u := rollout.Upgrade{Name: c.Var("name"), Version: p.Version, MaxFailures: p.MaximumFailures, Soak: seconds(p.SoakSeconds, upgradeSoak), Wait: seconds(p.WaitSeconds, upgradeWait), Timeout: seconds(p.TimeoutSeconds, upgradeTimeout)}
	for _, r := range p.Rings {
		u.Rings = append(u.Rings, rollout.Ring(r))
	}
	if err := h.cfg.Upgrades.Create(c.R.Context(), c.By, u); err != nil {
		return err
	}
	return h.upgrade(c)
}

// seconds is a time that was given, within what a time can be, or the default.
func seconds(n *int64, otherwise time.Duration) time.Duration {
	if n == nil {
		return otherwise
	}
	const most = int64(100 * 365 * 24 * time.Hour / time.Second)
	return time.Duration(max(-1, min(*n, most))) * time.Second
}

func (h *Handler) upgrades(c *httpd.Call) error {
	members := h.cfg.Upgrades.Members()
	out := []map[string]any{}
	for _, u := range h.cfg.Upgrades.List() {
		out = append(out, showUpgrade(u, members, c.By.At, false))
	}
	return c.JSON(http.StatusOK, h.page(c, out, ""))
}

func (h *Handler) upgrade(c *httpd.Call) error {
	u, err := h.cfg.Upgrades.Get(c.Var("name"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, showUpgrade(u, h.cfg.Upgrades.Members(), c.By.At, true))
}

// showUpgrade is an upgrade with how many machines stand where; with each of them
// where that is asked for.
func showUpgrade(u rollout.Upgrade, members []rollout.Member, at time.Time, each bool) map[string]any {
	counts := map[rollout.Standing]int{rollout.Later: 0, rollout.Waiting: 0, rollout.Through: 0, rollout.Failed: 0, rollout.Left: 0, rollout.Away: 0}
	machines := []map[string]any{}
	for _, m := range members {
		stand := u.Stand(m, at)
		if stand == rollout.Outside {
			continue
		}
		counts[stand]++
		if !each || len(machines) == upgradeMost {
			continue
		}
		one := map[string]any{"machineId": m.ID, "resourceId": m.ResourceID, "ring": string(u.Rings[u.RingOf(m)]), "standing": stand, "version": m.Agent, "reason": u.Why(m, stand), "lastSeen": seen(m.LastSeen), "state": ""}
		if m.Upgrade != nil && m.Upgrade.ID == u.ID {
			one["state"], one["from"] = m.Upgrade.State, m.Upgrade.From
		}
		machines = append(machines, one)
	}
	properties := map[string]any{"id": u.ID, "version": u.Version, "rings": u.Rings, "soakSeconds": int64(u.Soak / time.Second), "waitSeconds": int64(u.Wait / time.Second), "timeoutSeconds": int64(u.Timeout / time.Second),
		"maximumFailures": u.MaxFailures, "state": u.State, "reason": u.Reason, "ring": string(u.Rings[u.Ring]), "ringNumber": u.Ring + 1, "ringSince": seen(u.RingAt), "throughSince": seen(u.DoneAt),
		"createdAt": u.CreatedAt.UTC(), "createdBy": u.CreatedBy, "counts": counts}
	if each {
		properties["machines"] = machines
	}
	return map[string]any{"id": upgradesPath + "/" + u.Name, "name": u.Name, "type": "Sallyport.Access/agentUpgrades", "properties": properties}
}
