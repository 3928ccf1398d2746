package cli

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/cli/client"
	"sallyport/internal/fault"
)

// maxToken bounds what is read as a join token.
const maxToken = 4096

// machineJoin makes this computer a machine: it gets a token, from who made one or
// as a service principal that may make one, and hands it to the agent.
func (a *app) machineJoin() *cobra.Command {
	cmd := leafFor("join", "Make this Linux computer a machine that people sign in to. Runs as root.", []flag{
		flagGroup(), {name: "name", short: "n", usage: "Name of the machine; the host name by default"}, flagTags(),
		{name: "token-file", usage: "File with the join token that only its owner can read, or - for standard input"},
		{name: "enable-ssh-login", kind: 'b', usage: "Install the extension AADSSHLoginForLinux too"},
		{name: "rejoin", kind: 'b', usage: "Join again as a machine that exists: the key that it has is worth nothing then"},
		{name: "address", usage: "HOST:PORT to reach the server at, where its name does not lead there"},
		flagServer(), {name: "service-principal", kind: 'b', usage: "Make the token as a service principal"},
		{name: "username", short: "u", usage: "Application id of the service principal"},
		{name: "password", short: "p", usage: "Its client secret, or PEM file with key and certificate; @FILE or @- keeps a secret out of the argument list"},
		{name: "tenant", short: "t", usage: "Tenant id or domain"},
	}, a.joinHost)
	cmd.Example = "  sally machine join -g GROUP --token-file TOKEN --enable-ssh-login\n" +
		"  sally machine join -g GROUP -n NAME --service-principal -u APPID -p @SECRET --server https://HOST#THUMBPRINT"
	return cmd
}

func (a *app) joinHost(ctx context.Context, in values) error {
	if a.cfg.JoinHost == nil {
		return fault.New(fault.Precondition, "NoAgent", "this build of sally has no machine agent.").WithRemedy("Run it on the machine, with the sally of the package sallyport for Linux.")
	}
	principal := in.on("service-principal")
	switch {
	case principal && in.given("token-file"):
		return usageError{"usage error: give --token-file or --service-principal"}
	case principal && in.text("username") == "":
		return usageError{"usage error: --service-principal needs --username APPID and --password"}
	case !principal && (in.given("username") || in.given("password")):
		return usageError{"usage error: --username and --password go with --service-principal"}
	}
	tags := map[string]any{}
	if err := addTags(tags, in); err != nil {
		return err
	}
	j := HostJoin{Address: in.text("address"), Name: in.text("name"), Group: in.text("resource-group"), EnableLogin: in.on("enable-ssh-login"), Rejoin: in.on("rejoin")}
	j.Tags, _ = tags["tags"].(map[string]string)
	if err := j.nameIt(a.cfg.HostName, principal); err != nil {
		return err
	}
	var err error
	if principal {
		j.Token, err = a.principalToken(ctx, in, j)
	} else {
		j.Token, err = a.tokenText(in.text("token-file"))
	}
	if err != nil {
		return err
	}
	if err := a.cfg.JoinHost(ctx, j); err != nil {
		return err
	}
	if file := in.text("token-file"); file != "" && file != "-" {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			a.warn("the token is used up, but its file could not be removed: " + err.Error())
		}
	}
	return nil
}

// nameIt gives the machine the host's name where none was given. A token may be
// for a machine that has another one: then the server knows it.
func (j *HostJoin) nameIt(hostName func() (string, error), principal bool) error {
	if j.Name != "" || j.Rejoin && !principal {
		return nil
	}
	name, err := hostName()
	if err != nil {
		return fault.Wrap(err, fault.Precondition, "NoHostName", "the host has no name: %v", err).WithRemedy("Give --name.")
	}
	j.Name, _, _ = strings.Cut(name, ".")
	return nil
}

// tokenText reads a token that somebody made.
func (a *app) tokenText(file string) (string, error) {
	if file == "" && a.cfg.IsTerminal(a.cfg.Stdin) {
		return "", usageError{"usage error: give --token-file FILE, a token on standard input, or --service-principal.\nWho may add machines makes a token with: sally machine token create --resource-group GROUP"}
	}
	if file == "" || file == "-" {
		b, err := io.ReadAll(io.LimitReader(a.cfg.Stdin, maxToken))
		return strings.TrimSpace(string(b)), err
	}
	info, err := os.Lstat(file)
	switch {
	case err != nil:
		return "", fault.Wrap(err, fault.Invalid, "TokenFileUnreadable", "the token file cannot be read: %v", err)
	case !info.Mode().IsRegular():
		return "", fault.New(fault.Invalid, "TokenFileUnreadable", "%s is no regular file", file)
	case info.Mode().Perm()&0o077 != 0:
		return "", fault.New(fault.Invalid, "TokenFileOpen", "%s can be read by others", file).WithRemedy("Run: chmod 600 %s", file)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fault.Wrap(err, fault.Invalid, "TokenFileUnreadable", "the token file cannot be read: %v", err)
	}
	return strings.TrimSpace(string(b[:min(len(b), maxToken)])), nil
}

// principalToken signs in as the service principal, in a folder that goes again,
// and makes a token: nothing of it stays on the machine.
func (a *app) principalToken(ctx context.Context, in values, j HostJoin) (string, error) {
	folder, err := os.MkdirTemp("", "sallyjoin")
	if err != nil {
		return "", fault.Wrap(err, fault.Forbidden, "TemporaryFolder", "no folder for the sign-in can be made: %v", err).WithRemedy("Set TMPDIR to a folder that is writable.")
	}
	defer func() { _ = os.RemoveAll(folder) }()
	cfg := a.cfg
	cfg.Stdout = io.Discard
	cfg.Env = func(name string) string {
		if name == "SALLY_CONFIG_DIR" {
			return folder
		}
		return a.cfg.Env(name)
	}
	b := &app{cfg: cfg, format: "none", subscription: a.subscription, quiet: true}
	if err := b.prepare(); err != nil {
		return "", err
	}
	if err := b.login(ctx, in); err != nil {
		return "", err
	}
	s, err := b.session(ctx)
	if err != nil {
		return "", err
	}
	path := "/subscriptions/{subscription}/resourceGroups/{resource-group}"
	if j.Rejoin {
		path = strings.TrimSuffix(joinedURL, "{name}")
	}
	at, err := fillURL(path, s, in)
	if err != nil {
		return "", err
	}
	if j.Rejoin {
		if err := checkAlias(j.Name); err != nil {
			return "", err
		}
		at += j.Name
	}
	t, err := mintToken(ctx, s, at)
	if client.IsNotFound(err) && j.Rejoin {
		return "", fault.New(fault.NotFound, "MachineNotFound", "there is no machine '%s' in '%s' to join again as.", j.Name, j.Group).WithRemedy("Leave --rejoin out.")
	}
	return t.Token, err
}

// machineDisconnect ends what a join began, on the machine itself.
func (a *app) machineDisconnect() *cobra.Command {
	return leafFor("disconnect", "End on this computer what `machine join` began: every file as it was, the server told. Runs as root.", []flag{
		{name: "force", kind: 'b', usage: "Also when the server cannot be reached: delete the machine there with `sally machine delete`"},
		{name: "yes", short: "y", kind: 'b', usage: "Do not ask for confirmation"},
	}, func(ctx context.Context, in values) error {
		if a.cfg.LeaveHost == nil {
			return fault.New(fault.Precondition, "NoAgent", "this build of sally has no machine agent.").WithRemedy("Run it on the machine, with the sally of the package sallyport for Linux.")
		}
		if err := a.confirm(in.on("yes"), "Directory accounts cannot log in here any more, and their sessions end. Are you sure?"); err != nil {
			return err
		}
		return a.cfg.LeaveHost(ctx, HostLeave{Force: in.on("force")})
	})
}
