//go:build e2e

package az

import (
	"os"
	"strings"
	"testing"
)

// scopes of each cloud's SSH certificates, as the ssh extension has them.
func scopes() map[string]string {
	return map[string]string{"AzureCloud": "https://pas.windows.net/CheckMyAccess/Linux/.default", "AzureUSGovernment": "https://pasff.usgovcloudapi.net/CheckMyAccess/Linux/.default", "AzureChinaCloud": "https://pas.chinacloudapi.cn/CheckMyAccess/Linux/.default"}
}

// TestClouds: a server that presents itself as one of Azure's other clouds, with az
// set to that cloud by the script that is printed for it. The global one is what all
// other tests are about.
func TestClouds(t *testing.T) {
	t.Parallel()
	side(t, map[string]func(*testing.T){
		"Global": func(t *testing.T) { othersAreRefused(t, admin(), "AzureCloud") },
		"Government": func(t *testing.T) {
			inCloud(t, 80, "AzureUSGovernment", "https://management.core.usgovcloudapi.net/", machineInCloud)
		},
		"China": func(t *testing.T) {
			inCloud(t, 160, "AzureChinaCloud", "https://management.core.chinacloudapi.cn/", nil)
		},
	})
}

// othersAreRefused: the scopes of other clouds' certificates are nobody's here, and
// there is no bearer token for the own one.
func othersAreRefused(t *testing.T, a *somebody, own string) {
	t.Helper()
	for name, scope := range scopes() {
		code := "AADSTS70011"
		if name == own {
			code = "AADSTS9002332"
		}
		a.fails(t, 1, []string{code}, "account", "get-access-token", "--scope", scope)
	}
}

// inCloud makes a server that is of a cloud, and drives it with az.
func inCloud(t *testing.T, from int, name, management string, more func(*testing.T, *somebody, string)) {
	dir, err := os.MkdirTemp("/var/tmp", "sallyport-az-")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{dir: dir, turns: theWorld.turns, cloud: name, from: from}
	t.Cleanup(w.close)
	if err := w.start(); err != nil { // prints the set-up, runs it and signs in
		t.Fatal(err)
	}
	a := w.somebody("admin", adminUPN, adminPass)
	if shown := a.answer(t, "account", "show"); text(shown, "environmentName") != name || text(shown, "user", "name") != adminUPN {
		t.Errorf("account show: %v", shown)
	}
	if token := a.answer(t, "account", "get-access-token", "--resource", management); text(token, "tokenType") != "Bearer" {
		t.Errorf("a token for %s: %v", management, token)
	}
	a.fails(t, 1, []string{"AADSTS500011"}, "account", "get-access-token", "--resource", "https://management.core.windows.net/")
	othersAreRefused(t, a, name)
	key := a.config + "/id_rsa"
	if _, err := output("ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", key); err != nil {
		t.Fatal(err)
	}
	s := secureShell{somebody: a, t: t, key: key}
	if _, shown := s.certificate(); principal(shown) != adminUPN {
		t.Errorf("certificate: %s", shown)
	}
	page, err := output("curl", "-s", "--cacert", a.config+"/sallyport-ca.pem", "--resolve", host+":443:"+w.ip, w.url+"/device")
	if err != nil || !strings.Contains(page, name) {
		t.Errorf("the sign-in page does not name %s: %v %s", name, err, page)
	}
	// Our own client follows.
	if r := a.run(w.sally, "login", "--server", w.address, "-u", a.name, "-p", a.password); r.code != 0 {
		t.Fatal(r)
	}
	if r := a.run(w.sally, "ssh", "cert", "--public-key-file", key+".pub", "--file", a.config+"/own-cert.pub"); r.code != 0 {
		t.Errorf("sally ssh cert: %s", r)
	}
	if more != nil {
		more(t, a, key)
	}
}

// machineInCloud: the article's machine, its metadata, and a login with the
// certificate of that cloud's scope.
func machineInCloud(t *testing.T, a *somebody, key string) {
	made := a.answer(t, "vm", "create", "-g", group, "-n", "cloudVM", "--image", "UbuntuLTS", "--assign-identity", "--admin-username", "azureuser", "--generate-ssh-keys")
	a.must(t, "vm", "extension", "set", "-g", group, "--vm-name", "cloudVM", "--publisher", "Microsoft.Azure.ActiveDirectory", "--name", "AADSSHLoginForLinux")
	a.must(t, "role", "assignment", "create", "--role", "Virtual Machine Administrator Login", "--assignee", a.name, "--scope", text(made, "id"))
	if is := metadata(t, processOf(t, "cloudVM"), "instance/compute/azEnvironment?api-version=2021-02-01&format=text"); is != "AzureUSGovernmentCloud" {
		t.Errorf("azEnvironment is %q", is)
	}
	s := secureShell{somebody: a, t: t, key: key, public: text(made, "publicIpAddress")}
	file, _ := s.certificate()
	if r := s.login(file, a.name); r.code != 0 || strings.TrimSpace(r.out) != "in as "+a.name {
		t.Errorf("login: %s", r)
	}
}
