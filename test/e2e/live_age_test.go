//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestLive_LongestSession: the tenant says how old a session may become; a machine
// tells one that reaches the age that it will end, and ends it, and lets a younger
// one of the same person go on. Its age is moved on in the agent's own register,
// because the shortest that can be asked for is five minutes.
func TestLive_LongestSession(t *testing.T) {
	a := admin(t)
	a.must(t, "tenant", "update", "--longest-session", "5m")
	defer a.must(t, "tenant", "update", "--longest-session", "none")
	if got := a.must(t, "tenant", "show", "--query", "properties.longestSessionMinutes", "-o", "tsv"); got != "5" {
		t.Fatal(got)
	}
	eachSystem(t, func(t *testing.T, system string) {
		m := machineOn(t, "net-"+system, platform{system, netns})
		p := newUser(t, "live-age-"+system)
		grant(t, roleUser, p.name, m.id)
		allowedSoon(t, p, m)
		key := certificate(t, p)
		young := m.client(t, "exec", p.name, key.options(), "echo began; sleep 371")
		old := m.client(t, "pty", p.name, append(key.options(), "-tt"), "setsid sleep 372 >/dev/null 2>&1 & echo began; sleep 373")
		id := ""
		if err := until(limitEnd, func() error {
			all, err := sessionsOf(t, m, p)
			for _, l := range all {
				if l.Properties.Kind == "pty" {
					id = l.Name
				}
			}
			if err == nil && (id == "" || len(all) < 2) {
				err = fmt.Errorf("listed are %+v", all)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		// The warning comes a minute before the end, which is as long as the agent's new
		// start may take.
		left := min(crowded(3*time.Second), 50*time.Second)
		m.mustRoot(t, `opened=$(awk '{ printf "%.0f", ($1 - `+fmt.Sprintf("%.3f", (5*time.Minute-left).Seconds())+`) * 1000000000 }' /proc/uptime)
sed -E -i 's/("id":"`+id+`"[^}]*"opened":)-?[0-9]+/\1'"$opened"'/' /var/lib/sallyport/root/sessions.json && pkill -KILL -f '[s]ally agent root'`)
		select {
		case <-old.gone:
		case <-time.After(left + crowded(limitEnd)):
			t.Fatalf("the session goes on: %s", old.text())
		}
		says(t, old.text(), "this session reaches the age of 5m0s and is ended in", "it has reached the age of 5m0s, which is the longest here. Connect again.")
		uid := strings.TrimSpace(m.ssh(p.name, key.options(), "id -u").out)
		if left := m.remains(t, uid); strings.Contains(left, "sleep 372") || strings.Contains(left, "sleep 373") || !strings.Contains(left, "sleep 371") || young.over() {
			t.Errorf("what runs: %s", left)
		}
		if err := until(limitGrant, func() error { return lists(t, m, p, map[string]int{"exec": 1}, false) }); err != nil {
			t.Error(err)
		}
	})
}
