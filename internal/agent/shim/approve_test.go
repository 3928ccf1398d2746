package shim

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestPAMModule_Approval: one prompt, then questions until the agent knows; every
// way but prompt, waits, allow ends without a login, and on this connection.
func TestPAMModule_Approval(t *testing.T) {
	b := build{dir: privateDir(t), sanitize: true}
	probe := pamProbe(t, b, "domains=example.com")
	var mu sync.Mutex
	var answers []PAMAnswer
	var asked []string
	startPAM(t, filepath.Join(b.dir, "pam.sock"), self(), func(_ context.Context, _ Peer, r PAMRequest) PAMAnswer {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, string(r.Phase)+" "+r.User)
		if len(answers) == 0 {
			return PAMAnswer{Text: "over"}
		}
		a := answers[0]
		answers = answers[1:]
		return a
	})
	prompt, wait, allow, deny := PAMAnswer{Prompt: "Type %s.\nEnter: "}, PAMAnswer{Wait: true}, PAMAnswer{Allow: true}, PAMAnswer{Text: "no"}
	const shown = "asks Type %s.\nEnter: \n"
	for name, c := range map[string]struct {
		answers []PAMAnswer
		want    string
		asked   int
	}{
		"approved":                    {[]PAMAnswer{prompt, wait, wait, allow}, shown + "auth PAM_SUCCESS", 4},
		"at once":                     {[]PAMAnswer{prompt, allow}, shown + "auth PAM_SUCCESS", 2},
		"declined":                    {[]PAMAnswer{prompt, wait, deny}, shown + "says no\nauth PAM_MAXTRIES", 3},
		"no code":                     {[]PAMAnswer{deny}, "says no\nauth PAM_MAXTRIES", 1},
		"wait in the place of a code": {[]PAMAnswer{wait, allow}, "auth PAM_MAXTRIES", 1},
		"a second prompt":             {[]PAMAnswer{prompt, prompt, allow}, shown + "auth PAM_MAXTRIES", 2},
	} {
		mu.Lock()
		answers, asked = c.answers, nil
		mu.Unlock()
		if got := probe("alice@example.com", "auth"); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
		mu.Lock()
		if len(asked) != c.asked || asked[0] != "begin alice@example.com" || len(asked) > 1 && !strings.HasPrefix(asked[1], "check ") {
			t.Errorf("%s: the agent was asked %q", name, asked)
		}
		mu.Unlock()
	}
	// To the account phase a prompt and a wait are no answers.
	for _, a := range []PAMAnswer{prompt, wait} {
		mu.Lock()
		answers = []PAMAnswer{a}
		mu.Unlock()
		if got := probe("alice@example.com", "account"); got != awayText+"\naccount PAM_PERM_DENIED" {
			t.Errorf("got %q", got)
		}
	}
}
