package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// wrong is a command line with a mistake: its exit code, and what is said of it.
type wrong struct {
	line string
	code int
	says string
}

// refuses runs command lines that must be refused before anything is written.
func (p *person) refuses(f *fake, list []wrong) {
	p.t.Helper()
	for _, w := range list {
		f.log = nil
		p.fails(w.code, []string{w.says}, strings.Fields(w.line)...)
		for _, sent := range f.log {
			if !strings.HasPrefix(sent, "GET ") {
				p.t.Errorf("sally %s sent %s", w.line, sent)
			}
		}
	}
}

// TestWrong_Machines: mistakes in command lines about machines, and about who gets
// into them.
func TestWrong_Machines(t *testing.T) {
	f, p := signedIn(t)
	f.facts("")
	machinesOf(f)
	const create = "vm create -g RG -n myVM --image UbuntuLTS --admin-username x "
	p.refuses(f, []wrong{
		{"resource list --resource-type virtualMachines", 1, "Malformed resource-type: --resource-type=<namespace>/<resource-type> expected."},
		{"resource move --destination-group To --ids /subscriptions/" + subID, 2, "is no resource of a resource group"},
		{"resource move --destination-group To --ids " + vmPath + " " + strings.Replace(vmPath, "RG", "Other", 1), 2, "all resources should be under the same group"},
		{"vm show -g RG -n myVM --expand everything", 2, "argument --expand: 'everything' is not inventory"},
		{"vm identity assign -g RG -n myVM --identities mine --role Reader --scope " + rg, 1, "usage error: --role and --scope are for the virtual machine's own identity, [system]"},
		{"vm identity remove -g RG -n myVM --identities mine", 1, "userAssignedIdentities/mine' is not an identity of myVM. See: sally vm identity show -g RG -n myVM"},
		{"group show -n a/b", 1, "(InvalidPath) argument --name: 'a/b' is not a valid name"},
		{"group show --name=", 1, "argument --name: a name is not empty"},
		{"vm identity assign -g RG -n myVM --role Reader", 2, "usage error: --role and --scope go together"},
		{"vmss identity assign -g RG -n set --scope " + rg, 2, "usage error: --role and --scope go together"},
		{"vm extension set -g RG --vm-name myVM -n E --publisher P --version 1.0 --settings {", 1, "argument --settings: the value is not JSON"},
		{"vm extension set -g RG --vm-name myVM -n E --publisher P --version 1.0 --protected-settings x", 1, "argument --protected-settings: the value is not JSON"},
		{"vm extension set -g RG --vm-name myVM -n E --publisher P", 1, "no version of the extension E by P was found in southcentralus. Check publisher and name"},
		{"vm extension image list", 2, "the following arguments are required: --location/-l"},
		{create + "--role Reader --scope " + rg, 1, "usage error: --role and --scope need --assign-identity"},
		{create + "--assign-identity --role Reader", 2, "usage error: --role and --scope go together"},
		{create + "--ssh-key-values nonsense", 1, "argument --ssh-key-values: 'nonsense' is neither an OpenSSH public key nor a file that holds one"},
		{create, 2, "An RSA or Ed25519 public key is needed: give --ssh-key-values, or --generate-ssh-keys"},
		{"vmss create -g RG -n set --image UbuntuLTS --load-balancer lb", 2, "argument --load-balancer: there are no load balancers here"},
		{"vmss create -g RG -n set --image UbuntuLTS --orchestration-mode Loose", 2, "argument --orchestration-mode: 'Loose' is not Uniform"},
		{"vmss create -g RG -n set --image UbuntuLTS --instance-count some", 2, "argument --instance-count: 'some' is not a number of instances"},
		{"vmss scale -g RG -n set --new-capacity some", 1, "argument --new-capacity: 'some' is not a number of instances"},
		{"machine update -g RG -n arc1", 2, "nothing to change: give --tags"},
		{"machine extension create -g RG --machine-name arc1 -n E -l here --settings {", 2, "argument --settings: the value is not JSON"},
		{"machine upgrade create -n u --version 1.0 --ring all --max-failures few", 2, "--max-failures: 'few' is no number of machines"},
		{"machine upgrade create -n u --version 1.0 --ring all --soak long", 2, "--soak: 'long' is no time in whole seconds, for example 90s, 30m or 2h"},
		{"access explain --ids " + vmPath + " " + joinedPath, 2, "argument --ids: one machine at a time"},
		{"access explain --ids " + vmPath + " -g RG", 2, "usage error: give --ids, or --resource-group and --machine"},
		{"ssh vm -n myVM -g RG --resource-type Microsoft.Web/sites", 2, "argument --resource-type: 'Microsoft.Web/sites' is neither Microsoft.Compute/virtualMachines nor " + joinedType},
		{"ssh vm -n myVM -g RG -c cert.pub", 2, "usage error: --certificate-file goes with --local-user"},
	})
}

// TestWrong_Names: what has a name already, or has it not.
func TestWrong_Names(t *testing.T) {
	f, p := signedIn(t)
	f.routes["GET /v1.0/applications"] = `{"value":[{"id":"1","displayName":"X"},{"id":"2","displayName":"X"}]}`
	f.routes["GET /v1.0/groups"] = `{"value":[{"id":"1"},{"id":"2"}]}`
	f.routes["GET "+setPath+"/extensions"] = `{"value":[{"name":"F"}]}`
	p.refuses(f, []wrong{
		{"ad app create --display-name X", 1, "more than one application has the display name 'X'. Remove the others first: sally ad app delete --id ID"},
		{"ad group create --display-name X --mail-nickname x", 1, "more than one group has this display name and mail nickname already. Delete them first, or make another one: --force"},
		{"vmss extension delete -g RG --vmss-name S -n E", 1, "the model of scale set S has no extension E. See: sally vmss extension list -g RG --vmss-name S"},
		{"account show --only-show-errors --debug", 1, "--only-show-errors can't be used together with --debug or --verbose"},
	})
	f.routes["GET /v1.0/applications"] = `{"value":[{"id":"1","displayName":"X"},{"id":"2","displayName":"x"}]}`
	f.routes["PATCH /v1.0/applications/1"], f.routes["GET /v1.0/applications/1"] = "204 ", `{"id":"1"}`
	for line, says := range map[string]string{
		"ad app create --display-name X":                    "Found an existing application instance: (id) 1. We will patch it.",
		"logout --username eve@contoso.test":                "eve@contoso.test is not signed in here. Run: sally account list",
		"vmss delete-instances -g RG -n S --instance-ids 1": "(ResourceNotFound)",
	} {
		if r := p.run(strings.Fields(line)...); r.code != 0 || !strings.Contains(r.err, "WARNING: "+says) {
			t.Errorf("sally %s: %v", line, r)
		}
	}
}

// TestWrong_Everything: mistakes in command lines about all else.
func TestWrong_Everything(t *testing.T) {
	f, p := signedIn(t)
	f.routes["GET "+rg+definitionsURL] = `{"value":[]}`
	const give, list = "role assignment create --role Reader ", "role assignment list "
	p.refuses(f, []wrong{
		{give + "--assignee " + alice, 2, "the following arguments are required: --scope"},
		{give + "--scope " + rg, 1, "usage error: --assignee STRING | --assignee-object-id GUID"},
		{give + "--scope " + rg + " -g RG --assignee " + alice, 2, "usage error: --scope and --resource-group go one without the other"},
		{give + "--scope " + rg + " --assignee " + alice + " --assignee-object-id " + aliceID, 1, "usage error: --assignee and --assignee-object-id go one without the other"},
		{give + "--scope " + rg + " --assignee " + alice + " --assignee-principal-type User", 2, "usage error: --assignee-principal-type goes with --assignee-object-id"},
		{"role assignment create --role Nobody --scope " + rg + " --assignee-object-id " + aliceID, 1, "Role 'Nobody' doesn't exist. Run: sally role definition list -o table"},
		{list + "--all -g RG", 1, "usage error: --all is of the whole subscription; leave --scope and --resource-group out"},
		{list + "--assignee " + alice + " --assignee-object-id " + aliceID, 1, "Usage error: Provide only one of --assignee or --assignee-object-id."},
		{"rest --url /x --method shout", 2, "argument --method: 'shout' is not a method"},
		{"rest --url /x --headers a", 2, "argument --headers: 'a' is not KEY=VALUE"},
		{"rest --url /x --uri-parameters =b", 2, "argument --uri-parameters: '=b' is not KEY=VALUE"},
		{"account get-access-token --scope a b", 2, "argument --scope: one scope at a time"},
		{"account get-access-token --resource-type mail", 2, "argument --resource-type: choose arm or ms-graph"},
		{"account get-access-token --tenant " + appID, 1, "the account is of tenant " + tenantID + ", not " + appID + ". Run: sally login --tenant " + appID},
		{"account session revoke", 2, "give --id, or --all"},
		{"tenant update --longest-session soon", 2, "argument --longest-session: 'soon' is no time in whole minutes such as 12h or 90m, and not none"},
		{"tenant update --offline-user 10ms", 2, "argument --offline-user: '10ms' is no time in whole seconds such as 24h or 90m"},
		{"tenant update", 2, "nothing to change: give --allow-password-grant"},
		{"audit retention update --days some -y", 2, "argument --days: 'some' is not a number"},
		{"audit tail -n 100000", 2, "argument --lines: '100000' is not a number up to"},
		{"session list -n myVM", 2, "--name and --resource-group belong together"},
		{"session list --machine " + machineID + " --ids " + vmPath, 2, "give --machine, or --name with --resource-group, or --ids"},
		{"session show", 2, "give the id of a session, as the list shows it"},
		{"cert show", 2, "give --serial or --key-id"},
		{"cert show --serial 1/2", 2, "'1/2' is neither a serial number nor a key id"},
		{"ad user update --id " + alice, 1, "nothing to change: give at least one property"},
		{"ad sp create-for-rbac --years 10", 2, "argument --years: choose 1 to 9"},
		{"ad app permission grant --id a --api b --scope c --consent-type Principal", 2, "usage error: --consent-type AllPrincipals, or --consent-type Principal --principal-id ID"},
		{"repository script --type snap", 2, "--type is apt or dnf, not 'snap'"},
		{"login --identity -u x", 2, "usage error: --identity goes without --username, --password, --service-principal and --use-device-code"},
		{"login --service-principal", 1, "usage error: --service-principal needs --username APPID and --password"},
	})
}

// TestWrong_Folders: the home folder is none, or holds half of a key.
func TestWrong_Folders(t *testing.T) {
	f, p := signedIn(t)
	f.facts("")
	machinesOf(f)
	create := strings.Fields("vm create -g RG -n myVM --image UbuntuLTS --admin-username x --generate-ssh-keys")
	home, file := p.env["HOME"], filepath.Join(p.dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p.env["HOME"] = ""
	p.fails(2, []string{"argument --generate-ssh-keys: HOME is not set"}, create...)
	p.env["HOME"] = file
	p.fails(1, []string{"cannot make the folder " + file + "/.ssh: not a directory"}, create...)
	p.env["HOME"] = home
	key := filepath.Join(home, ".ssh", "id_ed25519")
	if err := os.MkdirAll(filepath.Dir(key), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.fails(1, []string{key + " exists without its public half and is not replaced. Run: ssh-keygen -y -f " + key + " > " + key + ".pub"}, create...)
	if left, err := os.ReadFile(key); err != nil || string(left) != "half" {
		t.Errorf("%q %v", left, err)
	}
	p.fails(1, []string{"cannot make the folder " + file + "/keys: not a directory"}, "ssh", "config", "--file", filepath.Join(p.dir, "cfg"), "-n", "myVM", "-g", "RG", "--keys-destination-folder", file+"/keys")
	t.Setenv("TMPDIR", file)
	p.fails(1, []string{"no folder for temporary keys can be made", "Set TMPDIR to a folder that is writable."}, "ssh", "vm", "-n", "myVM", "-g", "RG")
	p.fails(1, []string{"no folder for the agent's socket can be made", "Give --socket PATH."}, "ssh", "agent")
	delete(p.env, "HOME")
	delete(p.env, "SALLY_CONFIG_DIR")
	p.fails(1, []string{"neither SALLY_CONFIG_DIR nor HOME is set. Set one of them."}, "account", "list")
	foreign := "/" // root's
	if os.Geteuid() == 0 {
		foreign = p.dir
		if err := os.Chown(foreign, 1, 1); err != nil {
			t.Fatal(err)
		}
	}
	p.env["SALLY_CONFIG_DIR"] = foreign
	p.fails(1, []string{"the configuration folder " + foreign + " belongs to another user. Set SALLY_CONFIG_DIR to a folder of your own."}, "account", "list")
}
