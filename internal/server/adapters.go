package server

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/keystore"
	"sallyport/internal/machine"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/resource/types"
	"sallyport/internal/sshca"
	"sallyport/internal/store"
)

// The adapters here translate between what one domain offers and what another
// declared. None decides anything.

// machineKeys signs what machines are told, with the keys that are active at the
// moment. The audit head is signed anew at most once a second.
type machineKeys struct {
	*authority
	keys  *keystore.Store
	rand  io.Reader
	store *store.Store
	now   func() time.Time

	mu   sync.Mutex
	head protocol.SignedHead
	at   time.Time
}

// Sign signs a document with the snapshot key.
func (k *machineKeys) Sign(payloadType string, payload []byte) (protocol.Envelope, error) {
	key, err := k.keys.Signer(protocol.Snapshot)
	if err != nil {
		return protocol.Envelope{}, err
	}
	return protocol.Sign(k.rand, key, payloadType, payload)
}

// AuditHead returns a signed head of the audit chain.
func (k *machineKeys) AuditHead() (protocol.SignedHead, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := k.now(); now.Sub(k.at) < time.Second {
		return k.head, k.head.KeyID != ""
	}
	var head audit.Head
	err := k.store.Read(context.Background(), func(t *store.Tx) error {
		var err error
		head, err = t.AuditHead()
		return err
	})
	if err != nil || head.Sequence == 0 {
		return protocol.SignedHead{}, false
	}
	key, err := k.keys.Signer(protocol.Audit)
	if err != nil {
		return protocol.SignedHead{}, false
	}
	signed, err := protocol.SignHead(k.rand, key, head)
	if err != nil {
		return protocol.SignedHead{}, false
	}
	k.head, k.at = signed, k.now()
	return k.head, true
}

// hostIssuer is sshca as machine wants it.
type hostIssuer struct{ issuer *authority }

// hostLife is how long a host certificate is valid.
const hostLife = 7 * 24 * time.Hour

// IssueHost signs a host certificate.
func (h hostIssuer) IssueHost(r machine.HostRequest) (machine.HostCertificate, error) {
	pub, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(r.PublicKey))
	if err != nil || len(rest) != 0 {
		return machine.HostCertificate{}, fmt.Errorf("host key: %w", err)
	}
	c, err := h.issuer.Issue(sshca.Request{Type: sshca.Host, PublicKey: pub, Principals: []string{r.Principal}, KeyID: r.KeyID, IssuedAt: r.At, Lifetime: hostLife})
	if err != nil {
		return machine.HostCertificate{}, err
	}
	return machine.HostCertificate{Line: string(ssh.MarshalAuthorizedKey(c)), Serial: c.Serial, ValidBefore: time.Unix(int64(c.ValidBefore), 0).UTC()}, nil //nolint:gosec // the linter bounds it
}

// desired is the resource model as machine wants it.
type desired struct{ machines *types.Machines }

// Desired returns what a machine is wanted to be.
func (d desired) Desired(machineID string) (machine.Desired, bool) {
	w, ok := d.machines.Want(machineID)
	if !ok {
		return machine.Desired{}, false
	}
	out := machine.Desired{ResourceID: w.ResourceID, Identity: w.Identity, Assigned: len(w.Assigned) > 0, LoginEnabled: w.LoginEnabled, Preview: w.Preview, Revision: w.Revision}
	if w.AdminName != "" {
		out.Administrator = &protocol.LocalAdministrator{Name: w.AdminName, Keys: w.AdminKeys}
	}
	return out, true
}

// agents is machine as the resource types want it.
type agents struct{ machines *machine.Service }

// Agent returns a machine's last word.
func (a agents) Agent(machineID string) (types.AgentState, bool) {
	s, ok := a.machines.State(machineID)
	if !ok {
		return types.AgentState{}, false
	}
	var upgrade *types.AgentUpgrade
	if u := s.Report.Upgrade; u != nil {
		upgrade = &types.AgentUpgrade{Version: u.Version, From: u.From, State: u.State, Reason: u.Reason}
	}
	return types.AgentState{Upgrade: upgrade, LastSeen: s.LastSeen, Version: s.Agent, OS: s.OS, OpenSSH: s.OpenSSH, Reached: s.Report.Revision, Provisioned: s.Report.Provisioned,
		ExitCode: s.Report.ExitCode, Message: s.Report.Message, Snapshot: s.Version, Acknowledged: s.Acknowledged, Addresses: s.Report.Addresses,
		Hostname: s.Hostname, JoinedAt: s.JoinedAt, Replaced: s.Replaced, ReplacedAt: s.ReplacedAt}, true
}

// loggedIn lists the login names of the sessions that are open on a machine, as
// it last said.
func (d *deployment) loggedIn(ctx context.Context, machineID string) ([]string, error) {
	list, err := d.machines.Sessions(ctx, machine.SessionQuery{MachineID: machineID})
	var names []string
	for _, n := range list {
		names = append(names, n.LoginName)
	}
	slices.Sort(names)
	return slices.Compact(names), err
}
