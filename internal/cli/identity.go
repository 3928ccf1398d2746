package cli

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"sallyport/internal/cli/client"
	"sallyport/internal/fault"
)

// loginServer is the server to sign in to. A machine's identity knows it: it is
// the one that the machine has joined, with what root has pinned.
func (a *app) loginServer(ctx context.Context, in values) (*client.Server, error) {
	if !in.on("identity") || in.given("server") {
		return a.connect(ctx, in.text("server"))
	}
	m, err := a.joined()
	if err != nil {
		return nil, fault.Wrap(err, fault.Precondition, "NotAMachine", "this computer has joined no server, so it has no managed identity: %v", err).
			WithRemedy("Run this on a machine, or sign in as somebody: sally login")
	}
	cfg, err := a.clientConfig()
	if err != nil {
		return nil, err
	}
	return client.ConnectAt(ctx, cfg, m.URL+"#"+m.Pin, m.Address)
}

// loginIdentity signs the machine's managed identity in. The machine decides who
// may use it, and keeps the proof: nothing of it is stored here.
func (a *app) loginIdentity(ctx context.Context, l signIn) (*client.Session, error) {
	scope := l.scope
	if scope == l.server.SSHScope() {
		scope = l.server.ARMScope()
	}
	g, err := l.server.Managed(ctx, scope, nil)
	if err != nil {
		return nil, err
	}
	tenant, objectID := client.ManagedTenant(g)
	if !strings.EqualFold(tenant, l.server.Manifest().Tenant) || objectID == "" {
		return nil, fault.New(fault.Unauthenticated, "OtherTenant", "the metadata service of this machine speaks for another tenant than %s serves.", l.server.URL()).WithRemedy("Leave --server out: the machine knows its own.")
	}
	s := l.server.As(baseAccount(l.server, client.Person{Name: client.SystemAssigned, Type: client.TypeServicePrincipal, AssignedIdentityInfo: "MSI"}, objectID))
	return s, s.Keep(ctx, g, client.Secret{Managed: true}, scope)
}

// pins is what the agent has pinned when the machine joined
// (docs/machine-protocol.md).
type pins struct {
	URL     string `json:"url"`
	Address string `json:"address"`
	Pin     string `json:"manifestPin"`
}

// pinsPath is the file, which everybody may read and root alone has written.
const pinsPath = "/etc/sallyport/machine.json"

// joined reads whom this machine trusts. A file that anybody but its owner could
// have written would be somebody's way to lead this command elsewhere.
func (a *app) joined() (pins, error) {
	var p pins
	f, err := os.OpenFile(filepath.Join(a.cfg.machineRoot(), pinsPath), os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return p, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return p, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Uid != a.cfg.MachineOwner || info.Mode().Perm()&0o022 != 0 || !info.Mode().IsRegular() {
		return p, errors.New(pinsPath + " is not root's alone to write")
	}
	if err := json.NewDecoder(f).Decode(&p); err != nil {
		return p, err
	}
	if p.URL == "" || p.Pin == "" {
		return p, errors.New(pinsPath + " names no server")
	}
	return p, nil
}
