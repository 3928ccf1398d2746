package root

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/agent/durable"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/shacrypt"
)

// account is the VM's administrator account as we made it.
type account struct {
	Name string   `json:"name"`
	Made bool     `json:"made"` // the account exists and is ours
	Keys []string `json:"keys"` // last written
}

// administratorName is useradd(8)'s portable alphabet.
const administratorName = `^[a-z_][a-z0-9_-]{0,31}$`

const administratorSudo = "/etc/sudoers.d/90-vm-administrator"

// administrator makes the local account that the machine's owner asked for
// (osProfile in Azure): with its keys and sudo without a password. It is made
// once; an account that somebody else made is never touched. It stays when
// Sallyport goes.
func (s *Service) administrator(ctx context.Context, want *protocol.LocalAdministrator) error {
	if want == nil {
		return nil
	}
	if ok, err := regexp.MatchString(administratorName, want.Name); err != nil || !ok {
		return fault.New(fault.Invalid, "AdministratorNameInvalid", "%q cannot be the name of a local account", want.Name)
	}
	keys, err := plainKeys(want.Keys)
	if err != nil {
		return err
	}
	have, err := s.account()
	if err != nil {
		return err
	}
	if have.Made && have.Name == want.Name && slices.Equal(have.Keys, keys) {
		return nil
	}
	user, exists, err := s.passwd(want.Name)
	if err != nil {
		return err
	}
	if exists && have.Name != want.Name {
		return fault.New(fault.Conflict, "AdministratorExists", "the machine already has an account %s that Sallyport did not make", want.Name).
			WithRemedy("Choose another administrator name.")
	}
	if !exists {
		if user, err = s.makeAccount(ctx, want.Name); err != nil {
			return err
		}
	}
	if err := s.allowSudo(ctx, want.Name); err != nil {
		return err
	}
	if len(keys) > 0 || len(have.Keys) > 0 {
		if err := s.writeKeys(ctx, user, keys); err != nil {
			return err
		}
	}
	if err := s.setPassword(ctx, want.Name); err != nil {
		return err
	}
	return s.saveAccount(account{Name: want.Name, Made: true, Keys: keys})
}

// passwordPath is where whoever made the machine left the hash of the
// administrator's password (osProfile.adminPassword), beside the join token.
const passwordPath = "/var/lib/sallyport/administrator-password"

// setPassword gives the account the password that it was made with, once, and
// destroys what it was read from. chpasswd(8) reads the hash: a process list never
// has it.
func (s *Service) setPassword(ctx context.Context, name string) error {
	b, err := durable.Read(s.at(passwordPath), s.cfg.Owner, 1<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	hash := strings.TrimSpace(string(b))
	if err == nil && !shacrypt.Valid(hash) {
		err = errors.New("it is no SHA-512 crypt")
	}
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "AdministratorPassword", "the hash of the administrator's password in %s cannot be used", passwordPath).
			WithRemedy("Remove the file, and give the account %s a password on the machine: sudo passwd.", name)
	}
	out, err := s.cfg.Run(ctx, Command{Argv: []string{"chpasswd", "--encrypted"}, Stdin: name + ":" + hash + "\n"})
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "AdministratorPassword", "chpasswd could not set the password of the account %s: %s", name, printable(strings.TrimSpace(string(out))))
	}
	return os.Remove(s.at(passwordPath))
}

// plainKeys re-marshals keys, so that no option or second line gets in.
func plainKeys(lines []string) ([]string, error) {
	var keys []string
	for _, line := range lines {
		key, comment, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil || len(options) > 0 || len(rest) > 0 {
			return nil, fault.New(fault.Invalid, "AdministratorKeyInvalid", "a public key of the administrator account cannot be read")
		}
		keys = append(keys, strings.TrimSpace(strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))+" "+printable(comment)))
	}
	return keys, nil
}

func (s *Service) account() (account, error) {
	var a account
	b, err := durable.Read(s.at(adminPath), s.cfg.Owner, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &a)
	}
	return a, err
}

func (s *Service) saveAccount(a account) error {
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return durable.Write(s.at(adminPath), b, 0o600)
}

// makeAccount notes the intent first: after a kill in between, the account is
// still known to be ours.
func (s *Service) makeAccount(ctx context.Context, name string) (*Credential, error) {
	if err := s.saveAccount(account{Name: name}); err != nil {
		return nil, err
	}
	shell := "/bin/sh"
	if s.exists("/bin/bash") {
		shell = "/bin/bash"
	}
	if out, err := s.cfg.Run(ctx, Command{Argv: []string{"useradd", "--create-home", "--user-group", "--shell", shell, "--comment", "", name}}); err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "AdministratorNotMade", "useradd could not make the account %s: %s", name, printable(strings.TrimSpace(string(out))))
	}
	user, ok, err := s.passwd(name)
	if err != nil || !ok {
		return nil, fault.Wrap(err, fault.Unavailable, "AdministratorNotMade", "useradd made no account %s", name)
	}
	return user, nil
}

func (s *Service) allowSudo(ctx context.Context, name string) error {
	if !s.exists("/etc/sudoers.d") {
		return nil
	}
	text := "# Made with the machine (osProfile.adminUsername).\n" + name + " ALL=(ALL:ALL) NOPASSWD: ALL\n"
	candidate := s.at(stateFolder + "/sudoers-candidate")
	if err := durable.Write(candidate, []byte(text), 0o440); err != nil {
		return err
	}
	out, err := s.cfg.Run(ctx, Command{Argv: []string{"visudo", "-c", "-f", candidate}})
	if err = errors.Join(err, os.Remove(candidate)); err != nil {
		return fault.Wrap(err, fault.Unavailable, "AdministratorSudo", "visudo refuses the administrator's line: %s", printable(strings.TrimSpace(string(out))))
	}
	return durable.Write(s.at(administratorSudo), []byte(text), 0o440)
}

// writeKeysScript runs as the account itself: root writes nothing into a folder
// that a user can change (CVE-2025-54882).
const writeKeysScript = `umask 077 && mkdir -p "$HOME/.ssh" && cat > "$HOME/.ssh/.authorized_keys.new" && mv -f "$HOME/.ssh/.authorized_keys.new" "$HOME/.ssh/authorized_keys"`

func (s *Service) writeKeys(ctx context.Context, user *Credential, keys []string) error {
	out, err := s.cfg.Run(ctx, Command{Argv: []string{"/bin/sh", "-c", writeKeysScript}, Stdin: strings.Join(keys, "\n") + "\n", As: user})
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "AdministratorKeys", "the administrator's keys could not be written: %s", printable(strings.TrimSpace(string(out))))
	}
	return nil
}

// passwd reads one entry of /etc/passwd itself; a lookup would ask NSS, and so us.
func (s *Service) passwd(name string) (*Credential, bool, error) {
	b, err := os.ReadFile(s.at("/etc/passwd"))
	if err != nil {
		return nil, false, err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(f) != 7 || f[0] != name {
			continue
		}
		uid, err := strconv.ParseUint(f[2], 10, 32)
		gid, err2 := strconv.ParseUint(f[3], 10, 32)
		if err := errors.Join(err, err2); err != nil || uid == 0 {
			return nil, false, fmt.Errorf("the entry of %s in /etc/passwd cannot be an administrator's: %w", name, err)
		}
		return &Credential{UID: uint32(uid), GID: uint32(gid), Home: f[5]}, true, nil
	}
	return nil, false, nil
}

func (s *Service) exists(path string) bool {
	_, err := os.Stat(s.at(path))
	return err == nil
}

func ownerOf(info fs.FileInfo) uint32 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Uid
	}
	return ^uint32(0)
}
