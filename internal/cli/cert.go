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

// certRevoke revokes one certificate, or with the user all of them: the latter
// is the time before which nothing of the user counts, which Graph sets.
func (a *app) certRevoke() *cobra.Command {
	flags := []flag{serialFlag(), keyIDFlag(), {name: "user", usage: "Everything that was issued to this user until now: user principal name or object id"}, {name: "yes", short: "y", kind: 'b', usage: "Do not ask"}}
	cmd := leafFor("revoke", "Revoke a certificate, or everything of a user: nobody logs in with it, and its sessions end.", flags, func(ctx context.Context, in values) error {
		who := in.text("user")
		path := "/users/" + url.PathEscape(who) + "/revokeSignInSessions"
		if who == "" {
			var err error
			if path, err = namedCertificate(in); err != nil {
				return err
			}
		} else if in.text("serial")+in.text("key-id") != "" {
			return usageError{"give one of --serial, --key-id and --user"}
		}
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		if who != "" {
			if err := a.confirm(in.on("yes"), "Everything that was issued to "+who+" until now ends, sign-ins too. Are you sure?"); err != nil {
				return err
			}
			return do(ctx, s, client.Call{Surface: client.Graph, Method: http.MethodPost, Path: path}, nil)
		}
		body, err := s.Do(ctx, client.Call{Method: http.MethodPost, Path: path + "/revoke"})
		if err != nil {
			return err
		}
		return a.print(json.RawMessage(body), certificateColumns()...)
	})
	cmd.Long = "By serial or key id it revokes one certificate: machines refuse it from the next second on, and end the sessions that it opened and no others.\nYour own you may always revoke; those of others need the directory role that ends sign-ins (User Administrator), or\nSallyport.Access/certificates/revoke/action at the root management group. Who is still signed in gets another one: to prevent that,\nrun: sally account session revoke. With --user everything ends that was issued to the user until now, sign-ins too."
	return cmd
}
