package upgrade

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"sallyport/internal/agent/durable"
	"sallyport/internal/machine/protocol"
)

// Places of an upgrade, below Config.Root.
const (
	Folder      = "/var/lib/sallyport/upgrade"
	journalPath = Folder + "/journal.json"
	lastPath    = Folder + "/last.json"
	programPath = Folder + "/sally"
	stageFolder = Folder + "/packages"
	unitFolder  = "/etc/systemd/system"
	unitPath    = unitFolder + "/" + Unit
	linkFolder  = unitFolder + "/multi-user.target.wants"
	linkPath    = linkFolder + "/" + Unit
)

// Unit is the supervisor's.
const Unit = "sallyport-agent-upgrade.service"

// maxState bounds the files of this package.
const maxState = 64 << 10

// Step is how far an upgrade has come.
type Step string

// The steps. Until Install nothing of the machine has changed; the last three are
// ends.
const (
	Install   Step = "install" // the new packages are being installed
	Try       Step = "try"     // the new build runs and has to prove itself
	Return    Step = "return"  // the old packages are being installed
	Done      Step = "done"
	Returned  Step = "returned"
	Abandoned Step = "abandoned" // somebody installed a third version meanwhile
)

// Final says that nothing more happens.
func (s Step) Final() bool { return s == Done || s == Returned || s == Abandoned }

// Journal is an upgrade under way: everything that the supervisor needs to know.
type Journal struct {
	ID     string `json:"id"`
	From   string `json:"from"`
	To     string `json:"to"`
	Wait   int64  `json:"waitSeconds"`
	Wired  bool   `json:"wired"` // sign-in was on: a login has to be made
	Step   Step   `json:"step"`
	Reason string `json:"reason,omitempty"` // of the return
	Starts int    `json:"starts"`           // of the supervisor, before the return
	// Capability of the build before. The new one says no more while it is tried: a
	// snapshot for more than the old one reads would keep the old one from its own.
	Capability int `json:"capability"`
	// Manager of the packages: "dpkg", "rpm", or "hand", which has Files.
	Manager string                    `json:"manager,omitempty"`
	Files   []File                    `json:"files,omitempty"`
	New     []protocol.ReleasePackage `json:"new"`
	Old     []protocol.ReleasePackage `json:"old"`
}

// errDamaged: a file of an upgrade holds what nobody wrote there. It does not pass
// by trying again.
var errDamaged = errors.New("the file is damaged")

// Journal returns the upgrade under way; found is false when there is none.
func (m *Machine) Journal() (j Journal, found bool, err error) {
	found, err = m.load(journalPath, &j)
	return j, found, err
}

// Last returns what became of the upgrade before.
func (m *Machine) Last() (state protocol.UpgradeState, found bool, err error) {
	found, err = m.load(lastPath, &state)
	return state, found, err
}

func (m *Machine) load(path string, out any) (bool, error) {
	b, err := durable.Read(m.at(path), m.cfg.Owner, maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		if err = json.Unmarshal(b, out); err != nil { // written by the build before or after this one: what is unknown is its own
			err = fmt.Errorf("%w: %w", errDamaged, err)
		}
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return true, nil
}

func (m *Machine) keep(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return durable.Write(m.at(path), b, 0o600)
}

func (m *Machine) at(path string) string { return filepath.Join(m.cfg.Root, path) }

// Conclude turns an upgrade that came to its end into the last one, and leaves
// nothing of it behind. It may be repeated: the journal goes last, so that what a
// kill left is removed the next time.
func (m *Machine) Conclude(j Journal) (protocol.UpgradeState, error) {
	state := protocol.UpgradeState{ID: j.ID, Version: j.To, From: j.From, State: protocol.UpgradeDone, Reason: j.Reason}
	if j.Step != Done {
		state.State = protocol.UpgradeReturned
	}
	err := m.keep(lastPath, state)
	if err == nil {
		err = errors.Join(m.disarm(), durable.Remove(m.at(programPath)), m.Sweep(nil))
	}
	if err == nil {
		err = durable.Remove(m.at(journalPath))
	}
	return state, err
}

// Armed reports whether a computer has the supervisor's unit.
func Armed(root string) bool {
	_, err := os.Lstat(filepath.Join(root, unitPath))
	return err == nil
}

// Forget removes everything that upgrades made, for a computer that is no machine
// any more. The supervisor must have ended, and the agent too, which would start it
// again.
func Forget(root string) error {
	m := New(Config{Root: root})
	return errors.Join(m.disarm(), os.RemoveAll(m.at(Folder)))
}

// Note keeps what became of a wish for which nothing had to be done.
func (m *Machine) Note(state protocol.UpgradeState) error {
	if err := durable.Folder(m.at(Folder), 0o700); err != nil {
		return err
	}
	return m.keep(lastPath, state)
}

// Sweep removes staged files but for those that are still needed.
func (m *Machine) Sweep(needed []protocol.ReleasePackage) error {
	keep := map[string]bool{}
	for _, p := range needed {
		keep[staged(p)], keep[staged(p)+partial] = true, true
	}
	list, err := os.ReadDir(m.at(stageFolder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range list {
		if !keep[e.Name()] {
			err = errors.Join(err, os.RemoveAll(filepath.Join(m.at(stageFolder), e.Name())))
		}
	}
	return err
}
