package cli

import (
	"context"
	"strings"

	"sallyport/internal/agent/pin"
	"sallyport/internal/cli/client"
	"sallyport/internal/fault"
)

// loginServer is the server to sign in to. A machine's identity knows it: it is
// the one that the machine has joined, with what root has pinned.
func (a *app) loginServer(ctx context.Context, in values) (*client.Server, error) {
	if !in.on("identity") || in.given("server") {
		return a.connect(ctx, in.text("server"))
	}
	m, err := pin.Load(a.cfg.machineRoot(), a.cfg.MachineOwner)
	if err != nil {
		return nil, fault.Wrap(err, fault.Precondition, "NotAMachine", "this computer has joined no server, so it has no managed identity: %s", fault.As(err).Text).
			WithRemedy("Run this on a machine, or sign in as somebody: sally login")
	}
	cfg, err := a.clientConfig()
	if err != nil {
		return nil, err
	}
	return client.ConnectAt(ctx, cfg, m.URL+"#"+m.ManifestPin, m.Address)
}

// loginIdentity signs the machine's managed identity in. The machine decides who
// may use it, and keeps the proof: nothing of it is stored here.
func (a *app) loginIdentity(ctx context.Context, l signIn) (*client.Session, error) {
	scope := l.scope
	if scope == client.SSHScope() {
		scope = l.server.ARMScope()
	}
	g, err := l.server.Managed(ctx, scope, nil)
	if err != nil {
		return nil, err
	}
	tenant, objectID := client.ManagedTenant(g)
	if !strings.EqualFold(tenant, l.server.Manifest().Tenant) || objectID == "" {
		return nil, fault.New(fault.Unauthenticated, "OtherTenant", "the metadata service of this machine speaks for another tenant than %s serves", l.server.URL())
	}
	s := l.server.As(baseAccount(l.server, client.Person{Name: client.SystemAssigned, Type: client.TypeServicePrincipal, AssignedIdentityInfo: "MSI"}, objectID))
	return s, s.Keep(ctx, g, client.Secret{Managed: true}, scope)
}
