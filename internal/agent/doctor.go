package agent

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"sallyport/internal/agent/control"
	"sallyport/internal/agent/pin"
	"sallyport/internal/agent/proc"
	"sallyport/internal/agent/root"
	"sallyport/internal/agent/sshd"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

func doctorCommand() *cobra.Command {
	return &cobra.Command{Use: "doctor", Short: "Check everything that a login on this machine needs, and say what to do", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := needRoot(); err != nil {
				return err
			}
			return examine(c.Context(), "/", c.OutOrStdout())
		}}
}

// finding is one line of doctor.
type finding struct {
	what string
	err  error
}

// examine looks at the machine whose files are below a folder, and says what it finds.
func examine(ctx context.Context, rootFolder string, w io.Writer) error {
	failed := 0
	for _, f := range findings(ctx, rootFolder) {
		if f.err == nil {
			fmt.Fprintf(w, "ok    %s\n", f.what)
			continue
		}
		failed++
		fmt.Fprintf(w, "FAIL  %s: %s\n", f.what, fault.As(f.err).Public())
	}
	if failed > 0 {
		return fault.New(fault.Precondition, "DoctorFound", "%d checks failed", failed)
	}
	return nil
}

func findings(ctx context.Context, rootFolder string) []finding {
	pins, err := pin.Load(rootFolder, 0)
	list := []finding{{"this machine has joined", plain(err)}}
	if err != nil {
		return list
	}
	_, manifest, err := pins.LoadManifest(rootFolder, 0)
	list = append(list, finding{"the manifest is signed by the pinned key", plain(err)})
	for _, user := range []string{networkUser, helperUser} {
		_, err := userID(rootFolder, user)
		list = append(list, finding{"the system user " + user + " exists", err})
	}
	for _, path := range root.Sockets(rootFolder) {
		var err error
		if !root.Reachable(path) {
			err = fault.New(fault.Unavailable, "SocketMissing", "it is not there").WithRemedy("Start the root part: sally agent root")
		}
		list = append(list, finding{"the socket " + path, err})
	}
	list = append(list, finding{"the name service file can be read", plain(root.CheckNSS(rootFolder))})
	where := serverAddress(pins)
	list = append(list, finding{"the server takes connections at " + where + " (TCP), the one address that this machine needs", plain(connects(ctx, where))})
	answer, err := askAt(ctx, rootFolder, control.Request{Op: control.OpStatus})
	list = append(list, finding{"the root part answers", plain(err)})
	if err != nil {
		return list
	}
	return append(list, judge(ctx, answer.Status, manifest)...)
}

// connectTime is how long doctor waits for the server's address.
const connectTime = 3 * time.Second

// serverAddress is the host and port at which this machine reaches its server.
func serverAddress(pins pin.Machine) string {
	if pins.Address != "" {
		return pins.Address
	}
	u, err := url.Parse(pins.URL)
	if err != nil {
		return pins.URL
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

func connects(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "ServerUnreachable", "%v", err).WithRemedy("Let this machine connect to %s (TCP): look at its name resolution, routes and firewalls.", address)
	}
	return c.Close()
}

// judge looks at what the root part says, and at the configuration itself.
func judge(ctx context.Context, st *control.Status, m protocol.Manifest) []finding {
	var fresh, clock error
	switch age := time.Duration(st.AgeSeconds) * time.Second; {
	case st.Version == 0:
		fresh = fault.New(fault.Unavailable, "NoSnapshot", "none has come yet").WithRemedy("Look at the log of: sally agent run")
	case age > 15*time.Minute:
		fresh = fault.New(fault.Unavailable, "SnapshotOld", "it is %s old", age).WithRemedy("Is the server reachable? Look at the log of: sally agent run")
	}
	if st.Clock != "" {
		clock = fault.New(fault.Unavailable, "ClockWrong", "%s", st.Clock).WithRemedy("Set the clock.")
	}
	list := []finding{{"the grants snapshot is fresh", fresh}, {"the clock agrees with the server", clock}}
	for _, text := range st.Damage {
		list = append(list, finding{"what the agent keeps on this machine is whole", fault.New(fault.Unavailable, "StateDamaged", "%s", text)})
	}
	if !st.Extension && st.Provisioned == "Failed" {
		return append(list, finding{"sign-in with directory accounts can be switched on", fault.New(fault.Conflict, "ExtensionFailed", "%s", st.Message)})
	}
	if !st.Extension {
		return append(list, finding{"sign-in with directory accounts is off (" + strings.TrimSpace(st.Provisioned+" "+st.Message) + ")", nil})
	}
	want := sshd.Wanted{Domains: m.Domains, HostCertificate: !st.HostUntil.IsZero(), Preview: st.Preview}
	for _, k := range m.For(protocol.UserCA) {
		if key, err := ssh.NewPublicKey(k); err == nil {
			want.UserCAs = append(want.UserCAs, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))))
		}
	}
	w, _ := wiring(proc.Table{Dir: "/proc"}, nil)
	found := w.Examine(ctx, want)
	if len(found) == 0 {
		list = append(list, finding{"sshd, PAM, sudo and the name service are as they must be", nil})
	}
	for _, err := range found {
		list = append(list, finding{"the configuration of this machine", plain(err)})
	}
	for _, note := range w.Notes() {
		list = append(list, finding{what: "note: " + note})
	}
	ctx, cancel := context.WithTimeout(ctx, loginTime)
	defer cancel()
	_, err := control.Client{Path: control.SocketPath}.Ask(ctx, control.Request{Op: control.OpSelfTest})
	return append(list, finding{"people can log in: local ones, and those of the directory with a certificate", plain(err)})
}

// loginTime is how long the login of doctor may take. Looking for the line that
// refuses it takes the most.
const loginTime = time.Minute

// plain shows an administrator of the machine the whole of an error.
func plain(err error) error {
	if err == nil {
		return nil
	}
	if f := fault.As(err); f.Kind != fault.Internal || f.Code != "InternalServerError" {
		return f
	}
	return fault.New(fault.Unavailable, "Failed", "%v", err)
}
