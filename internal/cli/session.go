package cli

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/cli/client"
)

func flagUser() flag {
	return flag{name: "user", usage: "User principal name or object id; yourself by default"}
}

// signInVerbs: where people are signed in, and how they may.
func signInVerbs() []verb {
	const settings = "/providers/Sallyport.Access/tenantSettings/default"
	table := columns("AllowPasswordGrant=properties.allowPasswordGrant", "AllowDeviceCode=properties.allowDeviceCode", "AllowPreviewLogin=properties.allowPreviewLogin",
		"LongestSessionMinutes=properties.longestSessionMinutes", "OfflineUserSeconds=properties.offlineUserSeconds", "OfflineAdministratorSeconds=properties.offlineAdministratorSeconds")
	return []verb{
		{
			path: "account session list", short: "List where a user is signed in.", method: http.MethodGet, list: true, url: "/providers/Sallyport.Access/sessions",
			flags: []flag{flagUser()}, query: []string{"principal={user}"},
			columns: columns("Client=properties.client", "Address=properties.address", "SignedIn=properties.signedInAt", "LastUsed=properties.lastUsedAt", "Ends=properties.ends",
				"Factors=join(',', properties.factors)", "Id=name"),
		},
		{path: "tenant show", short: "Show how people may sign in, how long a session on a machine may last, and how long machines go on without the server.", method: http.MethodGet, url: settings, columns: table},
		{
			path: "tenant update", short: "Change how people may sign in, how long a session on a machine may last, or how long machines go on without the server.", method: http.MethodPatch, url: settings, columns: table,
			flags: []flag{
				{name: "allow-password-grant", kind: 'b', usage: "Programs may send a user name and password (az login -u -p)"},
				{name: "allow-device-code", kind: 'b', usage: "One device may be signed in by a browser on another (az login --use-device-code)"},
				{name: "allow-preview-login", kind: 'b', usage: "Machines may take the preview extension AADLoginForLinux, which signs people in with device codes"},
				{name: "offline-user", usage: "How long a machine lets people log in without the server, such as 24h; 30s to 720h"},
				{name: "offline-administrator", usage: "The same for what an administrator's role adds, sudo, such as 1h"},
				{name: "longest-session", usage: "Machines end a session after this time, such as 12h or 90m; 'none' for no end"},
			},
			body: func(in values) (any, error) {
				properties := map[string]any{}
				for name, member := range map[string]string{"allow-password-grant": "allowPasswordGrant", "allow-device-code": "allowDeviceCode", "allow-preview-login": "allowPreviewLogin"} {
					if in.given(name) {
						properties[member] = in.on(name)
					}
				}
				if in.given("longest-session") {
					minutes, err := sessionMinutes(in.text("longest-session"))
					if err != nil {
						return nil, err
					}
					properties["longestSessionMinutes"] = minutes
				}
				for name, member := range map[string]string{"offline-user": "offlineUserSeconds", "offline-administrator": "offlineAdministratorSeconds"} {
					if in.given(name) {
						d, err := time.ParseDuration(in.text(name))
						if err != nil || d < time.Second || d%time.Second != 0 {
							return nil, usageError{"argument --" + name + ": '" + in.text(name) + "' is no time in whole seconds such as 24h or 90m"}
						}
						properties[member] = int(d / time.Second)
					}
				}
				if len(properties) == 0 {
					return nil, usageError{"nothing to change: give --allow-password-grant, --allow-device-code, --allow-preview-login, --longest-session, --offline-user or --offline-administrator"}
				}
				return map[string]any{"properties": properties}, nil
			},
		},
	}
}

// sessionMinutes reads how long a session may last.
func sessionMinutes(text string) (int, error) {
	if text == "none" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Minute || d%time.Minute != 0 {
		return 0, usageError{"argument --longest-session: '" + text + "' is no time in whole minutes such as 12h or 90m, and not none"}
	}
	return int(d / time.Minute), nil
}

// sessionRevoke ends one sign-in or all of them: two calls of two surfaces.
func (a *app) sessionRevoke() *cobra.Command {
	flags := []flag{{name: "id", usage: "Id of the sign-in, as the list shows it"}, {name: "all", kind: 'b', usage: "All of them, and everything that was issued until now"}, flagUser(),
		{name: "yes", short: "y", kind: 'b', usage: "Do not ask"}}
	cmd := leafFor("revoke", "End a sign-in, with its tokens and certificates.", flags, func(ctx context.Context, in values) error {
		if in.on("all") == (in.text("id") != "") {
			return usageError{"give --id, or --all"}
		}
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		who := in.text("user")
		if !in.on("all") {
			call := client.Call{Method: http.MethodPost, Path: "/providers/Sallyport.Access/sessions/" + url.PathEscape(in.text("id")) + "/revoke", Query: url.Values{}}
			if who != "" {
				call.Query.Set("principal", who)
			}
			return do(ctx, s, call, nil)
		}
		if err := a.confirm(in.on("yes"), "Everything that was issued to "+cmp.Or(who, "you")+" ends, this sign-in too. Are you sure?"); err != nil {
			return err
		}
		path := "/me/revokeSignInSessions"
		if who != "" {
			path = "/users/" + url.PathEscape(who) + "/revokeSignInSessions"
		}
		return do(ctx, s, client.Call{Surface: client.Graph, Method: http.MethodPost, Path: path}, nil)
	})
	cmd.Long = "Ends a sign-in: the browser's session with the programs that signed in through it, or one program's. Certificates that rest on it open nothing from the next second on;\naccess tokens that were given out end within the hour. With --all everything ends that was issued until now."
	return cmd
}
