package graph_test

import (
	"os"
	"testing"

	"sallyport/internal/handbooktest"
)

// heard are the refusals that docs/troubleshooting.md explains: the tests of this
// package bring each of them about.
var heard = handbooktest.Expect(
	"graph.Denied", "graph.Denied.client", "graph.Denied.more", "graph.Denied.assignable", "graph.Denied.permission", "graph.Denied.group", "graph.Denied.assignable-group", "graph.Denied.roles",
	"graph.Denied.gives", "graph.LastAdministrator", "graph.OwnAccount.delete", "graph.OwnAccount.disable", "graph.BuiltIn", "graph.ManagedIdentity", "graph.Consent.exists",
	"graph.Permission.exists", "graph.Permission.unknown", "graph.Permission.role", "graph.NotFound", "graph.NameTaken", "graph.Domain", "graph.Member.exists", "graph.Owner.exists",
	"graph.Member.itself", "graph.Member.group", "graph.Owner.group", "graph.Owner.many", "graph.RedirectURI.many", "graph.RedirectURI", "graph.ServicePrincipal.exists",
	"graph.ServicePrincipal.application", "graph.Role.exists", "graph.Role.active", "graph.Role.group", "graph.Role.unknown", "graph.Me", "graph.Reference", "graph.Implicit", "graph.Password",
	"graph.Credential.many", "graph.Credential.there", "graph.Credential.end", "graph.Credential.key", "graph.Text",
)

func TestMain(m *testing.M) { os.Exit(heard.Main(m)) }
