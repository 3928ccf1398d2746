//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestLive_HundredAgents runs the measure "live" in small: a server with 100
// connected agents and 4 machines with sessions. A role is taken away: every
// session must end, every agent must be told, and every next login must read why.
// How fast that is, make bench measures on a quiet computer.
func TestLive_HundredAgents(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "bench")
	if out, err := exec.Command("go", "build", "-o", program, "../bench").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	cache := os.Getenv("SALLY_CACHE")
	if cache == "" {
		cache = "/var/cache/sallyport"
	}
	r := captureFor(exec.Command(program, "-only", "live", "-agents", "100", "-machines", "4", "-lives", "1", "-top", "../..", "-cache", cache, "-out", dir), crowded(4*time.Minute))
	if r.code != 0 || !strings.Contains(r.out, "role removed to session ended") {
		t.Fatalf("%s", r)
	}
	if notes, err := os.ReadFile(filepath.Join(dir, "results.md")); err != nil || !strings.Contains(string(notes), "n=4:") || !strings.Contains(string(notes), "n=100;") {
		t.Errorf("%v %s", err, notes)
	}
}
