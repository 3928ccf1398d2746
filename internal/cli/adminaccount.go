package cli

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// The ways into a machine's administrator account, with az's words.
const (
	bySSHKey   = "ssh"
	byPassword = "password"
	byBoth     = "all"
)

func flagAuthentication() flag {
	return flag{name: "authentication-type", usage: "ssh (the default), password or all: what opens the local administrator's account"}
}

func flagAdminPassword() flag {
	return flag{name: "admin-password", usage: "The local administrator's password: @FILE, or leave it out and type it; typed here, everybody on this computer may read it in the list of processes"}
}

// authentication is the way that was asked for, found as az finds it. What az
// refuses when it has read the command line ends with 1, as it does there.
func authentication(in values) (string, error) {
	keys, password := len(in.list("ssh-key-values")) > 0, in.given("admin-password")
	kind := strings.ToLower(in.text("authentication-type"))
	switch {
	case kind != "":
	case keys && password:
		kind = byBoth
	case password:
		kind = byPassword
	default:
		kind = bySSHKey
	}
	switch {
	case kind != bySSHKey && kind != byPassword && kind != byBoth:
		return "", usageError{"argument --authentication-type: '" + in.text("authentication-type") + "' is not one of ssh, password, all"}
	case kind == bySSHKey && password:
		return "", clientError{"Admin password cannot be used with SSH authentication type."}
	case kind == byPassword && keys:
		return "", clientError{"SSH key cannot be used with password authentication type."}
	}
	return kind, nil
}

// credentials are the keys and the password of the account. The password is
// checked here too, so that nothing is made for one that the server refuses.
func (a *app) credentials(p *plan, kind string, in values) (err error) {
	if kind != byPassword {
		if p.keys, err = a.adminKeys(in); err != nil {
			return err
		}
	}
	if kind == bySSHKey {
		return nil
	}
	p.password = in.text("admin-password")
	if !in.given("admin-password") {
		if p.password, err = a.newSecret("Admin password"); err != nil {
			return err
		}
	}
	if !goodPassword(p.password) {
		return clientError{"The password length must be between 12 and 72. Password must have the 3 of the following: 1 lower case character, 1 upper case character, 1 number and 1 special character."}
	}
	a.warn("The password of '" + p.admin + "' opens a local account of the machine: no role, policy, second factor or revocation reaches it. --authentication-type ssh makes a machine without one.")
	return nil
}

func goodPassword(password string) bool {
	kinds := 0
	for _, is := range []func(rune) bool{unicode.IsLower, unicode.IsUpper, unicode.IsDigit, func(r rune) bool {
		return !unicode.IsLower(r) && !unicode.IsUpper(r) && !unicode.IsDigit(r)
	}} {
		if strings.ContainsFunc(password, is) {
			kinds++
		}
	}
	n := utf8.RuneCountInString(password)
	return n >= 12 && n <= 72 && kinds >= 3 && !strings.ContainsFunc(password, unicode.IsControl)
}

// osProfile is the account in the shape of az's template.
func (p plan) osProfile() map[string]any {
	os := map[string]any{"adminUsername": p.admin}
	linux := map[string]any{"disablePasswordAuthentication": p.password == ""}
	if p.password != "" {
		os["adminPassword"] = p.password
	}
	if len(p.keys) > 0 {
		keys := make([]any, 0, len(p.keys))
		for _, k := range p.keys {
			keys = append(keys, map[string]any{"path": "/home/" + p.admin + "/.ssh/authorized_keys", "keyData": k})
		}
		linux["ssh"] = map[string]any{"publicKeys": keys}
	}
	os["linuxConfiguration"] = linux
	return os
}
