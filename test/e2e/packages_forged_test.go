//go:build e2e

package e2e

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// shelf is a copy of an apt repository, by path.
type shelf map[string][]byte

const (
	inRelease   = "dists/stable/InRelease"
	packagesAmd = "dists/stable/main/binary-amd64/Packages"
	agentDeb    = "pool/sallyport-agent_" + newerPackages + "-1_amd64.deb"
)

// fetched reads a path of the server's repositories, as anybody may.
func (w *world) fetched(t *testing.T, path string) []byte {
	t.Helper()
	web := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	res, err := web.Get(fmt.Sprintf("https://127.0.0.1:%d/repository/%s", w.port, path))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v %s %s", path, err, res.Status, b)
	}
	return b
}

// copied is the server's apt repository as it is now.
func (w *world) copied(t *testing.T) shelf {
	t.Helper()
	s := shelf{}
	for _, path := range []string{inRelease, packagesAmd, packagesAmd + ".gz", agentDeb} {
		s[path] = w.fetched(t, "deb/"+path)
	}
	return s
}

// signedAnew waits until the server has signed a newer index than s has.
func (w *world) signedAnew(t *testing.T, s shelf) shelf {
	t.Helper()
	now := time.Now()
	if err := os.Chtimes(w.path("packages/sallyport-selinux_"+newerPackages+"-1_all.deb"), now, now); err != nil {
		t.Fatal(err)
	}
	var newer shelf
	if err := until(4*limitGrant, func() error {
		if newer = w.copied(t); bytes.Equal(newer[inRelease], s[inRelease]) {
			return errors.New("the index is the old one")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return newer
}

// with is a copy in which one file is another.
func (s shelf) with(path string, change func([]byte) []byte) shelf {
	c := maps.Clone(s)
	c[path] = change(bytes.Clone(s[path]))
	return c
}

func flipped(b []byte) []byte { b[len(b)/2] ^= 1; return b }

// forger lets apt of a machine read copies that somebody between could show it.
type forger struct {
	m   *vm
	key []byte
}

const forgedApt = `apt-get -y -q -o Dir::Etc::sourcelist=/root/forged.list -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists=/var/tmp/forged/lists `

// shows puts a copy where apt looks, and has it read the index.
func (f forger) shows(t *testing.T, s shelf) result {
	t.Helper()
	f.m.mustSuper(t, "rm -rf /var/tmp/forged/repo; mkdir -p /var/tmp/forged/lists/partial")
	f.m.give(t, "/root/forged.asc", bytes.NewReader(f.key))
	f.m.give(t, "/root/forged.list", strings.NewReader("deb [signed-by=/root/forged.asc] copy:/var/tmp/forged/repo stable main\n"))
	for path, content := range s {
		f.m.give(t, "/var/tmp/forged/repo/"+path, bytes.NewReader(content))
	}
	f.m.mustSuper(t, "chmod 644 /root/forged.asc; chmod 711 /root; chmod -R a+rX /var/tmp/forged")
	return f.m.super(forgedApt + "update 2>&1")
}

// loads downloads the package of the index that apt has taken.
func (f forger) loads() result {
	return f.m.super("cd /var/tmp/forged && rm -f *.deb && " + forgedApt + "download sallyport-agent 2>&1 && ls *.deb")
}

// forgedAreRefused: apt of the machine takes the server's repository, and nothing
// that somebody else made of it.
func forgedAreRefused(t *testing.T, w *world, m *vm, older, newer shelf) {
	t.Helper()
	f := forger{m, w.fetched(t, "key.asc")}
	if r := f.shows(t, newer); r.code != 0 {
		t.Fatalf("the server's own index: %s", r)
	}
	if r := f.loads(); r.code != 0 {
		t.Fatalf("the server's own package: %s", r)
	}
	refuse := func(name string, r result, words ...string) {
		t.Helper()
		if r.code == 0 && !strings.Contains(r.out, "W: ") {
			t.Errorf("%s was taken: %s", name, r)
		}
		for _, word := range words {
			if regexp.MustCompile(word).MatchString(r.out) {
				return
			}
		}
		t.Errorf("%s: nothing of %q is said: %s", name, words, r)
	}
	date := func() string {
		return m.mustSuper(t, "grep -h ^Date: /var/tmp/forged/lists/*InRelease")
	}
	before := date()
	if r := f.shows(t, older); r.code != 0 || date() != before {
		t.Errorf("an older index took the place of the newer: %s, then %s: %s", before, date(), r)
	}
	f.shows(t, newer.with(agentDeb, flipped))
	refuse("an altered package", f.loads(), "Hash Sum mismatch", "hash", "Failed to fetch")
	m.mustSuper(t, "rm -rf /var/tmp/forged/lists")
	refuse("an altered index", f.shows(t, newer.with(packagesAmd, flipped).with(packagesAmd+".gz", flipped)), "Hash Sum mismatch", "unexpected size", "not the expected", "Failed to fetch")
	m.mustSuper(t, "rm -rf /var/tmp/forged/lists")
	refuse("an altered signed list", f.shows(t, newer.with(inRelease, func(b []byte) []byte {
		return bytes.Replace(b, []byte("Suite: stable"), []byte("Suite: stabil"), 1)
	})), "BADSIG", "invalid", "verif", "Bad signature")
	other := forger{m, w.anotherKey(t)}
	m.mustSuper(t, "rm -rf /var/tmp/forged/lists")
	refuse("another server's list", other.shows(t, newer), "NO_PUBKEY", "not signed", "Missing key", "verif")
}

// anotherKey is the repository key of a deployment that is not this one.
func (w *world) anotherKey(t *testing.T) []byte {
	t.Helper()
	state := serverState(t)
	if r := capture(w.asServer(initArgs(state)...)); r.code != 0 {
		t.Fatal(r)
	}
	r := capture(w.asServer("server", "repository-key", "--state", state, "--domain", "other.example"))
	if r.code != 0 || !strings.Contains(r.err, "fingerprint ") {
		t.Fatalf("repository-key: %s", r)
	}
	return []byte(r.out)
}

// dnf of this computer, with a system of its own in a folder.
type dnfHome struct{ dir string }

func newDnfHome(t *testing.T, w *world) dnfHome {
	t.Helper()
	h := dnfHome{t.TempDir()}
	script := w.person(adminUPN, "").must(t, "repository", "script", "--type", "dnf")
	script = strings.ReplaceAll(strings.ReplaceAll(script, " /etc/", " "+h.dir+"/etc/"), ">/etc/", ">"+h.dir+"/etc/")
	script = strings.ReplaceAll(strings.ReplaceAll(script, "file:///etc/", "file://"+h.dir+"/etc/"), "=/etc/", "="+h.dir+"/etc/")
	cmd := exec.Command("sh")
	cmd.Stdin = strings.NewReader(script)
	if r := capture(cmd); r.code != 0 {
		t.Fatalf("the script: %s", r)
	}
	if err := errors.Join(os.Mkdir(h.dir+"/log", 0o755), os.WriteFile(h.dir+"/dnf.conf", []byte("[main]\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h dnfHome) run(words ...string) result {
	return capture(exec.Command("dnf", append([]string{"-y", "--config=" + h.dir + "/dnf.conf", "--installroot=" + h.dir + "/root", "--setopt=reposdir=" + h.dir + "/etc/yum.repos.d", "--setopt=cachedir=" + h.dir + "/cache", "--setopt=logdir=" + h.dir + "/log",
		"--setopt=persistdir=" + h.dir + "/persist", "--releasever=9", "--forcearch=x86_64", "--disableplugin=local", "--refresh"}, words...)...))
}

func (h dnfHome) download() result {
	_ = os.RemoveAll(h.dir + "/got")
	return h.run("download", "--destdir="+h.dir+"/got", "sallyport-agent-"+newerPackages)
}

// dnfTakesTheServersOwn: dnf loads packages through TLS and the index's
// signature, rpm finds them whole, and neither takes what was altered. The
// server's indexes name what createrepo_c finds in the folder.
func dnfTakesTheServersOwn(t *testing.T, w *world) {
	h := newDnfHome(t, w)
	if r := h.download(); r.code != 0 {
		t.Fatalf("dnf: %s", r)
	}
	file := h.dir + "/got/sallyport-agent-" + newerPackages + "-1.x86_64.rpm"
	if r := capture(exec.Command("rpm", "-K", file)); r.code != 0 || !strings.Contains(r.out, "digests OK") {
		t.Errorf("rpm -K: %s", r)
	}
	says(t, capture(exec.Command("rpm", "-qp", "--scripts", file)).out, "sally agent uninstall", "systemd-sysusers")
	says(t, capture(exec.Command("rpm", "-qpl", file)).out, "/lib64/libnss_sallyport.so.2", "/lib64/security/pam_sallyport.so", "/usr/libexec/sallyport-principals")
	says(t, h.run("repoquery", "--requires", "sallyport-agent").out, "sallyport = "+newerPackages+"-1", "/usr/sbin/sshd")
	sameAsCreaterepo(t, w)
	path := w.path("packages/sallyport-agent-" + newerPackages + "-1.x86_64.rpm")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	alter := func(content []byte) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path, content, 0o644), os.Chtimes(path, info.ModTime(), info.ModTime())); err != nil {
			t.Fatal(err)
		}
	}
	alter(flipped(bytes.Clone(whole)))
	if r := h.download(); r.code == 0 {
		t.Errorf("dnf took an altered package: %s", r)
	}
	alter(whole)
	copyOf := h.dir + "/copy/repodata/"
	if err := os.MkdirAll(copyOf, 0o755); err != nil {
		t.Fatal(err)
	}
	index := bytes.Replace(w.fetched(t, "rpm/repodata/repomd.xml"), []byte("<revision>"), []byte("<revision>1"), 1)
	if err := errors.Join(os.WriteFile(copyOf+"repomd.xml", index, 0o644), os.WriteFile(copyOf+"repomd.xml.asc", w.fetched(t, "rpm/repodata/repomd.xml.asc"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if r := h.run("--setopt=sallyport.baseurl=file://"+h.dir+"/copy", "makecache"); r.code == 0 || !strings.Contains(strings.ToLower(r.out+r.err), "signature") {
		t.Errorf("dnf took an altered index: %s", r)
	}
}

var pkgID = regexp.MustCompile(`pkgid="YES">([0-9a-f]{64})<`)

func sameAsCreaterepo(t *testing.T, w *world) {
	t.Helper()
	dir := t.TempDir()
	if r := capture(exec.Command("createrepo_c", "-q", "--general-compress-type=gz", "--simple-md-filenames", "-o", dir, w.path("packages"))); r.code != 0 {
		t.Fatalf("createrepo_c: %s", r)
	}
	ids := func(z []byte) map[string]bool {
		cmd := exec.Command("gzip", "-dc")
		cmd.Stdin = bytes.NewReader(z)
		out := map[string]bool{}
		for _, m := range pkgID.FindAllStringSubmatch(capture(cmd).out, -1) {
			out[m[1]] = true
		}
		return out
	}
	theirs, err := os.ReadFile(dir + "/repodata/primary.xml.gz")
	if err != nil {
		t.Fatal(err)
	}
	at := regexp.MustCompile(`repodata/[0-9a-f]{64}-primary\.xml\.gz`).FindString(string(w.fetched(t, "rpm/repodata/repomd.xml")))
	if a, b := ids(theirs), ids(w.fetched(t, "rpm/"+at)); len(a) == 0 || !maps.Equal(a, b) {
		t.Errorf("createrepo_c finds %v, the server %v", a, b)
	}
}

// TestPackages_AreReproducible: the same sources give the same bytes elsewhere,
// at another time, for another person.
func TestPackages_AreReproducible(t *testing.T) {
	if testing.Short() {
		t.Fatal("it builds")
	}
	dir := t.TempDir()
	script := `set -euo pipefail
export SOURCE_DATE_EPOCH=1767225600
here=$(cd ../.. && pwd)
pack() { packaging/packages.sh stage "$1" && packaging/packages.sh pack "$1" "$2" 1.2.3 amd64; }
(cd "$here" && pack "$1/first" "$1/a")
mkdir "$1/elsewhere"
(cd "$here" && git -c safe.directory='*' ls-files -z --cached --others --exclude-standard -- . ':!:.land*' | xargs -0 cp --parents -t "$1/elsewhere")
cd "$1/elsewhere"
umask 077
export TZ=Asia/Tokyo LANG=C.UTF-8
make -s build >/dev/null
pack "$1/second" "$1/b"
cd "$1/a" && sha256sum *.deb *.rpm >"$1/sums"
cd "$1/b" && sha256sum -c --quiet "$1/sums" && wc -l <"$1/sums"`
	if out, err := output("bash", "-c", script, "-", dir); err != nil || out != "8" {
		t.Fatalf("%v: %s", err, out)
	}
}
