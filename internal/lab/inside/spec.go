package inside

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// Spec is what the lab tells the stage. The lab is the only writer.
type Spec struct {
	// Hostname is the machine's name, Address its address in the lab's network.
	Hostname string
	Address  string
	// Lower lists the read-only layers, topmost first; Upper, Work and Root are
	// the machine's own directories: its changes, overlayfs' scratch, the mount point.
	Lower []string
	Upper string
	Work  string
	Root  string
	// Program is the lab's copy of its own program.
	Program string
	// Nspawn says that systemd-nspawn runs the machine. The lab has then mounted
	// its files already, at NspawnRoot and NspawnProgram; the paths above are
	// empty. MachineID becomes its /etc/machine-id.
	Nspawn    bool
	MachineID string
	// OwnProgram says that an nspawn machine's layers leave the program to the
	// packages that are installed in it.
	OwnProgram bool
}

// Where the stage of an nspawn machine finds what the lab has mounted for it.
const (
	NspawnRoot    = "/run/machine"
	NspawnProgram = "/run/program"
)

// The descriptors that the lab hands to the stage. Init closes the second
// before it starts anything, so no process of a machine holds either.
const (
	specFD   = 3 // the lab writes the Spec as JSON and closes
	statusFD = 4 // the stage writes why it failed, or init writes Ready
)

// Ready is what init reports when it can be asked to stop: before that, a
// signal to a first process is lost (pid_namespaces(7)).
const Ready = "ready"

// maxSpec bounds what the stage reads.
const maxSpec = 64 << 10

// Files of a machine that its first process reads or makes.
const (
	binaryPath = "/usr/bin/sally"
	// OwnProgramPath is in a layer whose machines install the program themselves.
	OwnProgramPath = "/etc/sallyport-own-program"
	unitsPath      = "/etc/sallyport-init.conf"
	logDir         = "/var/log"
	initLog        = "/var/log/sallyport-init.log"
)

func readSpec(r io.Reader) (Spec, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxSpec))
	if err != nil {
		return Spec{}, fmt.Errorf("read the machine's description: %w", err)
	}
	var s Spec
	if err := json.Unmarshal(raw, &s); err != nil {
		return Spec{}, fmt.Errorf("the lab went away before it described the machine: %w", err)
	}
	return s, nil
}

// WriteSpec hands the description to a waiting stage.
func WriteSpec(w io.Writer, s Spec) error {
	return json.NewEncoder(w).Encode(s)
}

func inherited(fd int, name string) *os.File { return os.NewFile(uintptr(fd), name) }
