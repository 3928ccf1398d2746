package cli

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/cli/client"
)

// localIdentity is az's word for the identity that a machine has of its own.
const localIdentity = "[system]"

// identified is a kind of resource with managed identities.
type identified struct {
	what string
	url  string
	set  bool
}

func identityOfMachine() identified { return identified{what: "virtual machine", url: machineURL} }
func identityOfSet() identified     { return identified{what: "scale set", url: setURL, set: true} }

func (k identified) flags(more ...flag) []flag {
	name, group := flagName(k.what), flagGroup()
	name.late, group.late = true, true
	return append([]flag{name, group}, append(more, flag{name: "identities", kind: 'l', usage: "[system] for its own identity, which is the default; names or ids of user-assigned ones"})...)
}

// held are the identities that a resource has.
type held struct {
	path, group string
	system      bool
	users       []string // ids of user-assigned identities
	doc         map[string]any
}

func (k identified) read(ctx context.Context, s *client.Session, in values) (held, error) {
	path, err := fillURL(k.url, s, in)
	if err != nil {
		return held{}, err
	}
	h := held{path: path}
	h.group, _, _ = strings.Cut(path, "/providers/")
	return h, h.refresh(ctx, s)
}

func (h *held) refresh(ctx context.Context, s *client.Session) error {
	h.doc = nil
	if err := do(ctx, s, call(http.MethodGet, h.path), &h.doc); err != nil {
		return err
	}
	h.system = strings.Contains(text(h.doc, "identity", "type"), "SystemAssigned")
	h.users = nil
	for id := range h.assigned() {
		h.users = append(h.users, id)
	}
	slices.Sort(h.users)
	return nil
}

// assigned are the user-assigned identities as the server shows them.
func (h *held) assigned() map[string]any {
	identity, _ := h.doc["identity"].(map[string]any)
	users, _ := identity["userAssignedIdentities"].(map[string]any)
	if users == nil {
		users = map[string]any{}
	}
	return users
}

// named are the identities that somebody asks for; a name is one of the resource
// group.
func (h *held) named(in values) (system bool, users []string) {
	return identities(in.list("identities"), h.group)
}

func identities(list []string, group string) (system bool, users []string) {
	if len(list) == 0 {
		list = []string{localIdentity}
	}
	for _, one := range list {
		switch {
		case one == localIdentity:
			system = true
		case strings.HasPrefix(one, "/"):
			users = append(users, one)
		default:
			users = append(users, group+"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/"+one)
		}
	}
	return system, users
}

// identityBody is the member that makes these the identities of a resource; a
// user-assigned one goes by null, as Resource Manager has it.
func identityBody(system bool, users, gone []string) map[string]any {
	kinds := []string{}
	if system {
		kinds = append(kinds, "SystemAssigned")
	}
	if len(users) > 0 {
		kinds = append(kinds, "UserAssigned")
	}
	identity := map[string]any{"type": strings.Join(kinds, ", ")}
	if len(kinds) == 0 {
		identity["type"] = "None"
	} else if len(users)+len(gone) > 0 {
		all := map[string]any{}
		for _, id := range users {
			all[id] = map[string]any{}
		}
		for _, id := range gone {
			all[id] = nil
		}
		identity["userAssignedIdentities"] = all
	}
	return identity
}

func (h *held) write(ctx context.Context, s *client.Session, system bool, users, gone []string) error {
	return do(ctx, s, client.Call{Method: http.MethodPatch, Path: h.path, Body: map[string]any{"identity": identityBody(system, users, gone)}}, nil)
}

func has(list []string, id string) bool {
	return slices.ContainsFunc(list, func(x string) bool { return strings.EqualFold(x, id) })
}

func (a *app) identityAssign(k identified) *cobra.Command {
	return leafFor("assign", "Give a "+k.what+" a managed identity.", k.flags(flagRole(), flagScope("Scope at which its own identity gets the role")), func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		if err := roleAtScope(in); err != nil {
			return err
		}
		h, err := k.read(ctx, s, in)
		if err != nil {
			return err
		}
		system, users := h.named(in)
		role, at := in.text("role"), in.text("scope")
		if role != "" && !system {
			return clientError{"usage error: --role and --scope are for the " + k.what + "'s own identity, [system]"}
		}
		all := slices.Clone(h.users)
		for _, id := range users {
			if !has(all, id) {
				all = append(all, id)
			}
		}
		stop := a.progress("Assigning the identity")
		err = h.write(ctx, s, system || h.system, all, nil)
		stop()
		if err != nil {
			return err
		}
		if err := h.refresh(ctx, s); err != nil {
			return err
		}
		result := map[string]any{"systemAssignedIdentity": h.principal(), "userAssignedIdentities": h.assigned()}
		if role != "" {
			if _, err := a.assign(ctx, s, assignment{principal: text(h.doc, "identity", "principalId"), kind: "ServicePrincipal", role: role, scope: at}); err != nil {
				return err
			}
			result["role"], result["scope"] = role, at
		}
		if k.set {
			a.propagate(h.doc)
		}
		return a.print(result, columns("SystemAssignedIdentity=systemAssignedIdentity")...)
	})
}

// principal is az's systemAssignedIdentity: the object id, or empty where there is
// none.
func (h *held) principal() string { return text(h.doc, "identity", "principalId") }

// identityRemove takes identities away. As with az there is nothing to do on what has
// none, and what has others does not have the named one.
func (a *app) identityRemove(k identified) *cobra.Command {
	return leafFor("remove", "Take managed identities away; without its own nobody can log in to a "+k.what+" with a directory identity.", k.flags(), func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		h, err := k.read(ctx, s, in)
		if err != nil {
			return err
		}
		if !h.system && len(h.users) == 0 {
			return nil
		}
		system, users := h.named(in)
		for _, id := range users {
			if !has(h.users, id) {
				return clientError{"'" + id + "' is not an identity of " + in.text("name") + ". See: sally vm" + map[bool]string{true: "ss"}[k.set] + " identity show -g " + in.text("resource-group") + " -n " + in.text("name")}
			}
		}
		rest := slices.DeleteFunc(slices.Clone(h.users), func(id string) bool { return has(users, id) })
		stop := a.progress("Removing the identity")
		err = h.write(ctx, s, h.system && !system, rest, users)
		stop()
		if err != nil {
			return err
		}
		if err := h.refresh(ctx, s); err != nil {
			return err
		}
		if h.doc["identity"] == nil {
			return nil
		}
		return a.print(h.doc["identity"])
	})
}
