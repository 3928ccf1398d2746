package cli

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/audit/proof"
	"sallyport/internal/machine/protocol"
)

// TestAnswers_CannotBeRead: a server that answers with something else ends no
// command in a riddle.
func TestAnswers_CannotBeRead(t *testing.T) {
	const subscriptions, start = "GET /subscriptions", "POST " + vmPath + "/start"
	groups := "GET /subscriptions/" + subID + "/resourceGroups"
	for says, c := range map[string]struct{ route, answer, line string }{
		"the server's answer cannot be read":                                                         {"GET " + vmPath + accessMember, "nonsense", "ssh vm -n myVM -g RG"},
		"the server's list cannot be read":                                                           {groups, "nonsense", "group list"},
		"the server's list does not end":                                                             {groups, `{"value":[],"nextLink":"` + strings.TrimPrefix(groups, "GET ") + `?page=2"}`, "group list"},
		"the server's list of subscriptions cannot be read":                                          {subscriptions, `{"value":[{"displayName":"of no id"}]}`, "account list --refresh"},
		"the server's operation status cannot be read":                                               {start, "202 async:~/op {}", "vm start -g RG -n myVM"},
		"the server made a secret but did not show it. Run: sally ad sp credential reset --id APPID": {"POST /v1.0/applications/a/addPassword", "{}", "ad sp create-for-rbac"},
	} {
		f, p := signedIn(t)
		f.routes[c.route], f.routes["GET /op"] = c.answer, "nonsense"
		f.routes["GET /v1.0/applications"], f.routes["GET /v1.0/servicePrincipals"] = `{"value":[]}`, `{"value":[]}`
		f.routes["POST /v1.0/applications"], f.routes["POST /v1.0/servicePrincipals"] = `{"id":"a","appId":"`+appID+`"}`, `{"id":"s"}`
		p.fails(1, []string{says}, strings.Fields(c.line)...)
	}
	f, p := signedIn(t)
	f.routes[start], f.routes["GET /op"] = "202 async:~/op {}", `{"state":"of another kind"}`
	p.fails(1, []string{"the server's operation status cannot be read"}, "vm", "start", "-g", "RG", "-n", "myVM")
}

// TestAnswers_AtSignIn: nothing is believed that is not what was asked for.
func TestAnswers_AtSignIn(t *testing.T) {
	for _, c := range []struct{ path, answer, says, line string }{
		{"openid-configuration", "nonsense", " sent no usable OpenID configuration", "-u a -p b"},
		{"openid-configuration", `{"authorization_endpoint":"https://evil.test/a","token_endpoint":"https://evil.test/t"}`, " names a sign-in address of another server: https://evil.test/a", "-u a -p b"},
		{"openid-configuration", `{"authorization_endpoint":"~/a","token_endpoint":"~/t"}`, " offers no device code flow", "--use-device-code"},
		{"/devicecode", `{}`, " sent no device code", "--use-device-code"},
		{"/token", "nonsense", " sent a token answer that cannot be read", "-u a -p b"},
		{"/token", "{}", " sent a token answer without a token", "-u a -p b"},
		{"/token", `{"access_token":"a","expires_in":9}`, " sent an id token that is missing or damaged", "-u a -p b"},
	} {
		f, p := newFake(t), newPerson(t)
		f.instead = map[string]string{c.path: strings.ReplaceAll(c.answer, "~", f.web.URL)}
		p.fails(1, []string{f.web.URL + c.says}, append([]string{"login", "--server", f.address()}, strings.Fields(c.line)...)...)
		p.fails(1, []string{"sally login"}, "account", "show")
	}
	f, p := signedIn(t)
	f.instead = map[string]string{"/repository/key.asc": "nonsense"}
	p.fails(1, []string{f.web.URL + "/repository/key.asc does not answer with an OpenPGP key"}, "repository", "script", "--type", "apt")
	f.facts("")
	if _, stranger, err := ed25519.GenerateKey(rand.Reader); err == nil {
		f.stranger = stranger
	}
	p.fails(1, []string{"the server sent a certificate that none of its published keys signed; it is not used."}, "ssh", "vm", "-n", "myVM", "-g", "RG")
	if len(p.runs) != 0 {
		t.Errorf("ssh was run: %v", p.runs)
	}
}

// TestManaged_AtSignIn: a machine's identity, where there is none, and where the
// metadata service is another tenant's or breaks off.
func TestManaged_AtSignIn(t *testing.T) {
	f, p := newFake(t), newPerson(t)
	p.change = func(c *Config) { c.MachineRoot = p.dir }
	p.fails(1, []string{"this computer has joined no server, so it has no managed identity:", "Run this on a machine, or sign in as somebody: sally login"}, "login", "--identity")
	claims, _ := json.Marshal(map[string]string{"tid": appID, "oid": aliceID})
	token := "e30." + base64.RawURLEncoding.EncodeToString(claims) + ".c2ln"
	breaks := false
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if breaks {
			w.Header().Set("Content-Length", "1000")
		}
		_, _ = w.Write([]byte(`{"access_token":"` + token + `","expires_in":"60","token_type":"Bearer"}`))
	}))
	defer web.Close()
	p.change = func(c *Config) { c.Metadata = web.URL }
	p.fails(1, []string{"the metadata service of this machine speaks for another tenant than " + f.web.URL + " serves. Leave --server out: the machine knows its own."}, "login", "--identity", "--server", f.address())
	breaks = true
	p.fails(1, []string{"the machine's metadata service broke off"}, "login", "--identity", "--server", f.address())
	p.fails(1, []string{"sally login"}, "account", "show")
}

// TestAccounts_OfThisComputer: what the profile holds, and what it does not.
func TestAccounts_OfThisComputer(t *testing.T) {
	f, p := newFake(t), newPerson(t)
	if r := p.run("account", "list"); r.code != 0 || !strings.Contains(r.err, `Please run "sally login" to access your accounts.`) {
		t.Errorf("%+v", r)
	}
	p.fails(2, []string{"the following arguments are required: --username/-u (nobody is signed in)"}, "account", "password", "change")
	p.must("login", "--server", f.address(), "--service-principal", "-u", appID, "-p", "s3cret")
	p.fails(1, []string{appID + " is a service principal; it has no password of this kind. Run: sally ad sp credential reset --id " + appID}, "account", "password", "change")
	p.terminal, p.stdin = true, "old\nnew\nother\n"
	p.fails(1, []string{"the two new passwords differ; nothing was changed."}, "account", "password", "change", "-u", alice)
	p.stdin = ""
	p.fails(1, []string{"nothing could be read from standard input"}, "group", "delete", "-n", "RG")
	p.stdin = "n\n"
	p.fails(1, []string{"Operation cancelled."}, "group", "delete", "-n", "RG")
	if sent := strings.Join(f.log, "\n"); strings.Contains(sent, "DELETE") || strings.Contains(sent, "POST") {
		t.Errorf("sent: %s", sent)
	}
	f.routes["GET /subscriptions"] = `{"value":[{"subscriptionId":"` + subID + `","displayName":"Pay","state":"Enabled"},{"subscriptionId":"` + aliceID + `","displayName":"Pay","state":"Enabled"}]}`
	p.must("account", "list", "--refresh")
	p.fails(1, []string{"2 subscriptions are named 'pay'. Use the subscription id: sally account list"}, "account", "set", "-s", "pay")
	file := filepath.Join(p.dir, "config", "profile.json")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), `"isDefault": true`, `"isDefault": false`)), 0o600); err != nil {
		t.Fatal(err)
	}
	p.fails(1, []string{"no subscription is selected. Run: sally account set --subscription NAME"}, "group", "list")
}

// TestSessions_ThatDoNotEnd: a machine that is away, and processes that stay.
func TestSessions_ThatDoNotEnd(t *testing.T) {
	f, p := signedIn(t)
	path := "/providers/Sallyport.Access/machineSessions/" + certID
	f.routes["POST "+path+"/end"], f.routes["GET "+path] = `{"properties":{"state":"Ending"}}`, `{"properties":{"state":"Ending"}}`
	p.wait = func(ctx context.Context, _ time.Duration) error {
		p.now = p.now.Add(10 * time.Second)
		return ctx.Err()
	}
	p.fails(1, []string{"the machine has not said that the session is gone; it is told as soon as it asks. Look when it was last seen: sally session show --id " + certID}, "session", "end", certID)
	f.routes["GET "+path] = `{"properties":{"state":"Ended","ending":{"left":"2 processes"}}}`
	if r := p.run("session", "end", certID); r.code != 0 || !strings.Contains(r.err, "WARNING: Still running: 2 processes") {
		t.Errorf("%+v", r)
	}
}

// TestWarnings_OfTheServer: what the server holds and a person should know.
func TestWarnings_OfTheServer(t *testing.T) {
	f, p := signedIn(t)
	warns := func(says, line string) {
		t.Helper()
		if r := p.run(strings.Fields(line)...); r.code != 0 || !strings.Contains(r.err, "WARNING: "+says) {
			t.Errorf("sally %s: %+v", line, r)
		}
	}
	unsigned := strings.NewReplacer("STATE", "next", `"unsigned":false`, `"unsigned":true`).Replace(keysAnswer)
	f.routes["GET /providers/Sallyport.Access/keys"], f.routes["POST /providers/Sallyport.Access/rotateKey"] = unsigned, unsigned
	warns("A newer list of keys waits for the manifest key. Run: sally ca request-manifest", "ca show -o table")
	warns("The new list of keys waits for the manifest key. Run: sally ca request-manifest", "ca rotate --purpose user-ca")
	restore := `{"properties":{"restoreId":"r1","restoredAt":"2026-11-22T10:00:00Z","backupTaken":"2026-11-21T10:00:00Z","backupAge":"1 day","entries":[],"confirmed":CONFIRMED,"confirmedAt":"2026-11-22T11:00:00Z"}}`
	f.routes["GET /providers/Sallyport.Access/restore"] = strings.Replace(restore, "CONFIRMED", "false", 1)
	warns("Restored at 2026-11-22T10:00:00Z from a backup of 2026-11-21T10:00:00Z (1 day before). What was changed in between is not in it.", "access review")
	warns("When all of this is right: sally access confirm-restore --restore-id r1", "access review")
	f.routes["GET /providers/Sallyport.Access/restore"] = strings.Replace(restore, "CONFIRMED", "true", 1)
	warns("This restore was confirmed at 2026-11-22T11:00:00Z.", "access review")
	set := rg + "/providers/Microsoft.Compute/virtualMachineScaleSets/set"
	f.routes["PATCH "+set] = `{"id":"` + set + `","identity":{"principalId":"` + appID + `"},"properties":{"upgradePolicy":{"mode":"Manual"}}}`
	f.routes["GET "+set] = f.routes["PATCH "+set]
	warns("With manual upgrade mode, instances take the change when they are upgraded: sally vmss update-instances -g RG -n set --instance-ids '*'", "vmss identity assign -g RG -n set")
}

// TestFiles_ThatHoldSomethingElse: of lists of keys, and of exports.
func TestFiles_ThatHoldSomethingElse(t *testing.T) {
	f, p := signedIn(t)
	file := filepath.Join(p.dir, "file")
	if err := os.WriteFile(file, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.fails(1, []string{file + " holds no signed list of keys: "}, "ca", "apply-manifest", "--file", file)
	f.routes["GET "+requestURL] = `{}`
	p.fails(1, []string{file + " exists already. Name another file."}, "ca", "request-manifest", "--file", file)
	note := filepath.Join(p.dir, renewFile)
	if err := os.WriteFile(note, []byte(`{"publicKey":"nonsense"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	p.fails(1, []string{note + " names no key. Write the configuration again: sally ssh config"}, "ssh", "renew", "--folder", p.dir)
	c := recordsOf(2)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f.audit = key
	head, err := protocol.SignHead(rand.Reader, key, audit.Head{Writer: c[1].Writer, Sequence: c[1].Sequence, Hash: c[1].Hash})
	if err != nil {
		t.Fatal(err)
	}
	evidence, _ := json.Marshal(proof.Proof{Manifest: f.signed(), Heads: []protocol.SignedHead{head}})
	f.routes["GET /providers/Sallyport.Access/auditProof"], f.routes[followURL] = string(evidence), `{"value":[],"caughtUp":true}`
	export := filepath.Join(p.dir, "audit.jsonl")
	p.fails(1, []string{"the audit log ends before the head that the server signed. Run: sally audit verify"}, "audit", "export", "--file", export)
	f.queue = map[string][]string{followURL: {pageOf(t, c, 2)}}
	p.must("audit", "export", "--file", export)
	p.fails(1, []string{"cannot read the manifest " + file + ".json: no such file or directory"}, "audit", "verify", "--file", export, "--server", file+".json")
	p.fails(1, []string{file + " is no signed manifest: "}, "audit", "verify", "--file", export, "--server", file)
	p.fails(1, []string{"cannot read " + file + ".json: no such file or directory"}, "audit", "verify", "--file", export, "--witness", file+".json")
	f.facts("")
	p.fails(1, []string{"cannot read " + filepath.Join(p.dir, "config") + ": is a directory"}, "ssh", "config", "--file", filepath.Join(p.dir, "config"), "-n", "myVM", "-g", "RG") // a folder
}

// TestPrograms_ThatDoNotRun: ssh, and what the agent runs.
func TestPrograms_ThatDoNotRun(t *testing.T) {
	f, p := signedIn(t)
	f.facts("")
	p.change = func(c *Config) {
		c.Run = func(context.Context, Program) (int, error) { return 0, errors.New("exec format error") }
	}
	for _, line := range []string{"ssh vm -n myVM -g RG", "ssh agent -- true"} {
		p.fails(1, []string{"cannot run ", ": exec format error"}, strings.Fields(line)...)
	}
}
