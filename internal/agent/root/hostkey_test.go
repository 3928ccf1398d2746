package root

import (
	"context"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/machine/protocol"
)

// hostCertificate is one of this machine, signed by the host CA.
func (r *rig) hostCertificate() string {
	r.t.Helper()
	pub, err := ssh.NewPublicKey(r.host.Public())
	if err != nil {
		r.t.Fatal(err)
	}
	r.serial++
	c := &ssh.Certificate{Key: pub, CertType: ssh.HostCert, Serial: r.serial, ValidPrincipals: []string{machineID + ".machine.corp.example"},
		ValidAfter: uint64(r.now.Add(-time.Minute).Unix()), ValidBefore: uint64(r.now.Add(time.Hour).Unix())}
	signer, err := ssh.NewSignerFromSigner(r.hostCA)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := c.SignCert(rand.Reader, signer); err != nil {
		r.t.Fatal(err)
	}
	return string(ssh.MarshalAuthorizedKey(c))
}

// No manifest comes between the look at a host certificate and its taking over.
func TestHostCertificate_IsADelivery(t *testing.T) {
	r := newRig(t)
	asked := false
	r.cfg.Now = func() time.Time {
		if asked = true; r.Service.deliver.TryLock() {
			r.Service.deliver.Unlock()
			t.Error("a manifest could come now")
		}
		return r.now
	}
	if err := r.HostCertificate(r.hostCertificate()); err != nil || !asked {
		t.Fatal(err, asked)
	}
}

// sshd is made to read a renewed certificate until it has, also where the change of
// something else failed, or needed no reload.
func TestHostCertificate_ReloadIsRepeated(t *testing.T) {
	ctx := context.Background()
	r := newRig(t)
	reloads, fails := 0, error(nil)
	r.cfg.Reload = func(context.Context) error { reloads++; return fails }
	if err := r.HostCertificate(r.hostCertificate()); err != nil {
		t.Fatal(err)
	}
	r.mustDeliver(nil)
	last := r.apply(ctx, attempt{})
	renew := func() {
		t.Helper()
		r.now, reloads = r.now.Add(time.Minute), 0
		if err := r.HostCertificate(r.hostCertificate()); err != nil {
			t.Fatal(err)
		}
	}
	step := func(what string, want int) {
		t.Helper()
		if last = r.apply(ctx, last); reloads != want {
			t.Errorf("%s: %d reloads", what, reloads)
		}
	}
	renew()
	fails = errors.New("no")
	step("the reload fails", 1)
	fails = nil
	step("again", 2)
	step("nothing new", 2)
	renew()
	r.wiring.mark, r.wiring.apply = "other", errors.New("no")
	step("another change fails", 0)
	r.wiring.apply = nil
	step("and then not", 1)
	renew()
	if err := r.Manifest(r.renewed(listed(t, protocol.UserCA, newKey(t)), listed(t, protocol.HostCA, r.hostCA), listed(t, protocol.Snapshot, r.snapshotKey))); err != nil {
		t.Fatal(err)
	}
	r.wiring.changes = true
	step("a new user CA", 1)
	renew()
	if err := r.deliver(func(d *protocol.SnapshotDocument) { d.Domains = append(d.Domains, "other.example") }); err != nil {
		t.Fatal(err)
	}
	step("a change that reloads by itself", 0)
	step("nothing new", 0)
}
