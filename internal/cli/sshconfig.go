package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"sallyport/internal/cli/client"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

const (
	keysFolder  = "sally_ssh_config"
	renewFile   = "renew.json"
	blockBegin  = "# sally begin "
	blockEnd    = "# sally end "
	renewBefore = 5 * time.Minute
)

// renewal is what a later "sally ssh renew" needs, kept beside the key.
type renewal struct {
	Server  string        `json:"server"`
	User    client.Person `json:"user"`
	Login   string        `json:"login"`
	Machine string        `json:"machine,omitempty"`
	Public  string        `json:"publicKey,omitempty"` // empty: the agent has the keys
}

func (a *app) sshConfig() *cobra.Command {
	flags := append(append(targetFlags(), keyFlags()...),
		flag{name: "file", short: "f", required: true, usage: "File for the configuration"}, flag{name: "overwrite", kind: 'b', usage: "Replace the file instead of adding to it"},
		flag{name: "keys-destination-folder", usage: "Folder for keys and certificates; sally_ssh_config beside the file by default"},
		flag{name: "certificate-file", short: "c", usage: "Certificate of your own, for --local-user"},
		flag{name: "identity-agent", usage: "Socket of sally ssh agent, in the place of a key and a certificate in files"})
	cmd := leafFor("config", "Write an SSH configuration for use with other SSH clients.", flags, a.writeConfig)
	cmd.Long = "Write Host blocks with which ssh, scp, rsync and others log in by themselves: the certificate is renewed whenever a\nconnection is made, as long as you are signed in."
	cmd.Example = "  sally ssh config --file ~/.ssh/config -n VM -g GROUP\n  sally ssh config --file ./cfg --ip ADDRESS && ssh -F ./cfg ADDRESS"
	return cmd
}

func (a *app) writeConfig(ctx context.Context, in values) error {
	file, err := configFile(in.text("file"))
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
	folder := filepath.Join(filepath.Dir(file), keysFolder, t.name)
	if k := in.text("keys-destination-folder"); k != "" {
		if folder, err = absolute(k); err != nil {
			return err
		}
	}
	if _, err := sshPath(folder); err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fault.Wrap(err, fault.Forbidden, "KeysFolder", "cannot make the folder %s: %v", folder, reason(err))
	}
	l, err := a.keptLogin(ctx, s, t, in, folder)
	if err != nil {
		return err
	}
	block, err := a.block(t, l, folder)
	if err != nil {
		return err
	}
	before, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(err, fault.Forbidden, "ConfigFile", "cannot read %s: %v", file, reason(err))
	}
	if in.on("overwrite") {
		before = nil
	}
	return client.WriteFile(file, []byte(replaceBlock(string(before), t.name, block)), 0o600)
}

// configFile resolves links, so that a linked configuration stays one.
func configFile(path string) (string, error) {
	abs, err := absolute(path)
	if err != nil {
		return "", err
	}
	if info, err := os.Stat(filepath.Dir(abs)); err != nil || !info.IsDir() {
		return "", fault.New(fault.Invalid, "Folder", "%s is not in a folder that exists", abs)
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		return real, nil
	}
	return abs, nil
}

// keptLogin is prepareLogin with files that stay.
func (a *app) keptLogin(ctx context.Context, s *client.Session, t target, in values, folder string) (login, error) {
	var l login
	if err := a.pinHost(s, t, in, folder, &l); err != nil {
		return l, err
	}
	if l.name = in.text("local-user"); l.name != "" {
		if in.given("identity-agent") {
			return l, usageError{"usage error: --identity-agent is for directory accounts, not for --local-user"}
		}
		return l, localLogin(in, &l)
	}
	if in.given("identity-agent") {
		return a.agentLogin(ctx, s, t, in, l, folder)
	}
	public, private, err := ownKey(in)
	if err != nil {
		return l, err
	}
	pub, err := a.keyFor(public, folder)
	if err != nil {
		return l, err
	}
	if l.identity = private; public == "" {
		l.identity = filepath.Join(folder, "id_ed25519")
	}
	c, err := a.obtain(ctx, s, pub, t.machine, true)
	if err != nil {
		return l, err
	}
	l.cert, l.name, l.certificate = &c, c.login, certificatePath(folder)
	if err := client.WriteFile(l.certificate, c.line(), 0o600); err != nil {
		return l, err
	}
	return l, writeNote(s, t, l, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub))), folder)
}

// agentLogin leaves key and certificate to "sally ssh agent". One certificate is
// had here, and thrown away: it says the login name, and that there will be one.
func (a *app) agentLogin(ctx context.Context, s *client.Session, t target, in values, l login, folder string) (login, error) {
	if in.text("public-key-file") != "" || in.text("private-key-file") != "" || in.text("certificate-file") != "" {
		return l, usageError{"usage error: --identity-agent has keys and certificates of its own"}
	}
	if t.principal == "" {
		return l, fault.New(fault.Conflict, "NoHostCertificate", "the machine at %s shows no host certificate of this directory, so the agent would offer it nothing.", t.address).
			WithRemedy("Check the address, and on the machine: sally agent doctor")
	}
	var err error
	if l.agent, err = absolute(in.text("identity-agent")); err != nil {
		return l, err
	}
	_, pub, err := a.throwaway()
	if err != nil {
		return l, err
	}
	c, err := a.obtain(ctx, s, pub, t.machine, true)
	if err != nil {
		return l, err
	}
	l.cert, l.name = &c, c.login
	return l, writeNote(s, t, l, "", folder)
}

func writeNote(s *client.Session, t target, l login, public, folder string) error {
	note, err := json.MarshalIndent(renewal{Server: s.Server().URL(), User: s.Account().User, Login: l.name, Machine: t.machine, Public: public}, "", "  ")
	if err != nil {
		return err
	}
	return client.WriteFile(filepath.Join(folder, renewFile), append(note, '\n'), 0o600)
}

func certificatePath(folder string) string { return filepath.Join(folder, "ssh-cert.pub") }

// block makes the text for one machine: a Match that runs the renewal before ssh
// reads the certificate, a Host block for each name, and an end of scope, so
// that lines which follow in the file mean what they meant before.
func (a *app) block(t target, l login, folder string) (string, error) {
	list, err := options(t, l)
	if err != nil {
		return "", err
	}
	hosts := append([]string{t.address}, t.others...)
	if t.name != t.address {
		hosts = append([]string{t.name}, hosts...)
	}
	var b strings.Builder
	b.WriteString(blockBegin + t.name + "\n")
	if l.cert != nil {
		program, err := sshPath(a.cfg.Executable)
		if err != nil {
			return "", err
		}
		// Single quotes for the shell that ssh starts: neither path holds one.
		command := "'" + strings.Trim(program, `"`) + "' ssh renew --folder '" + folder + "'"
		b.WriteString("Match originalhost " + strings.Join(hosts, ",") + " exec \"" + command + "\"\n")
	}
	for i, h := range hosts {
		if err := errors.Join(checkAlias(strings.ReplaceAll(h, ":", "")), checkLogin(l.name)); err != nil {
			return "", err
		}
		b.WriteString("Host " + h + "\n")
		if i == 0 && h != t.address {
			b.WriteString("    HostName " + t.address + "\n")
		}
		for _, o := range list {
			b.WriteString("    " + o[0] + " " + o[1] + "\n")
		}
	}
	b.WriteString("Match all\n" + blockEnd + t.name + "\n")
	return b.String(), nil
}

// replaceBlock puts the block in the place of the one of the same name, or at
// the end.
func replaceBlock(text, name, block string) string {
	var kept strings.Builder
	skipping := false
	for line := range strings.Lines(text) {
		switch strings.TrimRight(line, "\r\n") {
		case blockBegin + name:
			skipping = true
			continue
		case blockEnd + name:
			if skipping {
				skipping = false
				continue
			}
		}
		if !skipping {
			kept.WriteString(line)
		}
	}
	if s := kept.String(); s != "" && !strings.HasSuffix(s, "\n") {
		kept.WriteString("\n")
	}
	return kept.String() + block
}

func (a *app) sshRenew() *cobra.Command {
	cmd := leafFor("renew", "Renew the certificate of a written configuration.", []flag{{name: "folder", required: true, usage: "Folder of the key"}}, func(ctx context.Context, in values) error {
		folder, err := absolute(in.text("folder"))
		if err != nil {
			return err
		}
		var note renewal
		data, err := os.ReadFile(filepath.Join(folder, renewFile))
		if err == nil {
			err = json.Unmarshal(data, &note)
		}
		if err != nil {
			return fault.Wrap(err, fault.Invalid, "RenewFile", "%s is no folder of a configuration written by sally ssh config", folder)
		}
		if note.Public == "" {
			return a.renew(ctx, note, nil, folder)
		}
		pub, _, _, _, err := ssh.ParseAuthorizedKey([]byte(note.Public))
		if err != nil {
			return fault.Wrap(err, fault.Invalid, "RenewFile", "%s names no key", filepath.Join(folder, renewFile)).WithRemedy("Write the configuration again: sally ssh config")
		}
		if a.stillGood(certificatePath(folder), pub) {
			return nil
		}
		return a.renew(ctx, note, pub, folder)
	})
	cmd.Hidden = true
	return cmd
}

// stillGood reports whether the certificate in the file can be used for a while.
func (a *app) stillGood(path string, pub ssh.PublicKey) bool {
	data, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(data)
	cert, ok := key.(*ssh.Certificate)
	if err != nil || !ok || cert.ValidBefore > 1<<40 || string(cert.Key.Marshal()) != string(pub.Marshal()) {
		return false
	}
	c := certificate{cert: cert}
	life := c.until().Sub(time.Unix(int64(cert.ValidAfter), 0)) //nolint:gosec // before ValidBefore
	return c.until().Sub(a.cfg.Now()) > min(renewBefore, life/4)
}

// renew gets a new certificate for the key and writes the authorities again; only
// the latter where the agent has the keys.
func (a *app) renew(ctx context.Context, note renewal, pub ssh.PublicKey, folder string) error {
	p, err := a.readProfile()
	if err != nil {
		return err
	}
	cfg, err := a.clientConfig()
	if err != nil {
		return err
	}
	for _, account := range p.Accounts {
		if account.Server != note.Server || account.User != note.User {
			continue
		}
		s, err := client.Open(cfg, p, account)
		if err != nil {
			return err
		}
		if pub == nil {
			return repin(s, note, folder)
		}
		c, err := a.obtain(ctx, s, pub, note.Machine, false)
		if err != nil {
			return err
		}
		if c.login != note.Login {
			return fault.New(fault.Conflict, "OtherLogin", "the login name is now %s; the configuration says %s.", c.login, note.Login).WithRemedy("Run sally ssh config again.")
		}
		if err := repin(s, note, folder); err != nil {
			return err
		}
		return client.WriteFile(certificatePath(folder), c.line(), 0o600)
	}
	return client.ErrNoToken()
}

// repin writes the machine's pinned authorities again, where the configuration
// has them: the host CA may have been replaced since.
func repin(s *client.Session, note renewal, folder string) error {
	path := filepath.Join(folder, "known_hosts")
	m := s.Server().Manifest()
	if _, err := os.Lstat(path); err != nil || note.Machine == "" || len(m.Domains) == 0 {
		return nil
	}
	want := knownHosts(protocol.HostPrincipal(note.Machine, m.Domains[0]), m)
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, want) {
		return nil
	}
	return client.WriteFile(path, want, 0o600)
}
