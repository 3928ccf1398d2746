package cli

import (
	"net/netip"
	"path/filepath"
	"strings"

	"sallyport/internal/fault"
	"sallyport/internal/guid"
)

const (
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits  = "0123456789"
)

// Every value that reaches ssh's argument list or a configuration file passes
// one of these alphabets first. ssh expands %, shells read quotes and
// backticks, a newline starts another directive and a leading '-' is an option:
// none of these characters is in any of them.
func alphabet(what, value, allowed string, longest int) error {
	ok := value != "" && len(value) <= longest && value[0] != '-' && strings.Trim(value, allowed) == ""
	if ok {
		return nil
	}
	return fault.New(fault.Invalid, "UnsafeValue", "the %s %q is refused: it is empty, too long, or holds characters that must not reach ssh", what, value).
		WithRemedy("If you did not type it yourself, tell the server's administrator.")
}

// checkHost accepts an IP address without a zone, or a host name.
func checkHost(value string) error {
	if ip, err := netip.ParseAddr(value); err == nil && ip.Zone() == "" {
		return nil
	}
	if strings.HasPrefix(value, ".") {
		return alphabet("address", "", "", 0)
	}
	return alphabet("address", value, letters+digits+".-", 253)
}

// checkLogin accepts a login name: a user principal name, an object id or the
// name of a local account.
func checkLogin(value string) error {
	return alphabet("login name", value, letters+digits+"._-@", 256)
}

// checkAlias accepts a name for a Host block: Resource Manager's alphabet.
func checkAlias(value string) error {
	return alphabet("name", value, letters+digits+"._-()", 256)
}

// machineOf checks a host principal, GUID.machine.DOMAIN, and returns its GUID.
func machineOf(principal string) (string, error) {
	machine, domain, found := strings.Cut(principal, ".machine.")
	id, known := guid.Parse(machine)
	if !found || !known || domain == "" {
		return "", fault.New(fault.Invalid, "UnsafeValue", "%q is not the name of a machine's host certificate", principal)
	}
	return id, alphabet("host principal", principal, letters+digits+".-", 300)
}

// sshPath writes an absolute path so that ssh's parser reads it back: refused
// where that needs more than double quotes around spaces.
func sshPath(path string) (string, error) {
	if !filepath.IsAbs(path) || strings.ContainsAny(path, "\"'`$%\\*?") || strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", fault.New(fault.Invalid, "UnsafePath", "the path %q cannot be given to ssh: it holds a quote, a backtick, $, %%, a backslash, a wildcard or a control character", path).
			WithRemedy("Use another folder (TMPDIR chooses the one for temporary keys).")
	}
	if strings.Contains(path, " ") {
		return `"` + path + `"`, nil
	}
	return path, nil
}
