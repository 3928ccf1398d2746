package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/agent/durable"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// Config is what a Machine stands on.
type Config struct {
	Root  string // "/" on a machine
	Owner uint32 // of files: 0 on a machine
	Build string // the version that runs
	// Program is what the supervisor becomes a copy of: the program that runs.
	Program string
	// Run runs a program as root, with an environment of its own and in a while.
	Run func(ctx context.Context, argv ...string) ([]byte, error)
	// Writable says why nothing can be written in a folder (access(2)).
	Writable func(dir string) error
	Log      func(format string, args ...any)
}

// Machine is this computer as far as the agent's packages go.
type Machine struct{ cfg Config }

// New makes a Machine.
func New(cfg Config) *Machine { return &Machine{cfg: cfg} }

// Build is the version that runs.
func (m *Machine) Build() string { return m.cfg.Build }

// The packages, in the order in which they are installed.
const (
	basePackage  = "sallyport"
	agentPackage = "sallyport-agent"
	revision     = "-1"
)

func refusedHere(format string, args ...any) *fault.Error {
	return fault.New(fault.Precondition, "UpgradeNotHere", format, args...)
}

// Able names the way that the agent came by, and refuses where an
// upgrade cannot be gone back from: without systemd, or an agent that somebody
// else's manager installed.
func (m *Machine) Able(ctx context.Context) (by string, err error) {
	if _, err := os.Stat(m.at("/run/systemd/system")); err != nil {
		return "", refusedHere("this machine has no systemd: after a loss of power nobody would see an upgrade through, or take it back").WithRemedy("Install the new packages by hand, then end sally agent run and sally agent root: what starts them starts the new ones.")
	}
	way, err := m.owner(ctx)
	if err != nil {
		return "", err
	}
	if way.name == byHand { // the files are compared when there is something to compare them with: Prepared
		return way.name, nil
	}
	version, err := m.installed(ctx, way, Journal{})
	if err != nil {
		return "", err
	}
	if version != m.cfg.Build+revision {
		return "", refusedHere("the agent that runs is %s, and the package that is installed %s", m.cfg.Build, version).WithRemedy("Start the agent anew: systemctl restart sallyport-agent-root sallyport-agent")
	}
	return way.name, nil
}

// Begin hands the machine over to the supervisor. From its first write on the
// journal says what happens, whoever dies; before it, and after an error, nothing has
// changed.
func (m *Machine) Begin(ctx context.Context, j Journal) error {
	if protocol.CompareVersions(j.To, j.From) <= 0 || j.From != m.cfg.Build {
		return refusedHere("version %s is not newer than %s, which runs", j.To, m.cfg.Build)
	}
	if err := m.copyProgram(); err != nil {
		return fmt.Errorf("keep the program: %w", err)
	}
	j.Step, j.Starts = Install, 0
	if err := m.keep(journalPath, j); err != nil {
		return err
	}
	if err := m.Arm(ctx); err != nil {
		// Nothing has changed yet, and nobody would go on from here.
		return errors.Join(err, durable.Remove(m.at(journalPath)), m.disarm())
	}
	return nil
}

// copyProgram keeps the program that runs now, whole or not at all.
func (m *Machine) copyProgram() error {
	if err := durable.Folder(m.at(Folder), 0o700); err != nil {
		return err
	}
	in, err := os.Open(m.cfg.Program)
	if err != nil {
		return err
	}
	defer in.Close()
	fresh := m.at(programPath + ".new")
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	out, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o700)
	if err != nil {
		return err
	}
	label(m.cfg.Program, out)
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err == nil {
		err = os.Rename(fresh, m.at(programPath))
	}
	if err != nil {
		return err
	}
	return durable.SyncFolder(m.at(Folder))
}

// unit supervises: it is the old build's word, in no package, so that no package
// can break it. It comes back when it is killed, and after a boot.
const unit = `# Written by sally agent while its packages are upgraded; gone afterwards.
[Unit]
Description=Sallyport agent upgrade
ConditionPathExists=` + journalPath + `
StartLimitIntervalSec=0

[Service]
ExecStart=` + programPath + ` agent upgrade
Restart=on-failure
RestartSec=1
KillMode=process
OOMScoreAdjust=-900
`

// Arm starts the supervisor, and has it started at every boot. It may be repeated.
func (m *Machine) Arm(ctx context.Context) error {
	if err := os.MkdirAll(m.at(linkFolder), 0o755); err != nil {
		return err
	}
	if err := durable.Write(m.at(unitPath), []byte(unit), 0o644); err != nil {
		return err
	}
	if err := os.Symlink(unitPath, m.at(linkPath)); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := durable.SyncFolder(m.at(linkFolder)); err != nil {
		return err
	}
	for _, argv := range [][]string{{"systemctl", "daemon-reload"}, {"systemctl", "start", "--no-block", Unit}} {
		if out, err := m.cfg.Run(ctx, argv...); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

// Unstarted ends an upgrade whose supervisor systemd does not get to run, as where
// /var is mounted noexec or programs of nobody's are not let run: nothing was changed.
func (m *Machine) Unstarted(ctx context.Context) error {
	if out, err := m.cfg.Run(ctx, "systemctl", "stop", Unit); err != nil {
		return fmt.Errorf("systemctl stop %s: %w: %s", Unit, err, tail(string(out)))
	}
	j, found, err := m.Journal()
	if err != nil || !found || j.Starts > 0 {
		return err
	}
	j.Step, j.Reason = Returned, reason("%v: systemd does not get %s to run; its journal says why", errUntouched, Unit)
	return m.keep(journalPath, j)
}

// disarm takes the unit away. systemd forgets it when it next reads its files.
func (m *Machine) disarm() error {
	return errors.Join(durable.Remove(m.at(linkPath)), durable.Remove(m.at(unitPath)))
}

// staging is where a package of the journal lies.
func (m *Machine) staging(p protocol.ReleasePackage) string {
	return filepath.Join(m.at(stageFolder), staged(p))
}

// lockWait is how long another package manager may take.
const lockWait = 10 * time.Minute
