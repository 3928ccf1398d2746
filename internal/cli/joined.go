package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"sallyport/internal/cli/client"
)

// Paths of machines that joined from elsewhere.
const (
	joinedURL          = "/subscriptions/{subscription}/resourceGroups/{resource-group}/providers/" + joinedType + "/{name}"
	joinedOwnerURL     = "/subscriptions/{subscription}/resourceGroups/{resource-group}/providers/" + joinedType + "/{machine-name}"
	joinedExtensionURL = joinedOwnerURL + "/extensions/{name}"
	tokenMember        = "/providers/Sallyport.Access/createJoinToken"
)

// joinedVerbs are `sally machine`: the two that know machines of every kind, and
// those about machines that joined, with the flags of az connectedmachine.
func joinedVerbs() []verb {
	table := columns("Machine=properties.hostPrincipal", "State=properties.state", "Address=properties.loopbackAddress || properties.addresses[0]",
		"Login=properties.snapshot.loginEnabled", "Agent=properties.agent.version", "Upgrade=properties.agent.upgrade.state", "LastSeen=properties.agent.lastSeen", "ResourceId=properties.resourceId")
	named := func() []flag { return []flag{flagName("machine"), flagGroup()} }
	resourceTable := columns("Name=name", "ResourceGroup=resourceGroup", "Status=status", "Location=location")
	return append([]verb{
		{
			path: "machine list", short: "List machines with the state of their agents.", method: http.MethodGet, list: true, columns: table,
			url: "/subscriptions/{subscription}[/resourceGroups/{resource-group}]/providers/Sallyport.Access/machines", flags: []flag{optional(flagGroup())},
		},
		{
			path: "machine show", short: "Show what the server knows of a machine.", method: http.MethodGet, url: machineURL, other: joinedURL, suffix: accessMember, ids: true, columns: table,
			flags: append(named(), flag{name: "expand", usage: "inventory: also what the machine says of its accounts, sudoers, sshd and logins"}), query: []string{"$expand={expand}"},
		},
		{
			path: "machine update", short: "Change the tags of a machine that joined.", method: http.MethodPatch, url: joinedURL, ids: true, shape: resource, columns: resourceTable, wait: "Updating",
			flags: append(named(), flagTags()), body: func(in values) (any, error) {
				body := map[string]any{}
				if !in.given("tags") {
					return nil, usageError{"nothing to change: give --tags"}
				}
				return body, addTags(body, in)
			},
		},
		{
			path: "machine delete", short: "Delete a machine that joined: its key opens nothing then.", method: http.MethodDelete, url: joinedURL, ids: true, flags: named(),
			confirm: "Are you sure you want to perform this operation?", wait: "Deleting", quiet: true,
		},
		{
			path: "machine quarantine", short: "Make a machine's stolen key worth nothing at once: it has to join again.", method: http.MethodPost, url: joinedURL, suffix: "/quarantine", ids: true, flags: named(),
			confirm: "The machine hears nothing more from the server until it has joined again. Are you sure?", wait: "Putting into quarantine", quiet: true,
		},
		{
			path: "machine identity assign", short: "Give a machine that joined its managed identity back.", method: http.MethodPatch, url: joinedURL, ids: true, flags: named(), wait: "Assigning the identity",
			body: func(values) (any, error) {
				return map[string]any{"identity": map[string]any{"type": "SystemAssigned"}}, nil
			},
			shape: member("identity"), columns: columns("Type=type", "PrincipalId=principalId", "TenantId=tenantId"),
		},
	}, joinedExtensionVerbs()...)
}

// joinCommands are those about machines that joined that make several calls.
func (a *app) joinCommands() map[string]*cobra.Command {
	return map[string]*cobra.Command{"ssh arc": a.sshArc(), "machine token create": a.tokenCreate(), "machine extension create": a.machineExtensionCreate(),
		"machine join": a.machineJoin(), "machine disconnect": a.machineDisconnect()}
}

func joinedExtensionVerbs() []verb {
	owner := flag{name: "machine-name", required: true, usage: "Name of the machine"}
	table := columns("Name=name", "ProvisioningState=provisioningState", "Publisher=publisher", "Version=typeHandlerVersion")
	return []verb{
		{
			path: "machine extension show", short: "Show an extension of a machine that joined.", method: http.MethodGet, url: joinedExtensionURL, ids: true, shape: resource, columns: table,
			flags: []flag{flagName("extension"), flagGroup(), owner, {name: "expand", usage: "instanceView: also the extension's state on the machine"}}, query: []string{"$expand={expand}"},
		},
		{
			path: "machine extension list", short: "List the extensions of a machine that joined.", method: http.MethodGet, url: joinedOwnerURL, suffix: "/extensions", list: true, shape: resource, columns: table,
			flags: []flag{flagGroup(), owner},
		},
		{
			path: "machine extension delete", short: "Remove an extension from a machine that joined.", method: http.MethodDelete, url: joinedExtensionURL, ids: true, wait: "Removing", quiet: true,
			flags: []flag{flagName("extension"), flagGroup(), owner}, confirm: "Are you sure you want to perform this operation?",
		},
	}
}

// machineExtensionCreate has the flags of az connectedmachine extension create;
// publisher and type are those of the one extension there is, unless given.
func (a *app) machineExtensionCreate() *cobra.Command {
	flags := []flag{
		flagName("extension"), flagGroup(), {name: "machine-name", required: true, usage: "Name of the machine"},
		{name: "publisher", def: "Microsoft.Azure.ActiveDirectory", usage: "Publisher of the extension"}, {name: "type", usage: "Type of the extension; its name by default"},
		{name: "type-handler-version", usage: "Version; the newest by default"}, {name: "location", short: "l", usage: "Location; the machine's by default"},
		{name: "settings", usage: "Settings in JSON; @FILE reads a file"}, {name: "no-wait", kind: 'b', usage: "Do not wait for the operation to end"},
	}
	cmd := leafFor("create", "Install an extension on a machine that joined.", flags, func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		owner, err := fillURL(joinedOwnerURL, s, in)
		if err != nil {
			return err
		}
		location := in.text("location")
		if location == "" {
			var m struct {
				Location string `json:"location"`
			}
			if err := do(ctx, s, call(http.MethodGet, owner), &m); err != nil {
				return err
			}
			location = m.Location
		}
		kind := in.text("type")
		if kind == "" {
			kind = in.text("name")
		}
		properties := map[string]any{"publisher": in.text("publisher"), "type": kind}
		if v := in.text("type-handler-version"); v != "" {
			properties["typeHandlerVersion"] = v
		}
		if value := in.text("settings"); value != "" {
			if !json.Valid([]byte(value)) {
				return usageError{"argument --settings: the value is not JSON"}
			}
			properties["settings"] = json.RawMessage(value)
		}
		return a.putAndPrint(ctx, s, client.Call{Method: http.MethodPut, Path: owner + "/extensions/" + url.PathEscape(in.text("name")),
			Body: map[string]any{"location": location, "properties": properties}}, in.on("no-wait"))
	})
	cmd.Example = "  sally machine extension create --name AADSSHLoginForLinux -g GROUP --machine-name MACHINE"
	return cmd
}

// tokenCreate makes a join token: for a new machine in a group, or for one machine
// by its name, which is made where it does not exist yet.
func (a *app) tokenCreate() *cobra.Command {
	flags := []flag{flagGroup(), optional(flagName("machine that joins, for a token that is for it alone")), flagTags(),
		{name: "location", short: "l", usage: "Location of a machine that does not exist yet; the group's by default"}}
	cmd := leafFor("create", "Make a token with which one machine may join within an hour.", flags, func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		at, err := a.tokenScope(ctx, s, in)
		if err != nil {
			return err
		}
		answer, err := mintToken(ctx, s, at)
		if err != nil {
			return err
		}
		return a.print(answer, columns("JoinToken=joinToken", "ExpiresOn=expiresOn")...)
	})
	cmd.Example = "  sally machine token create -g GROUP --query joinToken -o tsv\n  sally machine token create -g GROUP -n MACHINE"
	return cmd
}

type joinToken struct {
	Token   string `json:"joinToken"`
	Expires string `json:"expiresOn"`
	Scope   string `json:"scope"`
}

func mintToken(ctx context.Context, s *client.Session, at string) (t joinToken, err error) {
	return t, do(ctx, s, client.Call{Method: http.MethodPost, Path: at + tokenMember, Body: map[string]any{}}, &t)
}

// tokenScope is what the token is for. A machine that is named and not there is
// made, with its identity.
func (a *app) tokenScope(ctx context.Context, s *client.Session, in values) (string, error) {
	group, err := fillURL("/subscriptions/{subscription}/resourceGroups/{resource-group}", s, in)
	if err != nil || in.text("name") == "" {
		return group, err
	}
	at, err := fillURL(joinedURL, s, in)
	if err != nil {
		return "", err
	}
	if err = do(ctx, s, call(http.MethodGet, at), nil); !client.IsNotFound(err) {
		return at, err
	}
	body := map[string]any{"identity": map[string]any{"type": "SystemAssigned"}, "properties": map[string]any{}, "location": in.text("location")}
	if in.text("location") == "" {
		var g struct {
			Location string `json:"location"`
		}
		if err := do(ctx, s, call(http.MethodGet, group), &g); err != nil {
			return "", err
		}
		body["location"] = g.Location
	}
	if err := addTags(body, in); err != nil {
		return "", err
	}
	return at, do(ctx, s, client.Call{Method: http.MethodPut, Path: at, Body: body}, nil)
}
