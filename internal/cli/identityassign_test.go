package cli

import (
	"slices"
	"strings"
	"testing"
)

// What is written is what was there and what is asked for, and a user-assigned
// identity goes by null.
func TestIdentity_Writes(t *testing.T) {
	const robots, q = rg + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/", "?api-version=2022-09-01"
	both := `{"identity":{"type":"SystemAssigned, UserAssigned","principalId":"p","userAssignedIdentities":{"` + robots + `one":{}}}}`
	for _, c := range []struct {
		command, there, sent string
		fails                bool
	}{
		{"assign", `{}`, `{"type":"SystemAssigned"}`, false},
		{"assign --identities two", `{"identity":{"type":"SystemAssigned"}}`, `{"type":"SystemAssigned, UserAssigned","userAssignedIdentities":{"` + robots + `two":{}}}`, false},
		{"assign --identities " + robots + "ONE", both, `{"type":"SystemAssigned, UserAssigned","userAssignedIdentities":{"` + robots + `one":{}}}`, false},
		{"assign --identities two --role Reader --scope " + rg, both, "", true},
		{"remove", `{"identity":{"type":"SystemAssigned"}}`, `{"type":"None"}`, false},
		{"remove", `{}`, "", false},
		{"remove", both, `{"type":"UserAssigned","userAssignedIdentities":{"` + robots + `one":{}}}`, false},
		{"remove --identities one", both, `{"type":"SystemAssigned","userAssignedIdentities":{"` + robots + `one":null}}`, false},
		{"remove --identities two", both, "", true},
	} {
		for kind, path := range map[string]string{"vm": vmPath, "vmss": setPath} {
			f, p := signedIn(t)
			f.routes["GET "+path], f.routes["PATCH "+path] = c.there, c.there
			f.log = nil
			name := path[strings.LastIndexByte(path, '/')+1:]
			words := strings.Fields(c.command)
			r := p.run(slices.Concat([]string{kind, "identity", words[0], "-g", "RG", "-n", name}, words[1:])...)
			if (r.code != 0) != c.fails {
				t.Errorf("%s %s: %v", kind, c.command, r)
			}
			sent := ""
			for _, line := range f.log {
				if body, ok := strings.CutPrefix(line, "PATCH "+path+q+" "); ok {
					sent = strings.TrimSpace(body)
				}
			}
			if want := `{"identity":` + c.sent + `}`; c.sent != "" && sent != want || c.sent == "" && sent != "" {
				t.Errorf("%s %s of %s sent %s, want %s", kind, c.command, c.there, sent, want)
			}
		}
	}
}
