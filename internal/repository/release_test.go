package repository

import (
	"crypto"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"sallyport/internal/machine/protocol"
)

// TestReleases_AreWholeAndSigned: a version counts when both of its packages are
// there, and its document verifies with the repository's key alone.
func TestReleases_AreWholeAndSigned(t *testing.T) {
	g := newRig(t)
	r := g.mustOpen(t)
	if got := r.Versions(); len(got) != 0 {
		t.Fatalf("half a version is offered: %v", got)
	}
	agent := func(version string) string {
		return strings.NewReplacer("Package: sallyport", "Package: sallyport-agent", "1.0-1", version).Replace(control)
	}
	g.put(t, "sallyport-agent_1.0-1_amd64.deb", debOf(t, agent("1.0-1")))
	g.put(t, "sallyport-agent_1.0-1_arm64.deb", debOf(t, strings.Replace(agent("1.0-1"), "amd64", "arm64", 1)))
	g.put(t, "sallyport-agent_2.0-7_amd64.deb", debOf(t, agent("2.0-7")))
	if err := r.Look(); err != nil {
		t.Fatal(err)
	}
	if got := r.Versions(); !slices.Equal(got, []string{"1.0"}) {
		t.Fatalf("offered: %v", got)
	}
	var e protocol.Envelope
	if err := protocol.Decode([]byte(text(t, r, protocol.ReleasePath("1.0"))), &e); err != nil {
		t.Fatal(err)
	}
	d, err := protocol.OpenRelease(e, []crypto.PublicKey{g.key.Public()}, "1.0")
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Packages) != 2 || d.Packages[0].Name != "sallyport-agent" || d.Packages[1].Name != "sallyport" || d.Packages[0].Format != "deb" {
		b, _ := json.Marshal(d)
		t.Fatalf("%s", b)
	}
	for _, p := range d.Packages {
		if f, ok := r.File(p.Path()); !ok || f.Path == "" {
			t.Errorf("nothing at %s", p.Path())
		}
	}
}
