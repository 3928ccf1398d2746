package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/cloud"
)

// azProfile is the cloud profile in which Debian 12's azure-cli works with the
// SDKs that Debian packages beside it.
const azProfile = "2020-09-01-hybrid"

// shellSafe is a server's URL as the script puts it between single quotes.
var shellSafe = regexp.MustCompile(`^https://[A-Za-z0-9.:\[\]-]+$`)

// printAzSetup prints what points the Azure CLI at the server. It asks only for
// what everybody may have, so that a sign-in is not needed.
func (a *app) printAzSetup() *cobra.Command {
	flags := []flag{
		{name: "server", usage: "Server, https://HOST#THUMBPRINT; without it the one that is signed in to"},
		{name: "debian", kind: 'b', usage: "For Debian 12's azure-cli 2.45.0"},
	}
	cmd := leafFor("print-az-setup", "Print a shell script that points the Azure CLI at the server.", flags, func(ctx context.Context, in values) error {
		s, err := a.serverOf(ctx, in.text("server"))
		if err != nil {
			return err
		}
		if !shellSafe.MatchString(s.URL()) {
			return usageError{"the server's URL '" + s.URL() + "' cannot be put into a script"}
		}
		root, err := s.ShownRoot(ctx)
		if err != nil {
			return err
		}
		script, err := azScript(s.URL(), s.Cloud().Name, root, in.on("debian"))
		if err != nil {
			return err
		}
		_, err = fmt.Fprint(a.cfg.Stdout, script)
		return err
	})
	cmd.Example = "  eval \"$(sally cloud print-az-setup)\"\n  az login"
	return cmd
}

// azScript is a script for a shell that goes on with the exported variable. az
// itself takes no CA for one server, so the system's roots go into the bundle,
// too: az reads other servers through it.
func azScript(url, name string, root []byte, debian bool) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "# Points the Azure CLI at %s. Run it as: eval \"$(sally cloud print-az-setup)\"\n", url)
	if root != nil {
		b.WriteString("mkdir -p \"${AZURE_CONFIG_DIR:-$HOME/.azure}\"\n")
		b.WriteString(here(`"${AZURE_CONFIG_DIR:-$HOME/.azure}/sallyport-ca.pem"`, string(root)))
		b.WriteString("for roots in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do\n" +
			"  [ ! -r \"$roots\" ] || { cat \"$roots\" >>\"${AZURE_CONFIG_DIR:-$HOME/.azure}/sallyport-ca.pem\"; break; }\ndone\n" +
			"export REQUESTS_CA_BUNDLE=\"${AZURE_CONFIG_DIR:-$HOME/.azure}/sallyport-ca.pem\" # in every shell that runs az\n")
	}
	if debian {
		config, err := json.Marshal(map[string]any{"profile": azProfile, "endpoints": map[string]string{
			"activeDirectory": url + "/adfs", "activeDirectoryResourceId": url + "/arm", "activeDirectoryGraphResourceId": url + "/",
			"microsoftGraphResourceId": url + "/", "resourceManager": url, "management": url + "/", "vmImageAliasDoc": url + "/aliases.json",
		}})
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "az cloud update --name %s --only-show-errors --cloud-config '%s'\n", name, config)
		b.WriteString(active(name))
		return b.String(), nil
	}
	b.WriteString("az config set --only-show-errors core.instance_discovery=false\n")
	fmt.Fprintf(&b, "az cloud update --name %s --only-show-errors --endpoint-resource-manager '%s'\n", name, url)
	b.WriteString(active(name))
	return b.String(), nil
}

// active chooses the cloud that az works with; the global one is its own choice.
func active(name string) string {
	if name == cloud.Global {
		return ""
	}
	return "az cloud set --name " + name + " --only-show-errors\n"
}
