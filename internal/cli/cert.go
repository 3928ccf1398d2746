package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/cli/client"
	"sallyport/internal/cli/output"
)

const certificatesURL = "/providers/Sallyport.Access/certificates"

func certificateColumns() []output.Column {
	return columns("Who=properties.principalName || properties.principalId", "IssuedAt=properties.issuedAt", "Ends=properties.ends", "State=properties.state", "Machine=properties.machineId", "Address=properties.address",
		"KeyId=properties.keyId", "Serial=properties.serial")
}

func serialFlag() flag {
	return flag{name: "serial", usage: "Serial number of the certificate, decimal"}
}

func keyIDFlag() flag {
	return flag{name: "key-id", usage: "Key id of the certificate, which is the correlation id of its request"}
}

func certListVerb() verb {
	return verb{
		path: "cert list", short: "List the certificates that are valid.", method: http.MethodGet, url: certificatesURL, list: true, columns: certificateColumns(),
		flags: []flag{flagUser(), {name: "all", kind: 'b', usage: "Everybody's"}}, query: []string{"principal={user}", "all@all=true"},
	}
}

// namedCertificate is the path of the one certificate that the flags name.
func namedCertificate(in values) (string, error) {
	serial, keyID := in.text("serial"), strings.ToLower(in.text("key-id"))
	if (serial == "") == (keyID == "") {
		return "", usageError{"give --serial or --key-id"}
	}
	name := serial + keyID
	if strings.ContainsAny(name, "/?#%\\.") {
		return "", usageError{"'" + name + "' is neither a serial number nor a key id"}
	}
	return certificatesURL + "/" + url.PathEscape(name), nil
}

func (a *app) certShow() *cobra.Command {
	return leafFor("show", "Show a certificate: to whom it was issued, when, for which machine and until when.", []flag{serialFlag(), keyIDFlag()}, func(ctx context.Context, in values) error {
		path, err := namedCertificate(in)
		if err != nil {
			return err
		}
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		body, err := s.Do(ctx, client.Call{Method: http.MethodGet, Path: path})
		if err != nil {
			return err
		}
		return a.print(json.RawMessage(body), certificateColumns()...)
	})
}

// certRevoke revokes one certificate, or all of somebody: that is the time before
// which nothing of a principal counts, which Graph sets for users and Resource
// Manager for everybody.
func (a *app) certRevoke() *cobra.Command {
	flags := []flag{serialFlag(), keyIDFlag(), {name: "user", usage: "Everything that was issued to this user until now: user principal name or object id"},
		{name: "assignee", usage: "Everything that was issued to this user, service principal or managed identity until now: name, application id, object id, or the resource id of the machine whose identity it is"},
		{name: "yes", short: "y", kind: 'b', usage: "Do not ask"}}
	cmd := leafFor("revoke", "Revoke a certificate, or everything of a user, service principal or managed identity: nobody logs in with it, and its sessions end.", flags, func(ctx context.Context, in values) error {
		user, assignee := in.text("user"), in.text("assignee")
		who, one := user+assignee, in.text("serial")+in.text("key-id")
		if who != "" && (one != "" || user != "" && assignee != "") {
			return usageError{"give one of --serial, --key-id, --user and --assignee"}
		}
		if who != "" {
			return a.certRevokeAll(ctx, user, assignee, in.on("yes"))
		}
		path, err := namedCertificate(in)
		if err != nil {
			return err
		}
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		body, err := s.Do(ctx, client.Call{Method: http.MethodPost, Path: path + "/revoke"})
		if err != nil {
			return err
		}
		return a.print(json.RawMessage(body), certificateColumns()...)
	})
	cmd.Long = "By serial or key id it revokes one certificate: machines refuse it from the next second on, and end the sessions that it opened and no others.\nYour own you may always revoke; those of others need the directory role that ends sign-ins (User Administrator), or\nSallyport.Access/certificates/revoke/action at the root management group. Who is still signed in gets another one: to prevent that,\nrun: sally account session revoke. With --user everything ends that was issued to the user until now, sign-ins too. With --assignee the same\nends for a service principal or a managed identity (for that one, the action at its resource is enough); what proves it stays, so\ndisable it too, or take its credentials away, when they may be in other hands."
	return cmd
}

// certRevokeAll ends everything of a user, or of whoever --assignee names.
func (a *app) certRevokeAll(ctx context.Context, user, assignee string, yes bool) error {
	s, err := a.session(ctx)
	if err != nil {
		return err
	}
	call := client.Call{Surface: client.Graph, Method: http.MethodPost, Path: "/users/" + url.PathEscape(user) + "/revokeSignInSessions"}
	if assignee != "" {
		id, kind, err := resolve(ctx, s, assignee)
		if err != nil {
			return err
		}
		if kind == "Group" {
			return usageError{"'" + assignee + "' is a group: name a user, a service principal or a managed identity"}
		}
		call = client.Call{Method: http.MethodPost, Path: certificatesURL + "/revokeAll", Query: url.Values{"principal": {id}}}
	}
	if err := a.confirm(yes, "Everything that was issued to "+user+assignee+" until now ends, sign-ins too. Are you sure?"); err != nil {
		return err
	}
	return do(ctx, s, call, nil)
}
