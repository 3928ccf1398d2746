package sshd

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sallyport/internal/fault"
)

// Places. All are below Config.Root.
const (
	mainPath     = "/etc/ssh/sshd_config"
	dropInFolder = "/etc/ssh/sshd_config.d"
	dropInPath   = dropInFolder + "/00-sallyport.conf"
	userCAPath   = "/etc/ssh/sallyport_user_ca.pub"
	// HostCertificatePath is where the host certificate lies. The root part
	// writes it; sshd is told of it while the extension is on.
	HostCertificatePath = "/etc/ssh/sallyport_host_key-cert.pub"
	sudoersMain         = "/etc/sudoers"
	sudoersPath         = "/etc/sudoers.d/sallyport"
	nssPath             = "/etc/nsswitch.conf"
	pamFolder           = "/etc/pam.d"
	pidPath             = "/run/sshd.pid"
	// StateFolder holds what the wired files were before, and the journal.
	StateFolder = "/var/lib/sallyport/root/wiring"
	helperUser  = "sallyport-ssh"
)

// Codes of faults that have an exit code of their own (ExitCode).
const (
	codeMissing     = "ExtensionDependencyMissing"
	codeUnsupported = "ExtensionUnsupported"
	codeConflict    = "ExtensionConflict"
	codeSelfTest    = "ExtensionSelfTestFailed"
	codeDrift       = "ExtensionDrift"
	codeOpen        = "ExtensionDriftOpen" // drift in which a login would not be asked of us at all
)

// Exit codes of the extension, as instance view and the article show them: 22
// no system-assigned identity, 23 the older extension is still installed, 51 a
// machine that is too small or too old, 52 a missing dependency (Azure's convention
// for extensions), 1 anything else.
const (
	ExitNoIdentity  = 22
	exitConflict    = 23
	exitUnsupported = 51
	exitMissing     = 52
	exitOther       = 1
)

// ExitCode is the extension's exit code for an error of this package; 0 for nil.
func ExitCode(err error) int {
	switch f := fault.As(err); {
	case f == nil:
		return 0
	case f.Code == codeUnsupported:
		return exitUnsupported
	case f.Code == codeMissing:
		return exitMissing
	case f.Code == codeConflict:
		return exitConflict
	}
	return exitOther
}

// Config is what a Wiring stands on.
type Config struct {
	Root string // "/" on a machine
	// Owner is the uid that owns the files: 0 on a machine.
	Owner uint32
	// Run runs a program with arguments and no shell, and returns what it wrote.
	Run func(ctx context.Context, argv ...string) ([]byte, error)
	// Reload makes sshd read its configuration again and returns when it accepts
	// connections.
	Reload func(ctx context.Context) error
	// Try shows that local people can still log in. nil where there are none.
	Try func(ctx context.Context) error
	// Start starts a program on a connection, for the self-test. nil leaves the
	// login of the self-test out.
	Start func(ctx context.Context, conn *os.File, argv ...string) (Started, error)
	// Rand makes the self-test's keys and name.
	Rand io.Reader
	// Step is called before each numbered step. An error stops at once, as a kill
	// would: nothing is put back. nil on a machine.
	Step func(name string) error
}

// Wanted is the state to reach.
type Wanted struct {
	Domains         []string // verified domains, lower case
	UserCAs         []string // user CA keys, authorized_keys form
	HostCertificate bool     // there is one at HostCertificatePath
	Preview         bool     // people log in by PAM's conversation, not with certificates
	// Revision of the machine's desired state: with another one, what somebody
	// changed is written again ("set the extension again").
	Revision int64
}

// Wiring changes one machine's configuration. Calls must not overlap.
type Wiring struct {
	cfg  Config
	desk Desk
}

// New makes a Wiring.
func New(cfg Config) *Wiring { return &Wiring{cfg: cfg} }

func (w *Wiring) at(path string) string { return filepath.Join(w.cfg.Root, path) }

func (w *Wiring) exists(path string) bool {
	_, err := os.Lstat(w.at(path))
	return err == nil
}

func (w *Wiring) text(path string) (string, error) {
	b, err := os.ReadFile(w.at(path))
	return string(b), err
}

// libraryFolders are where distributions keep libraries, multiarch first.
func (w *Wiring) libraryFolders() []string {
	var dirs []string
	for _, pattern := range []string{"/usr/lib/*-linux-gnu*", "/lib/*-linux-gnu*", "/usr/lib64", "/lib64", "/usr/lib", "/lib"} {
		found, _ := filepath.Glob(w.at(pattern))
		for _, f := range found {
			dirs = append(dirs, strings.TrimPrefix(f, strings.TrimSuffix(w.cfg.Root, "/")))
		}
	}
	return dirs
}

const helperName = "sallyport-principals"

// helperPaths are where a package may lay the principals command.
func helperPaths() []string {
	return []string{"/usr/lib/sallyport/" + helperName, "/usr/libexec/" + helperName}
}

// parts are the programs and libraries that must be there before anything is
// wired to them.
type parts struct {
	sshd   string
	helper string
	sudo   bool
	visudo string
	manner manner
}

func missing(what, remedy string) error {
	return fault.New(fault.Precondition, codeMissing, "%s", what).WithRemedy("%s", remedy)
}

func (w *Wiring) parts() (parts, error) {
	p := parts{sshd: w.first("/usr/sbin/sshd", "/usr/local/sbin/sshd"), helper: w.first(helperPaths()...),
		sudo: w.exists(sudoersMain), visudo: w.first("/usr/sbin/visudo", "/usr/bin/visudo")}
	const install = "Install the package of sally on this machine, then set the extension again."
	if p.sshd == "" || !w.exists(mainPath) {
		return p, missing("this machine has no OpenSSH server", "Install openssh-server, then set the extension again.")
	}
	if p.helper == "" {
		return p, missing("the program sallyport-principals is not installed on this machine", install)
	}
	if w.library("libpam.so.0", "libnss_sallyport.so.2") == "" {
		return p, missing("the library libnss_sallyport.so.2 is not installed beside the system's own", install)
	}
	if w.library("security/pam_unix.so", "security/pam_sallyport.so") == "" {
		return p, missing("the library pam_sallyport.so is not installed beside the system's own PAM modules", install)
	}
	if w.library("security/pam_unix.so", "security/pam_mkhomedir.so") == "" {
		return p, missing("the PAM module pam_mkhomedir.so is not installed", "Install the PAM modules of the distribution, then set the extension again.")
	}
	if p.sudo && p.visudo == "" {
		return p, missing("sudo is configured on this machine but visudo is not installed", "Install sudo completely, then set the extension again.")
	}
	return p, nil
}

// Present says which part of ours, or of OpenSSH, is missing on the machine.
func (w *Wiring) Present() error {
	_, err := w.parts()
	return err
}

// library returns the folder that holds both files: a module in a folder that
// the system does not search would lock everybody out (host-facts, section 3).
func (w *Wiring) library(beside, name string) string {
	for _, dir := range w.libraryFolders() {
		if w.exists(filepath.Join(dir, beside)) && w.exists(filepath.Join(dir, name)) {
			return dir
		}
	}
	return ""
}

func (w *Wiring) first(paths ...string) string {
	for _, p := range paths {
		if w.exists(p) {
			return p
		}
	}
	return ""
}

// file is one file of a change.
type file struct {
	Path    string
	Mode    fs.FileMode
	Content string
	Ours    bool // the whole file is ours; it did not exist before
}
