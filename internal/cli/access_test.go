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
	if len(f.log) != 3 || !strings.Contains(f.log[2], "/explain?") || !strings.Contains(f.log[2], "principal=o%27b%40c") {
		t.Errorf("sent %q", f.log)
	}
	if out := p.must("access", "explain", "--machine", "myVM", "-g", "RG", "--query", "verdict.reason", "-o", "tsv"); out != "owner-only\n" {
		t.Errorf("one's own: %q", out)
	}
	p.fails(2, []string{"--scope"}, "access", "who")
	p.fails(2, []string{"--machine"}, "access", "explain", "-g", "RG")
}

// TestMachineScope_BothKinds: a name means the machine that is there, and none
// where it means two.
func TestMachineScope_BothKinds(t *testing.T) {
	const joined = rg + "/providers/Microsoft.HybridCompute/machines/myVM"
	commands := map[string][]string{
		"/providers/Sallyport.Access/explain":         {"access", "explain", "--machine", "myVM", "-g", "RG"},
		"/providers/Sallyport.Access/whoCanLogIn":     {"access", "who", "--machine", "myVM", "-g", "RG"},
		"/providers/Sallyport.Access/machineSessions": {"session", "list", "-n", "myVM", "-g", "RG"},
	}
	for path, words := range commands {
		for _, c := range []struct {
			name        string
			vm, hybrid  bool
			ids         string
			want, fails string
		}{
			{name: "a virtual machine", vm: true, want: vmPath},
			{name: "one that joined", hybrid: true, want: joined},
			{name: "neither is seen", want: vmPath},
			{name: "both", vm: true, hybrid: true, fails: "--ids"},
			{name: "both, by id", vm: true, hybrid: true, ids: joined, want: joined},
		} {
			t.Run(words[0]+" "+words[1]+", "+c.name, func(t *testing.T) {
				f, p := signedIn(t)
				for at, there := range map[string]bool{vmPath: c.vm, joined: c.hybrid} {
					if there {
						f.routes["GET "+at+accessMember] = "{}"
					}
					f.routes["GET "+at+path] = `{"value":[]}`
				}
				f.routes["GET "+path] = `{"value":[]}`
				f.log = nil
				args := words
				if c.ids != "" {
					args = []string{words[0], words[1], "--ids", c.ids}
				}
				if c.fails != "" {
					p.fails(1, []string{"a virtual machine and a machine that joined", c.fails, vmPath, joined}, args...)
					return
				}
				p.must(args...)
				last := f.log[len(f.log)-1]
				if !strings.Contains(last, c.want+path) && !strings.Contains(last, "machine="+strings.ReplaceAll(c.want, "/", "%2F")) {
					t.Errorf("asked %q for %s", last, c.want)
				}
			})
		}
	}
}
