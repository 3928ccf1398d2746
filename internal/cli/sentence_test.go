package cli

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// joinedPath is a machine that has joined, of the same name as the other.
const joinedPath = "/subscriptions/" + subID + "/resourceGroups/RG/providers/Microsoft.HybridCompute/machines/arc1"

// TestSSH_SaysWhatThePageExplains: before it connects.
func TestSSH_SaysWhatThePageExplains(t *testing.T) {
	vm := []string{"ssh", "vm", "-n", "myVM", "-g", "RG"}
	f, p := signedIn(t)
	f.facts("")
	f.facts(`"state":"running"`, `"state":"absent"`)
	p.fails(1, []string{"page:MachineAbsent"}, vm...)
	f.facts("")
	facts := strings.ReplaceAll(f.routes["GET "+vmPath+accessMember], vmPath, joinedPath)
	for id, change := range map[string][2]string{
		"MachineExpired":         {`"state":"running"`, `"state":"expired","note":"an administrator has put it into quarantine"`},
		"LoginNotEnabled.joined": {`"loginEnabled":true`, `"loginEnabled":false`},
	} {
		f.routes["GET "+joinedPath+accessMember] = strings.Replace(facts, change[0], change[1], 1)
		p.fails(1, []string{"page:" + id}, "ssh", "arc", "-n", "arc1", "-g", "RG")
	}
	f.routes["GET "+joinedPath+accessMember] = strings.NewReplacer(`["10.77.0.2"]`, `[]`, `"127.77.0.2"`, `""`).Replace(facts)
	f.routes["GET "+joinedPath] = `{"properties":{}}`
	p.fails(1, []string{"page:NoAddress"}, "ssh", "arc", "-n", "arc1", "-g", "RG")
	p.fails(1, []string{"page:SSHClient"}, append(vm, "--ssh-client-folder", p.dir)...)
	p.fails(1, []string{"page:NoHostCertificate"}, "ssh", "config", "--file", filepath.Join(p.dir, "config"), "--ip", "127.0.0.1", "--port", "1", "--identity-agent", filepath.Join(p.dir, "agent.sock"))
	f.bearer = true
	p.fails(1, []string{"page:BadCertificate.type"}, vm...)
}

// TestRenew_AnotherName: the directory has renamed who is signed in.
func TestRenew_AnotherName(t *testing.T) {
	f, p := signedIn(t)
	f.facts("")
	file := filepath.Join(p.dir, "cfg")
	p.must("ssh", "config", "--file", file, "-n", "myVM", "-g", "RG", "--keys-destination-folder", filepath.Join(p.dir, "keys"))
	if err := os.Remove(filepath.Join(p.dir, "keys", "ssh-cert.pub")); err != nil {
		t.Fatal(err)
	}
	f.changeCA = func(c *ssh.Certificate) { c.ValidPrincipals = []string{"alice.b@contoso.test", aliceID} }
	p.fails(1, []string{"page:OtherLogin"}, "ssh", "renew", "--folder", filepath.Join(p.dir, "keys"))
}

// TestLogin_SaysWhatThePageExplains: a page that nobody uses, or somebody else; and
// a place that is no server.
func TestLogin_SaysWhatThePageExplains(t *testing.T) {
	f, p := signedIn(t)
	f.facts("")
	f.certErr = `{"error":"interaction_required","error_description":"AADSTS50076: multifactor is needed.","error_codes":[50076],"claims":"{}"}`
	f.other, p.terminal = "eve@contoso.test", true
	p.fails(1, []string{"page:OtherPerson"}, "ssh", "vm", "-n", "myVM", "-g", "RG")
	f.polls = -1000
	p.wait = func(context.Context, time.Duration) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		p.now = p.now.Add(time.Hour)
		f.date = p.now
		return nil
	}
	p.fails(1, []string{"page:CodeExpired"}, "login", "--use-device-code", "--server", f.address())
	other := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Date", p.now.Format(http.TimeFormat)) }))
	defer other.Close()
	p.fails(1, []string{"page:NotSallyport"}, "login", "--server", other.URL+"#"+f.pin(), "-u", alice, "-p", "x")
}
