package cli

import (
	"strings"
	"testing"
)

func TestAccess_WhoAndExplain(t *testing.T) {
	f, p := signedIn(t)
	f.routes["GET "+rg+"/providers/Sallyport.Access/whoCanLogIn"] = `{"value":[{"principal":{"id":"` + aliceID + `","type":"User","name":"` + alice + `"},"access":"admin",
"through":{"roleAssignmentId":"x","roleDefinitionId":"y","roleName":"Virtual Machine Administrator Login","scope":"` + rg + `","groups":[{"id":"g1","name":"Staff"},{"id":"g2","name":"Crew"}]}}]}`
	out := p.must("access", "who", "--scope", rg, "-o", "table")
	for _, w := range []string{"Principal", alice, "admin", "Virtual Machine Administrator Login", "Staff > Crew"} {
		if !strings.Contains(out, w) {
			t.Errorf("who does not show %q:\n%s", w, out)
		}
	}
	f.routes["GET "+vmPath+"/providers/Sallyport.Access/explain"] = `{"properties":{"principal":{"name":"` + alice + `"},"steps":[{"step":"account","passed":true,"message":"is enabled"},
{"step":"role","passed":false,"message":"0 of 1"}],"assignments":[{"roleName":"Owner","scope":"` + rg + `","counts":false,"why":"the role has no data actions","groups":[{"name":"Crew"}]}],
"verdict":{"access":"none","reason":"owner-only","message":"refused: Owner alone"}}}`
	f.log = nil
	out = p.must("access", "explain", "--user", "o'b@c", "--machine", "myVM", "-g", "RG", "-o", "table")
	at := -1
	for _, w := range []string{"account", "assignment", "Owner at " + rg + " by group Crew: the role has no data actions", "role", "verdict", "refused: Owner alone"} {
		i := strings.Index(out[at+1:], w)
		if i < 0 {
			t.Fatalf("explain does not show %q in its place:\n%s", w, out)
		}
		at += 1 + i
	}
	if len(f.log) != 1 || !strings.Contains(f.log[0], "/explain?") || !strings.Contains(f.log[0], "principal=o%27b%40c") {
		t.Errorf("sent %q", f.log)
	}
	if out := p.must("access", "explain", "--machine", "myVM", "-g", "RG", "--query", "verdict.reason", "-o", "tsv"); out != "owner-only\n" {
		t.Errorf("one's own: %q", out)
	}
	p.fails(2, []string{"--scope"}, "access", "who")
	p.fails(2, []string{"--machine"}, "access", "explain", "-g", "RG")
}
