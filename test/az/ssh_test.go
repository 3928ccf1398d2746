//go:build e2e

package az

import (
	"database/sql"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	_ "modernc.org/sqlite" // the store, to make sign-ins older
)

// sshGroup has the machine that people log in to.
const sshGroup, sshMachine = "Ssh", "door"

// secureShell is somebody who uses az ssh.
type secureShell struct {
	*somebody
	t      *testing.T
	key    string // RSA, the one kind that the extension takes
	public string // address of the machine
}

// program runs ssh.py in az's own Python, as this person.
func (s secureShell) program(words ...string) result {
	path, err := filepath.Abs("ssh.py")
	if err != nil {
		s.t.Fatal(err)
	}
	return s.run(append([]string{"python", path}, words...)...)
}

// certificate gets one for the person's key and returns what ssh-keygen reads of it.
func (s secureShell) certificate() (file, shown string) {
	s.t.Helper()
	file = s.key + "-aadcert.pub"
	if r := s.program("cert", s.key+".pub", file); r.code != 0 {
		s.t.Fatalf("certificate: %s", r)
	}
	shown, err := output("ssh-keygen", "-L", "-f", file)
	if err != nil {
		s.t.Fatal(err)
	}
	return file, shown
}

// principal is the first of a certificate, lower-cased: whom az logs in as.
func principal(shown string) string {
	_, rest, _ := strings.Cut(shown, "Principals:")
	return strings.ToLower(strings.Fields(rest + " -")[0])
}

// login logs in with the stock ssh, with the options that az gives it.
func (s secureShell) login(file, as string) result {
	return s.run("ssh", s.public, "-l", as, "-i", s.key, "-o", "CertificateFile="+file, "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile="+s.config+"/known_hosts",
		"-o", "BatchMode=yes", "-o", "GSSAPIAuthentication=no", "echo in as $(id -un)")
}

// TestSSH is `az ssh`: the certificate through MSAL with the token cache that a
// real az login wrote, the requests of the extension as they were recorded, and the
// step-up that Conditional Access asks for.
func TestSSH(t *testing.T) {
	t.Parallel()
	a := admin()
	a.must(t, "group", "create", "-n", sshGroup, "-l", place)
	made := a.answer(t, "vm", "create", "-g", sshGroup, "-n", sshMachine, "--image", "UbuntuLTS", "--assign-identity", "--admin-username", "azureuser", "--generate-ssh-keys")
	s := secureShell{somebody: user(t, "shell"), t: t, public: text(made, "publicIpAddress")}
	a.must(t, "vm", "extension", "set", "-g", sshGroup, "--vm-name", sshMachine, "--publisher", "Microsoft.Azure.ActiveDirectory", "--name", "AADSSHLoginForLinux")
	a.must(t, "role", "assignment", "create", "--role", "Virtual Machine User Login", "--assignee", s.name, "--scope", strings.Split(text(made, "id"), "/providers/")[0])
	s.must(t, "login", "-u", s.name, "-p", s.password)
	s.key = s.config + "/id_rsa"
	if _, err := output("ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", s.key); err != nil {
		t.Fatal(err)
	}
	t.Run("Certificate", s.testCertificate)
	t.Run("Machine", s.testMachine)
	t.Run("StepUp", s.testStepUp)
	t.Run("Extension", s.testExtension)
	t.Run("Challenge", s.testChallenge)
}

// testCertificate: reference 11.1 to 11.5, and 7: one request for one key.
func (s secureShell) testCertificate(t *testing.T) {
	s.t = t
	// Before there is a certificate: MSAL would show that one as the token.
	if r := s.program("bearer"); r.code == 0 || r.out != "" || !strings.Contains(r.err, "AADSTS9002332") {
		t.Errorf("a bearer token for the SSH resource: %s", r)
	}
	file, shown := s.certificate()
	if as := principal(shown); as != s.name || !strings.Contains(shown, "ssh-rsa-cert-v01@openssh.com user certificate") || !strings.Contains(shown, "Valid: from ") {
		t.Errorf("%s", shown)
	}
	if r := s.login(file, s.name); r.code != 0 || strings.TrimSpace(r.out) != "in as "+s.name {
		t.Errorf("login with the certificate: %s", r)
	}
	if _, again := s.certificate(); again != shown {
		t.Errorf("MSAL does not find the certificate in its cache again:\n%s\n%s", shown, again)
	}
}

// testMachine: az ssh vm -g -n and az ssh config, reference 11.6 and 11.7.
func (s secureShell) testMachine(t *testing.T) {
	s.t = t
	r := s.program("find", strings.ToUpper(sshGroup), sshMachine)
	var found struct {
		Kinds               []string
		OS, Private, Public string
	}
	if r.code != 0 || json.Unmarshal([]byte(r.out), &found) != nil {
		t.Fatalf("find: %s", r)
	}
	if found.OS != "Linux" || found.Public != s.public || found.Private == "" || len(found.Kinds) != 1 {
		t.Errorf("%+v; created at %s", found, s.public)
	}
	if r := s.program("find", sshGroup, "nobody"); r.code == 0 || !strings.Contains(r.err, "was not found") {
		t.Errorf("a machine that is not there: %s", r)
	}
	file, shown := s.certificate()
	config := s.config + "/ssh_config"
	block := "Host " + sshGroup + "-" + sshMachine + "\n\tUser " + principal(shown) + "\n\tHostName " + found.Public + "\n\tCertificateFile \"" + file + "\"\n\tIdentityFile \"" + s.key + "\"\n"
	if err := os.WriteFile(config, []byte(block), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := s.run("ssh", "-F", config, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile="+s.config+"/known_hosts", "-o", "BatchMode=yes", sshGroup+"-"+sshMachine, "id -un"); r.code != 0 || strings.TrimSpace(r.out) != s.name {
		t.Errorf("login through the configuration of az ssh config: %s", r)
	}
}

// older makes every sign-in of a person as much older, in the store.
func (s secureShell) older(by time.Duration) {
	s.t.Helper()
	db, err := sql.Open("sqlite", "file:"+s.w.path("server/store.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	for table, column := range map[string]string{"refresh_family": "principal", "signin_session": "user_id"} {
		if _, err := db.Exec(`UPDATE `+table+` SET signed_in_at = signed_in_at - $1 WHERE `+column+` = (SELECT id FROM directory_user WHERE upn = $2)`, by.Microseconds(), s.name); err != nil {
			s.t.Fatal(err)
		}
	}
}

// testStepUp: reference 12.1 with a real browser. The policy is about this person
// alone: the tests beside this one sign in, too.
func (s secureShell) testStepUp(t *testing.T) {
	s.t = t
	a := admin()
	object := a.must(t, "ad", "user", "show", "--id", s.name, "--query", "id", "-o", "tsv")
	policies := theWorld.url + "/v1.0/identity/conditionalAccess/policies"
	made := a.answer(t, "rest", "--resource", theWorld.url+"/", "--method", "post", "--url", policies, "--body", `{"displayName": "Fresh sign-ins", "state": "enabled",
		"conditions": {"clientAppTypes": ["all"], "users": {"includeUsers": ["`+object+`"]}, "applications": {"includeApplications": ["ce6ff14a-7fdc-4685-bbe0-f6afdfcfa8e0"]}},
		"sessionControls": {"signInFrequency": {"isEnabled": true, "frequencyInterval": "everyTime"}}}`)
	s.older(6 * time.Minute)
	s.must(t, "group", "list") // the policy is about certificates alone
	t.Cleanup(func() {
		a.must(t, "rest", "--resource", theWorld.url+"/", "--method", "delete", "--url", policies+"/"+text(made, "id"))
	})

	opened, script := s.config+"/opened", s.config+"/browser"
	if err := os.WriteFile(script, []byte("#!/bin/sh\nprintf %s \"$1\" >"+opened+".new && mv "+opened+".new "+opened+"\n"), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	with := *s.somebody
	with.env = append(append([]string{}, with.env...), "BROWSER="+script+" %s &")
	fresh := secureShell{somebody: &with, t: t, public: s.public, key: s.config + "/id_new"} // MSAL has a certificate of the other key
	if _, err := output("ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", fresh.key); err != nil {
		t.Fatal(err)
	}
	file := fresh.key + "-aadcert.pub"
	done := make(chan result, 1)
	go func() { done <- fresh.program("cert", fresh.key+".pub", file) }()
	page := waitFile(t, opened, done)
	if !strings.Contains(page, "login_hint=") || !strings.Contains(page, "CheckMyAccess") {
		t.Errorf("the page that MSAL opens: %s", page)
	}
	if err := chromedp.Do(chromium(t), chromedp.Navigate(page), s.signIn(), chromedp.WaitNotPresent("#password")); err != nil {
		t.Fatalf("browser: %v", err)
	}
	r := <-done
	if r.code != 0 || !strings.Contains(r.err, "AADSTS70043") || !strings.Contains(r.err, "Fresh sign-ins") {
		t.Fatalf("the step-up: %s", r)
	}
	if r := fresh.login(file, s.name); r.code != 0 || strings.TrimSpace(r.out) != "in as "+s.name {
		t.Errorf("login with the certificate of the step-up: %s", r)
	}
	// The refresh token of the step-up carries the sign-in: no page for the next key.
	if err := os.Remove(opened); err != nil {
		t.Fatal(err)
	}
	third := fresh
	third.key = s.config + "/id_third"
	if _, err := output("ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", third.key); err != nil {
		t.Fatal(err)
	}
	third.certificate()
	if _, err := os.Stat(opened); err == nil {
		t.Error("a page was opened although the sign-in is fresh")
	}
	s.sallyAgain()
}

// sally runs our own client as the same person; nothing of it is a terminal.
func (s secureShell) sally(words ...string) result {
	return s.run(append([]string{s.w.sally}, words...)...)
}

func (s secureShell) sallyIn() {
	s.t.Helper()
	if r := s.sally("login", "--server", s.w.address, "-u", s.name, "-p", s.password); r.code != 0 {
		s.t.Fatalf("sally login: %s", r)
	}
}

// sallyAgain: our own client under the same policy, in a place without a page to
// open: the sentence names the command that helps, and it does.
func (s secureShell) sallyAgain() {
	s.t.Helper()
	s.sallyIn()
	ssh := []string{"ssh", "vm", "-g", sshGroup, "-n", sshMachine, "--", "id", "-un"}
	if r := s.sally(ssh...); r.code != 0 || strings.TrimSpace(r.out) != s.name {
		s.t.Errorf("sally ssh vm with a fresh sign-in: %s", r)
	}
	s.older(6 * time.Minute)
	r := s.sally(ssh...)
	again := "sally login --scope https://pas.windows.net/CheckMyAccess/Linux/.default"
	if r.code != 1 || !strings.Contains(r.err, "AADSTS70043") || !strings.Contains(r.err, again) {
		s.t.Errorf("sally ssh vm with an old sign-in: %s", r)
	}
	if r := s.sally(append(strings.Fields(again)[1:], "--server", s.w.address, "-u", s.name, "-p", s.password)...); r.code != 0 {
		s.t.Errorf("%s: %s", again, r)
	}
	if r := s.sally(ssh...); r.code != 0 || strings.TrimSpace(r.out) != s.name {
		s.t.Errorf("sally ssh vm after signing in again: %s", r)
	}
}

// testChallenge: Resource Manager refuses a token that was withdrawn with a claims
// challenge, which az answers with a new token or, here, with what the directory
// says (reference 12.3).
func (s secureShell) testChallenge(t *testing.T) {
	s.t = t
	s.must(t, "group", "list") // a token is in the cache
	admin().must(t, "rest", "--resource", theWorld.url+"/", "--method", "post", "--url", theWorld.url+"/v1.0/users/"+s.name+"/revokeSignInSessions")
	s.fails(t, 1, []string{"AADSTS50173", "az login"}, "group", "list")
}

// testExtension runs the official extension where somebody has it: no registry
// that tests reach does.
func (s secureShell) testExtension(t *testing.T) {
	s.t = t
	given := os.Getenv("SALLY_AZ_SSH_EXTENSION")
	if given == "" {
		t.Skip("SALLY_AZ_SSH_EXTENSION names no folder or wheel of az's ssh extension: its requests were replayed, itself was not run")
	}
	folder := given
	if strings.HasSuffix(given, ".whl") { // with the wheels that it needs beside it
		folder = s.config + "/extensions"
		wheels, err := filepath.Glob(filepath.Dir(given) + "/*.whl")
		if err != nil || shell("mkdir -p "+folder+"/ssh") != nil {
			t.Fatal(err)
		}
		for _, w := range wheels {
			if _, err := output("python3", "-m", "zipfile", "-e", w, folder+"/ssh"); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.env = append(s.env, "AZURE_EXTENSION_DIR="+folder)
	options := []string{"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=" + s.config + "/known_hosts", "-o", "BatchMode=yes", "echo in as $(id -un)"}
	for name, words := range map[string][]string{"by name": {"-g", sshGroup, "-n", sshMachine}, "by address": {"--ip", s.public}} {
		// az exits 0 whatever ssh does.
		if r := s.az(append(append(append([]string{"ssh", "vm"}, words...), "--"), options...)...); !strings.Contains(r.out, "in as "+s.name) {
			t.Errorf("az ssh vm %s: %s", name, r)
		}
	}
	s.must(t, "ssh", "cert", "--file", s.config+"/own-cert.pub", "--public-key-file", s.key+".pub")
	s.must(t, "ssh", "config", "--file", s.config+"/own_config", "-g", sshGroup, "-n", sshMachine, "--overwrite")
	if r := s.run(append([]string{"ssh", "-F", s.config + "/own_config", sshGroup + "-" + sshMachine}, options...)...); !strings.Contains(r.out, "in as "+s.name) {
		t.Errorf("az ssh config: %s", r)
	}
}
