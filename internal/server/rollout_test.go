package server

import (
	"crypto"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/keyring"
	"sallyport/internal/keystore"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/store"
)

// TestPackages_KeyIsInTheManifest: machines find the key that vouches for packages
// behind the key that they pinned; another key takes its place, and a retired one
// does not come back. Without it nothing is upgraded from here.
func TestPackages_KeyIsInTheManifest(t *testing.T) {
	d := rig(t, time.Now)
	go func() { _ = d.follow.run(t.Context()) }()
	if _, err := d.packageVersions(); !fault.Is(err, fault.Precondition) {
		t.Fatalf("no folder of packages: %v", err)
	}
	if d.store.Shared() {
		if err := d.keys.AddRepository(); err != nil { // as sally server repository-key does
			t.Fatal(err)
		}
	}
	d.cfg.Packages = filepath.Join(t.TempDir(), "packages")
	if err := os.Mkdir(d.cfg.Packages, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := d.openPackages(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.packageVersions(); fault.As(err).Code != "KeyNotListed" {
		t.Fatalf("the key is not listed yet: %v", err)
	}
	for range 2 {
		if err := d.enlistRepository(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	signer, err := d.keys.Signer(keystore.Repository)
	if err != nil {
		t.Fatal(err)
	}
	_, m := d.trust.Manifest()
	listed := m.For(protocol.Repository)
	if len(listed) != 1 || !listed[0].(interface{ Equal(crypto.PublicKey) bool }).Equal(signer.Public()) || m.Version != 2 {
		t.Fatalf("version %d lists %v", m.Version, listed)
	}
	if _, err := d.packageVersions(); err != nil {
		t.Error(err)
	}
	if err := d.trust.ready(); err != nil {
		t.Error(err)
	}
	if err := d.store.Read(t.Context(), func(tx *store.Tx) error {
		_, _, ring, err := d.trust.read(tx)
		if err != nil {
			return err
		}
		other, err := d.keys.Signer(protocol.Audit)
		if err != nil {
			return err
		}
		next, changed, err := ring.Enlist(other.Public(), tx.Now())
		if err == nil || changed {
			t.Error("a key has two purposes")
		}
		alone := keyring.Ring{Keys: next.Keys[len(next.Keys)-1:]}
		next, changed, err = alone.Enlist(other.Public(), tx.Now())
		if err != nil || !changed || next.Keys[0].State != keyring.Retired {
			t.Errorf("%+v %v", next, err)
		}
		if _, _, err = next.Enlist(signer.Public(), tx.Now()); err == nil {
			t.Error("a retired key comes back")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
