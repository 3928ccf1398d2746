package server

import (
	"context"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/keystore"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/rollout"
)

// upgradeEvery is how often an upgrade of the fleet is looked at.
const upgradeEvery = time.Second

func (d *deployment) newRollout() *rollout.Service {
	return rollout.New(rollout.Config{Write: writes[rollout.Tx](d), Machines: rolloutMachines{d}, Versions: d.packageVersions, Rand: d.cfg.Rand, Now: d.cfg.Now})
}

// rollOut takes the steps that are due. What could not be done is tried again.
func (d *deployment) rollOut(ctx context.Context) error {
	tick := time.NewTicker(upgradeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		by := audit.By{Type: audit.Task, Name: "agent upgrade", CorrelationID: zeroID, At: d.cfg.Now()}
		if d.machineGate() != nil {
			continue
		}
		if err := d.upgrades.Advance(ctx, by); err != nil && ctx.Err() == nil {
			d.cfg.Log.Error("agent upgrade", "error", err.Error())
		}
	}
}

// packageVersions lists what machines can be upgraded to from here.
func (d *deployment) packageVersions() ([]string, error) {
	if d.packages == nil {
		return nil, fault.New(fault.Precondition, "NoPackages", "this server hands out no packages").WithRemedy("Give it a folder of packages: docs/how-to/packages.md")
	}
	signer, err := d.keys.Signer(keystore.Repository)
	if err != nil {
		return nil, err
	}
	id, err := protocol.Thumbprint(signer.Public())
	if err != nil {
		return nil, err
	}
	if _, m := d.trust.Manifest(); !m.Lists(protocol.Repository, id) {
		return nil, fault.New(fault.Precondition, "KeyNotListed", "the key that vouches for this server's packages is not in the manifest, so no machine believes it").
			WithRemedy("Where the manifest key is elsewhere: sally ca request-manifest, sally ca sign-manifest, sally ca apply-manifest.")
	}
	return d.packages.Versions(), nil
}

// rolloutMachines is the machines as the upgrade of the fleet wants them.
type rolloutMachines struct{ d *deployment }

func (f rolloutMachines) Members() (list []rollout.Member) {
	for _, m := range f.d.machineKeys.All() {
		if n, ok := f.Member(m.ID); ok {
			list = append(list, n)
		}
	}
	return list
}

func (f rolloutMachines) Member(id string) (rollout.Member, bool) {
	st, joined := f.d.machines.State(id)
	w, wanted := f.d.wanted.Want(id)
	if !joined || !wanted {
		return rollout.Member{}, false
	}
	return rollout.Member{ID: st.ID, ResourceID: st.ResourceID.String(), Agent: st.Agent, Tags: w.Tags, LastSeen: st.LastSeen, ReportedAt: st.Report.At, Upgrade: st.Report.Upgrade}, true
}
