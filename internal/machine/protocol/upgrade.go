package protocol

import (
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"sallyport/internal/guid"
)

// TypeRelease is the payload type of a ReleaseDocument.
const TypeRelease = "application/vnd.sallyport.release.v1+json"

// UpgradeCapability is the first version of the protocol that knows upgrades.
const UpgradeCapability = 5

// UpgradeWish is a snapshot's word that the machine is to run another build of
// its agent. It names a version and no bytes: those are a ReleaseDocument's, which
// another key signs.
type UpgradeWish struct {
	ID          string `json:"id"` // of the upgrade, a GUID: one that came to an end is not begun again
	Version     string `json:"version"`
	WaitSeconds int64  `json:"waitSeconds"` // how long the new build has to prove itself
}

// Bounds of WaitSeconds.
const (
	LeastUpgradeWait = 30
	MostUpgradeWait  = 3600
)

// Check refuses a wish that is none.
func (w UpgradeWish) Check() error {
	if !guid.Valid(w.ID) || !ValidVersion(w.Version) || w.WaitSeconds < LeastUpgradeWait || w.WaitSeconds > MostUpgradeWait {
		return errors.New("the wish for another build has no id, no version or no time")
	}
	return nil
}

// States of an upgrade on one machine.
const (
	UpgradeFetching = "fetching" // wished, and what it needs is being brought
	UpgradeTrying   = "trying"   // the new build is being installed or proves itself
	UpgradeDone     = "done"     // it runs, a login was made with it, and the server has heard it
	UpgradeReturned = "returned" // it did not prove itself, and the build before is back
	UpgradeRefused  = "refused"  // this machine does not begin; Reason says why
)

// UpgradeStates lists the states.
func UpgradeStates() []string {
	return []string{UpgradeFetching, UpgradeTrying, UpgradeDone, UpgradeReturned, UpgradeRefused}
}

// UpgradeState is a machine's word on a wish.
type UpgradeState struct {
	ID      string `json:"id"`
	Version string `json:"version"`
	From    string `json:"from,omitempty"` // the build before
	State   string `json:"state"`
	Reason  string `json:"reason,omitempty"`
}

// Check refuses what no machine of ours says.
func (u UpgradeState) Check() error {
	if !guid.Valid(u.ID) || !ValidVersion(u.Version) || u.From != "" && !ValidVersion(u.From) || !slices.Contains(UpgradeStates(), u.State) || len(u.Reason) > 1024 {
		return errors.New("its upgrade is none")
	}
	return nil
}

// MaxPackage bounds one package's file.
const MaxPackage = 128 << 20

const maxReleasePackages = 64

// ReleaseDocument is one version of the agent: which files it is. The key that
// signs it does nothing but vouch for packages; the manifest lists it.
type ReleaseDocument struct {
	Version  string           `json:"version"`
	Packages []ReleasePackage `json:"packages"`
}

// ReleasePackage is one file of a version.
type ReleasePackage struct {
	Format       string `json:"format"` // "deb" or "rpm"
	Name         string `json:"name"`
	Architecture string `json:"architecture"` // in the format's words
	File         string `json:"file"`         // its name in the repository
	Size         int64  `json:"size"`
	SHA256       string `json:"sha256"` // hexadecimal
}

// ReleasePath is where the document of a version stands, below the repository.
func ReleasePath(version string) string { return "releases/" + version + ".json" }

// Path is where the file stands, below the repository.
func (p ReleasePackage) Path() string {
	if p.Format == "rpm" {
		return "rpm/Packages/" + p.File
	}
	return "deb/pool/" + p.File
}

// OpenRelease verifies a release with one of the manifest's keys for packages. It
// must be of the version that was asked for.
func OpenRelease(e Envelope, keys []crypto.PublicKey, version string) (ReleaseDocument, error) {
	for _, pub := range keys {
		if id, err := Thumbprint(pub); err != nil || id != e.KeyID {
			continue
		}
		payload, err := e.Open(pub, TypeRelease)
		if err != nil {
			return ReleaseDocument{}, err
		}
		var d ReleaseDocument
		if err := Decode(payload, &d); err != nil {
			return ReleaseDocument{}, fmt.Errorf("release: %w", err)
		}
		if err := d.check(); err != nil {
			return ReleaseDocument{}, err
		}
		if d.Version != version {
			return ReleaseDocument{}, fmt.Errorf("the release is %s, not %s", d.Version, version)
		}
		return d, nil
	}
	return ReleaseDocument{}, errors.New("the release is signed by a key that the manifest does not list for packages")
}

func (d ReleaseDocument) check() error {
	if !ValidVersion(d.Version) || len(d.Packages) == 0 || len(d.Packages) > maxReleasePackages {
		return errors.New("release: its version or number of packages is out of range")
	}
	seen := map[string]bool{}
	for _, p := range d.Packages {
		sum, err := hex.DecodeString(p.SHA256)
		if err != nil || len(sum) != 32 || strings.ToLower(p.SHA256) != p.SHA256 || p.Size < 1 || p.Size > MaxPackage || p.Format != "deb" && p.Format != "rpm" ||
			!word(p.Name, "-") || !word(p.Architecture, "_-") || !word(p.File, "-._+~") || seen[p.File] {
			return errors.New("release: one of its packages is none")
		}
		seen[p.File] = true
	}
	return nil
}

// word accepts letters, digits and some more, beginning with a letter or digit.
func word(s, more string) bool {
	return s != "" && len(s) <= 200 && !strings.ContainsAny(s[:1], more) &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"+more) == ""
}

// ValidVersion is the closed alphabet of versions, which Debian and RPM share.
func ValidVersion(v string) bool {
	return v != "" && len(v) <= 64 && digit(v[0]) && word(v, ".+~")
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// CompareVersions orders versions as dpkg does (Debian Policy 5.6.12): negative
// when a is the older one. The alphabet has no epoch and no revision.
func CompareVersions(a, b string) int {
	for a != "" || b != "" {
		for a != "" && !digit(a[0]) || b != "" && !digit(b[0]) {
			if d := weight(a) - weight(b); d != 0 {
				return d
			}
			a, b = tail(a), tail(b)
		}
		x, y := number(&a), number(&b)
		if d := len(x) - len(y); d != 0 {
			return d
		}
		if d := strings.Compare(x, y); d != 0 {
			return d
		}
	}
	return 0
}

// weight of the first character: a tilde is before the end, letters before others.
func weight(s string) int {
	switch {
	case s == "" || digit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case s[0] >= 'A' && s[0] <= 'Z', s[0] >= 'a' && s[0] <= 'z':
		return int(s[0])
	}
	return int(s[0]) + 256
}

func tail(s string) string {
	if s == "" {
		return ""
	}
	return s[1:]
}

// number cuts a number off, without leading zeros.
func number(s *string) string {
	n := 0
	for n < len(*s) && digit((*s)[n]) {
		n++
	}
	x := strings.TrimLeft((*s)[:n], "0")
	*s = (*s)[n:]
	return x
}
