package repository

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/binary"
	"encoding/xml"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// control is a package's description.
const control = "Package: sallyport\nVersion: 1.0-1\nArchitecture: amd64\nMaintainer: M <m@example.org>\nDescription: words\n more words\n"

// debOf makes a package around a description.
func debOf(t testing.TB, description string) []byte {
	t.Helper()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	files := tar.NewWriter(z)
	if err := files.WriteHeader(&tar.Header{Name: "./control", Mode: 0o644, Size: int64(len(description)), Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if _, err := files.Write([]byte(description)); err != nil {
		t.Fatal(err)
	}
	if err := files.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	out := []byte(arMagic)
	for _, m := range []struct {
		name string
		body []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar.gz", packed.Bytes()}, {"data.tar.gz", []byte("data")}} {
		out = fmt.Appendf(out, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", m.name, 0, 0, 0, 0o644, len(m.body))
		out = append(out, m.body...)
		if len(m.body)%2 == 1 {
			out = append(out, '\n')
		}
	}
	return out
}

// headerOf makes a header structure of an RPM package.
func headerOf(texts map[uint32][]string, numbers map[uint32][]uint32) []byte {
	var index, store []byte
	entry := func(tag, kind uint32, n int) {
		for _, v := range []uint32{tag, kind, uint32(len(store)), uint32(n)} {
			index = binary.BigEndian.AppendUint32(index, v)
		}
	}
	for tag, list := range texts {
		kind := uint32(rpmStrings)
		if len(list) == 1 {
			kind = rpmString
		}
		entry(tag, kind, len(list))
		for _, s := range list {
			store = append(append(store, s...), 0)
		}
	}
	for tag, list := range numbers {
		kind := uint32(rpmInt32)
		if tag == tagFileModes {
			kind = rpmInt16
		}
		entry(tag, kind, len(list))
		for _, n := range list {
			if kind == rpmInt16 {
				store = binary.BigEndian.AppendUint16(store, uint16(n))
			} else {
				store = binary.BigEndian.AppendUint32(store, n)
			}
		}
	}
	out := []byte{0x8e, 0xad, 0xe8, 0x01, 0, 0, 0, 0}
	out = binary.BigEndian.AppendUint32(out, uint32(len(index)/16))
	out = binary.BigEndian.AppendUint32(out, uint32(len(store)))
	return append(append(out, index...), store...)
}

func rpmOf(name, version, arch string) []byte {
	lead := make([]byte, rpmLead)
	copy(lead, []byte{0xed, 0xab, 0xee, 0xdb, 3})
	signature := headerOf(nil, map[uint32][]uint32{tagPayloadSize: {7}})
	signature = append(signature, make([]byte, (8-len(signature)%8)%8)...)
	header := headerOf(map[uint32][]string{
		tagName: {name}, tagVersion: {version}, tagRelease: {"1"}, tagArch: {arch}, tagSummary: {"a <summary> & more"}, tagLicense: {"Apache-2.0"},
		tagBaseNames: {"sally", "doc"}, tagDirNames: {"/usr/bin/", "/usr/share/"}, tagRequireName: {"rpmlib(X)", "bash"}, tagRequireVer: {"1", "1:2-3"}, tagProvideName: {name, "x"}, tagProvideVer: {version, ""},
	}, map[uint32][]uint32{tagDirIndexes: {0, 1}, tagFileModes: {0o100755, 0o040755}, tagRequireFlag: {8, 12}, tagProvideFlag: {8, 0}, tagSize: {42}})
	return append(append(append(lead, signature...), header...), "payload"...)
}

// rig is a folder with packages and a repository of it.
type rig struct {
	folder string
	now    time.Time
	key    *rsa.PrivateKey
}

// testKey is made once: it takes a while.
var testKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func newRig(t *testing.T) *rig {
	t.Helper()
	g := &rig{folder: filepath.Join(t.TempDir(), "packages"), now: time.Date(2026, 11, 23, 1, 2, 3, 0, time.UTC), key: testKey()}
	if err := os.Mkdir(g.folder, 0o755); err != nil {
		t.Fatal(err)
	}
	g.put(t, "sallyport_1.0-1_amd64.deb", debOf(t, control))
	g.put(t, "sallyport-1.0-1.x86_64.rpm", rpmOf("sallyport", "1.0", "x86_64"))
	g.put(t, "README", []byte("passed over"))
	return g
}

func (g *rig) put(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(g.folder, name), content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func (g *rig) open() (*Repository, error) {
	return Open(Config{Folder: g.folder, Signer: g.key, Name: "corp.example", Rand: rand.Reader, Now: func() time.Time { return g.now }})
}

func (g *rig) mustOpen(t *testing.T) *Repository {
	t.Helper()
	r, err := g.open()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func text(t *testing.T, r *Repository, path string) string {
	t.Helper()
	f, ok := r.File(path)
	if !ok {
		t.Fatalf("there is nothing at %s", path)
	}
	return string(f.Data)
}

// keyring writes the published key as gpgv wants it.
func keyring(t *testing.T, r *Repository) string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(text(t, r, KeyPath)), "\n")
	raw, err := base64.StdEncoding.DecodeString(strings.Join(lines[2:len(lines)-2], ""))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.gpg")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestSignatures_AreWhatGPGVTakes holds every signed file to gpgv, which apt of
// Debian 11 and 12 asks, and a changed one too.
func TestSignatures_AreWhatGPGVTakes(t *testing.T) {
	r := newRig(t).mustOpen(t)
	ring := keyring(t, r)
	gpgv := func(args ...string) error {
		out, err := exec.Command("gpgv", append([]string{"--keyring", ring}, args...)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if !strings.Contains(string(out), r.Fingerprint()) {
			return fmt.Errorf("another key: %s", out)
		}
		return nil
	}
	inline := text(t, r, "deb/dists/stable/InRelease")
	if err := gpgv(write(t, inline)); err != nil {
		t.Errorf("InRelease: %v", err)
	}
	if err := gpgv(write(t, strings.Replace(inline, "Origin: Sallyport", "Origin: sallyport", 1))); err == nil {
		t.Error("a changed InRelease is taken")
	}
	for path, signature := range map[string]string{"deb/dists/stable/Release": "deb/dists/stable/Release.gpg", "rpm/repodata/repomd.xml": "rpm/repodata/repomd.xml.asc"} {
		if err := gpgv(write(t, text(t, r, signature)), write(t, text(t, r, path))); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if err := gpgv(write(t, text(t, r, signature)), write(t, text(t, r, path)+" ")); err == nil {
			t.Errorf("a changed %s is taken", path)
		}
	}
	if text(t, r, KeyPath) != text(t, newRig(t).mustOpen(t), KeyPath) {
		t.Error("the key looks different at another server")
	}
}

// TestApt_IndexesNameWhatIsThere: Release names the indexes, they name the
// package, and each hash is the right one.
func TestApt_IndexesNameWhatIsThere(t *testing.T) {
	g := newRig(t)
	r := g.mustOpen(t)
	packages := text(t, r, "deb/dists/stable/main/binary-amd64/Packages")
	file, err := os.ReadFile(filepath.Join(g.folder, "sallyport_1.0-1_amd64.deb"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{control, "Filename: pool/sallyport_1.0-1_amd64.deb\n", fmt.Sprintf("Size: %d\n", len(file)), "SHA256: " + digest(file) + "\n"} {
		if !strings.Contains(packages, want) {
			t.Errorf("Packages lacks %q:\n%s", want, packages)
		}
	}
	if other := text(t, r, "deb/dists/stable/main/binary-arm64/Packages"); other != "" {
		t.Errorf("arm64 has %s", other)
	}
	release := text(t, r, "deb/dists/stable/Release")
	for _, want := range []string{"Date: Mon, 23 Nov 2026 01:02:03 UTC\n", "Valid-Until: Mon, 30 Nov 2026 01:02:03 UTC\n", "Acquire-By-Hash: yes\n", " " + digest([]byte(packages)) + fmt.Sprintf(" %d main/binary-amd64/Packages\n", len(packages))} {
		if !strings.Contains(release, want) {
			t.Errorf("Release lacks %q:\n%s", want, release)
		}
	}
	if text(t, r, "deb/dists/stable/main/binary-amd64/by-hash/SHA256/"+digest([]byte(packages))) != packages {
		t.Error("not reachable by its hash")
	}
	if f, ok := r.File("deb/pool/sallyport_1.0-1_amd64.deb"); !ok || f.Path != filepath.Join(g.folder, "sallyport_1.0-1_amd64.deb") {
		t.Errorf("the package: %+v", f)
	}
	for _, path := range []string{"", "deb", "deb/pool/README", "deb/pool/../../key.asc", "rpm/Packages/sallyport_1.0-1_amd64.deb"} {
		if _, ok := r.File(path); ok {
			t.Errorf("%q is handed out", path)
		}
	}
}

// TestYum_IndexesNameWhatIsThere: repomd.xml leads to indexes that are XML and
// say what the package says.
func TestYum_IndexesNameWhatIsThere(t *testing.T) {
	r := newRig(t).mustOpen(t)
	var repo struct {
		Data []struct {
			Type     string `xml:"type,attr"`
			Checksum string `xml:"checksum"`
			Location struct {
				Href string `xml:"href,attr"`
			} `xml:"location"`
		} `xml:"data"`
	}
	if err := xml.Unmarshal([]byte(text(t, r, "rpm/repodata/repomd.xml")), &repo); err != nil || len(repo.Data) != 3 {
		t.Fatalf("%v %+v", err, repo)
	}
	for _, d := range repo.Data {
		packed := text(t, r, "rpm/"+d.Location.Href)
		if digest([]byte(packed)) != d.Checksum {
			t.Errorf("%s: hash", d.Type)
		}
		z, err := gzip.NewReader(strings.NewReader(packed))
		if err != nil {
			t.Fatal(err)
		}
		var plain bytes.Buffer
		if _, err := plain.ReadFrom(z); err != nil {
			t.Fatal(err)
		}
		if err := xml.Unmarshal(plain.Bytes(), new(struct{ XMLName xml.Name })); err != nil {
			t.Errorf("%s: %v\n%s", d.Type, err, plain.String())
		}
		if d.Type != "primary" {
			continue
		}
		for _, want := range []string{"<name>sallyport</name><arch>x86_64</arch>", `ver="1.0" rel="1"`, "a &lt;summary&gt; &amp; more", `<location href="Packages/sallyport-1.0-1.x86_64.rpm"/>`, "<file>/usr/bin/sally</file>",
			`<rpm:entry name="bash" flags="GE" epoch="1" ver="2" rel="3"/>`, `<rpm:entry name="x"/>`, `<size package="`} {
			if !strings.Contains(plain.String(), want) {
				t.Errorf("primary lacks %q:\n%s", want, plain.String())
			}
		}
		if strings.Contains(plain.String(), "rpmlib") || strings.Contains(plain.String(), "/usr/share/doc") {
			t.Errorf("primary has too much:\n%s", plain.String())
		}
	}
}

// TestLook_TakesChangesAndKeepsWhatWasBegun: a new package comes in, the index
// before stays reachable by its hash, the date never goes back, and what cannot
// be handed out changes nothing.
func TestLook_TakesChangesAndKeepsWhatWasBegun(t *testing.T) {
	g := newRig(t)
	r := g.mustOpen(t)
	before := text(t, r, "deb/dists/stable/main/binary-amd64/Packages")
	g.put(t, "sallyport_1.1-1_amd64.deb", debOf(t, strings.Replace(control, "1.0-1", "1.1-1", 1)))
	g.now = g.now.Add(-time.Hour) // somebody set the clock
	if err := r.Look(); err != nil {
		t.Fatal(err)
	}
	now := text(t, r, "deb/dists/stable/main/binary-amd64/Packages")
	if !strings.Contains(now, "Version: 1.1-1") || !strings.Contains(now, "Version: 1.0-1") {
		t.Errorf("the new package is not there:\n%s", now)
	}
	if text(t, r, "deb/dists/stable/main/binary-amd64/by-hash/SHA256/"+digest([]byte(before))) != before {
		t.Error("the index before has gone")
	}
	if !strings.Contains(text(t, r, "deb/dists/stable/Release"), "Date: Mon, 23 Nov 2026 01:02:04 UTC\n") {
		t.Error("the date went back, and apt would not take the index")
	}
	g.put(t, "broken_1_amd64.deb", []byte("no package"))
	if err := r.Look(); err == nil || !strings.Contains(err.Error(), "broken_1_amd64.deb") {
		t.Errorf("a broken package: %v", err)
	}
	if text(t, r, "deb/dists/stable/main/binary-amd64/Packages") != now {
		t.Error("the broken package changed something")
	}
	if err := os.Remove(filepath.Join(g.folder, "broken_1_amd64.deb")); err != nil {
		t.Fatal(err)
	}
	g.now = g.now.Add(signEvery + 2*time.Hour)
	if err := r.Look(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text(t, r, "deb/dists/stable/Release"), "Date: Mon, 23 Nov 2026 14:02:03 UTC\n") {
		t.Errorf("it was not signed anew:\n%s", text(t, r, "deb/dists/stable/Release"))
	}
}

// TestOpen_Refuses what would make somebody else root on machines.
func TestOpen_Refuses(t *testing.T) {
	for name, spoil := range map[string]func(*testing.T, *rig){
		"a folder that others write": func(t *testing.T, g *rig) {
			if err := os.Chmod(g.folder, 0o777); err != nil {
				t.Fatal(err)
			}
		},
		"a package that others write": func(t *testing.T, g *rig) {
			if err := os.Chmod(filepath.Join(g.folder, "sallyport_1.0-1_amd64.deb"), 0o666); err != nil {
				t.Fatal(err)
			}
		},
		"a package twice": func(t *testing.T, g *rig) { g.put(t, "again.deb", debOf(t, control)) },
		"a package that speaks for the index": func(t *testing.T, g *rig) {
			g.put(t, "x.deb", debOf(t, strings.NewReplacer("Package: sallyport", "Package: other", "Maintainer", "Filename").Replace(control)))
		},
		"two descriptions in one": func(t *testing.T, g *rig) {
			g.put(t, "x.deb", debOf(t, strings.Replace(control, "Package: sallyport", "Package: other", 1)+"\nPackage: libc6\nVersion: 99\n"))
		},
		"a field twice": func(t *testing.T, g *rig) {
			g.put(t, "x.deb", debOf(t, strings.Replace(control, "Package: sallyport", "Package: other", 1)+"Package: libc6\n"))
		},
		"a name with a path": func(t *testing.T, g *rig) {
			g.put(t, "x.deb", debOf(t, strings.Replace(control, "sallyport", "../sallyport", 1)))
		},
		"another architecture": func(t *testing.T, g *rig) { g.put(t, "x.rpm", rpmOf("x", "1", "s390x")) },
		"a name of an rpm with a quote": func(t *testing.T, g *rig) {
			g.put(t, "x.rpm", rpmOf(`x"/><y a="`, "1", "x86_64"))
		},
		"no folder": func(t *testing.T, g *rig) { g.folder += "-none" },
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t)
			spoil(t, g)
			if _, err := g.open(); err == nil {
				t.Error("it was taken")
			}
		})
	}
	_, other, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Folder: newRig(t).folder, Signer: other, Rand: rand.Reader, Now: time.Now}); err == nil {
		t.Error("a key that old gpg does not know was taken")
	}
}

func FuzzReadDeb(f *testing.F) {
	f.Add(debOf(f, control))
	f.Add([]byte(arMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := readDeb(bytes.NewReader(b))
		if err == nil && (strings.Contains(d.control, "\n\n") || !strings.Contains(strings.ToLower(d.control), "package:")) {
			t.Fatalf("taken: %q", d.control)
		}
	})
}

func FuzzReadRPM(f *testing.F) {
	f.Add(rpmOf("sallyport", "1.0", "x86_64"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := readRPM(bytes.NewReader(b))
		if err != nil {
			return
		}
		e := entry{file: "x.rpm", sha256: digest(b), rpm: &p}
		indexes, err := yumIndexes([]entry{e})
		if err != nil {
			return
		}
		for kind, text := range indexes {
			if err := xml.Unmarshal(text, new(struct{ XMLName xml.Name })); err != nil {
				t.Fatalf("%s is no XML: %v\n%q", kind, err, text)
			}
		}
	})
}
