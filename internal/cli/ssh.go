package cli

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"sallyport/internal/cli/client"
	"sallyport/internal/fault"
)

// login is one way into a machine: the files that ssh is given.
type login struct {
	name        string // account on the machine
	identity    string // private key, or a public key whose other half is in the person's agent
	certificate string // empty for a local user with a plain key
	agent       string // socket of "sally ssh agent", in the place of both files
	knownHosts  string // empty: the person's own
	cert        *certificate
}

func (a *app) sshVM() *cobra.Command {
	cmd := a.sshTo("vm", "Log in to a machine with a certificate.", targetFlags())
	cmd.Example = "  sally ssh vm -n VM -g GROUP\n  sally ssh vm --ip ADDRESS\n  sally ssh vm -n VM -g GROUP -- -A -o ServerAliveInterval=30 id"
	return cmd
}

// sshArc is sshVM for machines that joined from elsewhere. az goes to them through
// a relay; here they are reached at their own addresses.
func (a *app) sshArc() *cobra.Command {
	flags := slices.DeleteFunc(targetFlags(), func(f flag) bool { return f.name == "resource-type" || f.name == "instance-id" })
	flags = append(flags, flag{name: "resource-type", def: joinedType, usage: "Accepted for az's sake"})
	cmd := a.sshTo("arc", "Log in to a machine that joined from elsewhere, with a certificate.", flags)
	cmd.Example = "  sally ssh arc -n MACHINE -g GROUP\n  sally ssh arc -n MACHINE -g GROUP --local-user NAME --private-key-file KEY"
	return cmd
}

func (a *app) sshTo(name, short string, target []flag) *cobra.Command {
	flags := append(append(target, keyFlags()...),
		flag{name: "certificate-file", short: "c", usage: "Certificate of your own, for --local-user"}, flag{name: "ssh-client-folder", usage: "Folder of the ssh program"})
	cmd := leafFor(name, short, flags, a.connectVM)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
			return usageError{"unrecognized arguments: " + strings.Join(args, " ") + "\nArguments for ssh go after --"}
		}
		return nil
	}
	return cmd
}

// connectVM is the first of the eight files that a login passes through: it asks
// Resource Manager for the machine, makes a key, asks for a certificate, and
// runs the person's own ssh with it and with the machine's pinned identity.
func (a *app) connectVM(ctx context.Context, in values) error {
	program, err := sshProgram(in.text("ssh-client-folder"))
	if err != nil {
		return err
	}
	s, t, err := a.find(ctx, in)
	if err != nil {
		return err
	}
	if err := t.ready(in.text("local-user") != ""); err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "sallyssh")
	if err != nil {
		return fault.Wrap(err, fault.Forbidden, "TemporaryFolder", "no folder for temporary keys can be made: %v", err).WithRemedy("Set TMPDIR to a folder that is writable.")
	}
	defer func() { _ = os.RemoveAll(folder) }()
	l, err := a.prepareLogin(ctx, s, t, in, folder)
	if err != nil {
		return err
	}
	argv, err := arguments(t, l)
	if err != nil {
		return err
	}
	code, err := a.cfg.Run(ctx, Program{Path: program, Args: append(argv, in.cmd.Flags().Args()...), Insist: true})
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "SSHClient", "cannot run %s: %v", program, err)
	}
	if code == sshFailed {
		a.explain(ctx, s, t, l)
	}
	if code != 0 {
		return exitError{code}
	}
	return nil
}

func sshProgram(folder string) (string, error) {
	name := "ssh"
	if folder != "" {
		name = filepath.Join(folder, "ssh")
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fault.Wrap(err, fault.NotFound, "SSHClient", "the program %s was not found.", name).WithRemedy("Install OpenSSH's client, or give --ssh-client-folder.")
	}
	return path, nil
}

// prepareLogin makes or finds the key, gets the certificate and writes what ssh
// needs into the folder. The key file stands apart from any "-cert.pub", which
// ssh would load by itself a second time.
func (a *app) prepareLogin(ctx context.Context, s *client.Session, t target, in values, folder string) (login, error) {
	var l login
	var pub ssh.PublicKey
	var err error
	if err := a.pinHost(s, t, in, folder, &l); err != nil {
		return l, err
	}
	if l.name = in.text("local-user"); l.name != "" {
		return l, localLogin(in, &l)
	}
	if in.text("certificate-file") != "" {
		return l, usageError{"usage error: --certificate-file goes with --local-user"}
	}
	public, private, err := ownKey(in)
	if err != nil {
		return l, err
	}
	if public == "" {
		l.identity = filepath.Join(folder, "id_ed25519")
		pub, err = a.newKey(l.identity)
	} else {
		l.identity = private
		pub, err = readPublic(public)
	}
	if err != nil {
		return l, err
	}
	c, err := a.obtain(ctx, s, pub, t.machine, true)
	if err != nil {
		return l, err
	}
	l.cert, l.name, l.certificate = &c, c.login, filepath.Join(folder, "ssh-cert.pub")
	return l, client.WriteFile(l.certificate, c.line(), 0o600)
}

// pinHost writes the known_hosts file of this connection.
func (a *app) pinHost(s *client.Session, t target, in values, folder string, l *login) error {
	certified := t.principal != "" && (t.known == nil || t.known.Properties.Snapshot.LoginEnabled || in.text("local-user") == "")
	if !certified {
		if t.known == nil {
			a.warn("The machine at " + t.address + " shows no host certificate of this directory; your own known_hosts file decides whether it is the right one.")
		}
		return nil
	}
	l.knownHosts = filepath.Join(folder, "known_hosts")
	return client.WriteFile(l.knownHosts, knownHosts(t.principal, s.Server().Manifest()), 0o600)
}

// localLogin is a login to an account of the machine itself.
func localLogin(in values, l *login) error {
	if err := checkLogin(l.name); err != nil {
		return err
	}
	_, private, err := ownKey(in)
	if err != nil {
		return err
	}
	l.identity = private
	if c := in.text("certificate-file"); c != "" {
		if l.certificate, err = absolute(c); err != nil {
			return err
		}
	}
	return nil
}

// ownKey returns the files of the person's own key; both empty without one.
func ownKey(in values) (public, private string, err error) {
	public, private = in.text("public-key-file"), in.text("private-key-file")
	if public == "" && private == "" {
		return "", "", nil
	}
	if public == "" {
		public = private + ".pub"
	}
	if private == "" {
		if private = strings.TrimSuffix(public, ".pub"); private == public || !exists(private) {
			private = public // the other half is in the person's agent
		}
	}
	if public, err = absolute(public); err != nil {
		return "", "", err
	}
	private, err = absolute(private)
	return public, private, err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// options are the directives of one connection, for the command line and for a
// configuration file alike. ssh takes the first value that it meets, so on the
// command line none of these can be overridden by a file.
func options(t target, l login) ([][2]string, error) {
	list := [][2]string{{"User", l.name}, {"AddKeysToAgent", "no"}}
	for _, f := range [][2]string{{"CertificateFile", l.certificate}, {"IdentityFile", l.identity}} {
		if f[1] == "" {
			continue
		}
		path, err := sshPath(f[1])
		if err != nil {
			return nil, err
		}
		list = append(list, [2]string{f[0], path})
	}
	if l.identity != "" {
		list = append(list, [2]string{"IdentitiesOnly", "yes"})
	}
	if l.agent != "" {
		path, err := sshPath(l.agent)
		if err != nil {
			return nil, err
		}
		list = append(list, [][2]string{{"IdentityAgent", path}, {"IdentityFile", "none"}, {"IdentitiesOnly", "no"}}...)
	}
	if l.cert != nil {
		// Nobody types a directory password into a machine.
		list = append(list, [2]string{"PasswordAuthentication", "no"}, [2]string{"KbdInteractiveAuthentication", "no"})
	}
	if l.knownHosts != "" {
		path, err := sshPath(l.knownHosts)
		if err != nil {
			return nil, err
		}
		list = append(list, [][2]string{{"HostKeyAlias", t.principal}, {"UserKnownHostsFile", path}, {"GlobalKnownHostsFile", "/dev/null"}, {"StrictHostKeyChecking", "yes"},
			{"CheckHostIP", "no"}, {"UpdateHostKeys", "no"}, {"VerifyHostKeyDNS", "no"}}...)
	}
	if t.port != 22 {
		list = append(list, [2]string{"Port", strconv.Itoa(t.port)})
	}
	return list, nil
}

// arguments is ssh's argument list; what the person gave after -- follows it.
func arguments(t target, l login) ([]string, error) {
	if err := checkHost(t.address); err != nil {
		return nil, err
	}
	if err := checkLogin(l.name); err != nil {
		return nil, err
	}
	list, err := options(t, l)
	if err != nil {
		return nil, err
	}
	var argv []string
	for _, o := range list {
		argv = append(argv, "-o", o[0]+"="+o[1])
	}
	return append(argv, t.address), nil
}
