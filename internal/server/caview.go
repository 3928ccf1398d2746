package server

import (
	"context"
	"crypto/x509"
	"fmt"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/httpd/arm"
	"sallyport/internal/keyring"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/store"
)

// maxBehind is how many machines that are behind are named.
const maxBehind = 100

// Keys shows every key with its state, and the machines that are behind.
func (a *authority) Keys(ctx context.Context) (list arm.KeyList, err error) {
	list.Value, list.Machines = []arm.KeyState{}, []arm.MachineBehind{}
	err = a.cfg.Store.Read(ctx, func(t *store.Tx) error {
		_, m, ring, err := a.read(t)
		if err != nil {
			return err
		}
		_, differs := ring.Draft(m, t.Now())
		list.Manifest = arm.ManifestState{Epoch: m.Epoch, Version: m.Version, IssuedAt: m.IssuedAt, KeyID: a.pin, OnServer: a.canSign(), Unsigned: differs && !a.canSign()}
		if list.Behind, err = t.CountBehind(m.Epoch, m.Version); err != nil {
			return err
		}
		behind, err := t.ManifestBehind(m.Epoch, m.Version, maxBehind)
		if err != nil {
			return err
		}
		for _, b := range behind {
			list.Machines = append(list.Machines, arm.MachineBehind{ID: b.MachineID, ResourceID: b.ResourceID, Version: b.Version})
		}
		for _, p := range append(keyring.Purposes(), protocol.Repository) {
			for _, k := range ring.Keys {
				if k.Purpose != p {
					continue
				}
				state, err := a.show(t, k, list.Manifest)
				if err != nil {
					return err
				}
				list.Value = append(list.Value, state)
			}
		}
		return nil
	})
	return list, err
}

func (a *authority) show(t *store.Tx, k keyring.Key, m arm.ManifestState) (arm.KeyState, error) {
	_, held := a.cfg.Keys.ByID(k.Purpose, k.ID)
	s := arm.KeyState{Purpose: string(k.Purpose), ID: k.ID, State: string(k.State), Since: k.Since, Created: k.Created, Held: held}
	if pub, err := x509.ParsePKIXPublicKey(k.Public); err == nil {
		if key, err := ssh.NewPublicKey(pub); err == nil {
			s.Fingerprint = ssh.FingerprintSHA256(key)
		}
	}
	switch {
	case k.State == keyring.Retiring:
		until := k.Until
		s.Until = &until
		s.WaitsFor = "the end of what it has signed"
		if m.Unsigned && !t.Now().Before(until) {
			s.WaitsFor = "the signature of the manifest"
		}
	case k.State == keyring.Next && k.Purpose == protocol.Token:
		s.WaitsFor = "readers of the key set"
	case k.State == keyring.Next && k.Listed == 0:
		s.WaitsFor = "the signature of the manifest"
	case k.State == keyring.Next:
		n, err := t.CountBehind(m.Epoch, k.Listed)
		if err != nil {
			return s, err
		}
		s.WaitsFor = fmt.Sprintf("%d machines", n)
	}
	return s, nil
}
