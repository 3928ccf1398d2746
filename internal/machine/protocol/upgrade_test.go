package protocol

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

func TestCompareVersions_AsDpkgDoes(t *testing.T) {
	versions := []string{"0.1.0", "0.1.0~rc1", "0.1.0+1", "0.10", "0.2", "1", "1.0", "1.0a", "1.0.a", "1.00", "01", "1a", "1~", "1~~", "1+"}
	for _, a := range versions {
		for _, b := range versions {
			got := CompareVersions(a, b)
			word := "eq"
			if got < 0 {
				word = "lt"
			} else if got > 0 {
				word = "gt"
			}
			if err := exec.Command("dpkg", "--compare-versions", a, word, b).Run(); err != nil {
				t.Errorf("%s %s %s: dpkg says no", a, word, b)
			}
		}
	}
}

func FuzzCompareVersions(f *testing.F) {
	f.Add("1.0~1", "1.0")
	f.Fuzz(func(t *testing.T, a, b string) {
		if !ValidVersion(a) || !ValidVersion(b) {
			return
		}
		if x, y := CompareVersions(a, b), CompareVersions(b, a); x < 0 != (y > 0) || (x == 0) != (y == 0) {
			t.Fatalf("%q %q: %d %d", a, b, x, y)
		}
	})
}

// TestOpenRelease_RefusesWhatNobodyVouchedFor: another key, another version,
// another kind of document, and names that lead elsewhere.
func TestOpenRelease_RefusesWhatNobodyVouchedFor(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good := ReleaseDocument{Version: "1.2", Packages: []ReleasePackage{{Format: "deb", Name: "sallyport", Architecture: "amd64", File: "sallyport_1.2-1_amd64.deb", Size: 1, SHA256: strings.Repeat("a", 64)}}}
	sign := func(key *rsa.PrivateKey, kind string, d ReleaseDocument) Envelope {
		b, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		e, err := Sign(rand.Reader, key, kind, b)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	trusted := []crypto.PublicKey{key.Public()}
	if _, err := OpenRelease(sign(key, TypeRelease, good), trusted, "1.2"); err != nil {
		t.Fatal(err)
	}
	bad := map[string]Envelope{"another key": sign(other, TypeRelease, good), "another kind": sign(key, TypeSnapshot, good)}
	altered := sign(key, TypeRelease, good)
	altered.Payload = []byte(strings.Replace(string(altered.Payload), "aaa", "aab", 1))
	bad["altered"] = altered
	for name, change := range map[string]func(*ReleasePackage){
		"path": func(p *ReleasePackage) { p.File = "../x" }, "hidden": func(p *ReleasePackage) { p.File = ".x" }, "size": func(p *ReleasePackage) { p.Size = MaxPackage + 1 },
		"no size": func(p *ReleasePackage) { p.Size = 0 }, "hash": func(p *ReleasePackage) { p.SHA256 = "00" }, "option": func(p *ReleasePackage) { p.File = "--force" }, "format": func(p *ReleasePackage) { p.Format = "sh" },
	} {
		d := good
		d.Packages = []ReleasePackage{good.Packages[0]}
		change(&d.Packages[0])
		bad[name] = sign(key, TypeRelease, d)
	}
	for name, e := range bad {
		if _, err := OpenRelease(e, trusted, "1.2"); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := OpenRelease(sign(key, TypeRelease, good), trusted, "1.1"); err == nil {
		t.Error("another version was taken")
	}
	if _, err := OpenRelease(sign(key, TypeRelease, good), nil, "1.2"); err == nil {
		t.Error("taken although the manifest lists no key")
	}
}
