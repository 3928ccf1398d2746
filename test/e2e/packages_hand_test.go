//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// wholeHand prints the version that the files are of, as wholeDebs does, and fails
// where they are of none or something is left beside them.
const wholeHand = `(cd / && for sums in /root/sums/*; do
	if sha256sum --quiet --status -c $sums; then echo "sallyport ${sums##*/}-1 install ok"; echo "sallyport-agent ${sums##*/}-1 install ok"; found=yes; fi
done; test -n "$found") && test -z "$(find /usr -xdev -name '.*.sallyport-upgrade')"`

// handMachine is a Debian 13 machine on which the files of our packages were laid
// down as docs/how-to/packages.md says, and which no package manager knows of.
func handMachine(t *testing.T, w *world, ring string) ringed {
	t.Helper()
	m := w.barely(t, "rings-hand", debian13, "--tags", "ring="+ring)
	folder := w.path("packages")
	for _, version := range []string{ringsOld, ringsGood, ringsShut, ringsLame} {
		m.give(t, "/root/sums/"+version, strings.NewReader(handSums(t, folder, version)))
	}
	for _, name := range []string{"sallyport", "sallyport-agent"} {
		m.giveFile(t, "/root/"+name+"_VERSION-1_amd64.deb", filepath.Join(folder, name+"_"+ringsOld+"-1_amd64.deb"))
	}
	m.mustSuper(t, "cd /root && "+packagesSteps(t, "## Without dpkg or rpm")+" && rm /root/*.deb")
	if r := m.super("dpkg-query -S /usr/bin/sally"); r.code == 0 {
		t.Fatalf("dpkg knows the program: %s", r)
	}
	m.joinByHand(t)
	m.extend(t)
	return ringed{m, packageUser(t, w, m, "rings-hand"), wholeHand}
}

// handSums are the hashes of the agent's files in the packages of a version.
func handSums(t *testing.T, folder, version string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"sallyport", "sallyport-agent"} {
		if out, err := exec.Command("dpkg-deb", "-x", filepath.Join(folder, name+"_"+version+"-1_amd64.deb"), dir).CombinedOutput(); err != nil {
			t.Fatalf("dpkg-deb: %v: %s", err, out)
		}
	}
	cmd := exec.Command("sh", "-c", "sha256sum usr/bin/sally usr/libexec/sallyport-principals usr/lib/sallyport/unwire lib/*/libnss_sallyport.so.2 lib/*/security/pam_sallyport.so usr/lib/systemd/system/sallyport-agent*.service usr/lib/sysusers.d/sallyport-agent.conf")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// giveFile copies a file of this computer to the machine.
func (m *vm) giveFile(t *testing.T, path, from string) {
	t.Helper()
	f, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m.give(t, path, f)
}

// packagesSteps are the commands of a part of the page about packages, as one script.
func packagesSteps(t *testing.T, heading string) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/how-to/packages.md")
	if err != nil {
		t.Fatal(err)
	}
	_, part, found := strings.Cut(string(page), "\n"+heading+"\n")
	part, _, _ = strings.Cut(part, "\n## ")
	var list []string
	for line := range strings.Lines(part) {
		if command, ok := strings.CutPrefix(line, "    "); ok {
			list = append(list, strings.TrimSpace(command))
		}
	}
	if !found || len(list) == 0 {
		t.Fatalf("the page has no commands below %s", heading)
	}
	return strings.Join(list, " && ")
}
