package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"sallyport/internal/fault"
)

// maxSettings bounds what is read of a configuration file.
const maxSettings = 64 << 10

// settingKeys are the keys of the configuration file and the flag that each
// stands for. A flag on the command line wins.
func settingKeys() map[string]string {
	return map[string]string{
		"state":                "state",
		"database":             "database",
		"databasePasswordFile": "database-password-file",
		"replica":              "replica",
		"listen":               "listen",
		"labSocket":            "lab-socket",
		"metrics":              "metrics",
		"packages":             "packages",
		"auditSyslog":          "audit-syslog", "auditSyslogCA": "audit-syslog-ca", "auditOTLP": "audit-otlp", "auditOTLPCA": "audit-otlp-ca", "auditOTLPHeadersFile": "audit-otlp-headers-file",
		"keyPassphraseFile": "key-passphrase-file",
		"userCASigners":     "user-ca-signer",
		"hostCASigners":     "host-ca-signer",
		"tlsCertificate":    "tls-certificate",
		"tlsKey":            "tls-key",
		"acmeDirectory":     "acme-directory",
		"acmeEmail":         "acme-email",
		"logFormat":         "log-format",
		"debug":             "debug",

		"trustedProxies":        "trusted-proxy",
		"proxyHeader":           "proxy-header",
		"connectionsPerAddress": "connections-per-address",

		"longestCertificate": "longest-certificate",
	}
}

// readSettings sets the flags that a configuration file names. It returns every
// fault of the file and not the first alone: who mends a file wants to do it
// once.
func readSettings(path string, flags *pflag.FlagSet) []error {
	text, err := settingsText(path)
	if err != nil {
		return []error{err}
	}
	return parseSettings(path, text, flags)
}

// settingsText reads the file. It decides which keys and folders are used, so
// that nobody else may write it.
func settingsText(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "InvalidConfiguration", "the configuration file %s cannot be read: %s", path, system(err))
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil || info.Mode().IsRegular() && info.Mode().Perm()&0o022 != 0 {
		return nil, fault.Wrap(err, fault.Forbidden, "InvalidConfiguration", "the configuration file %s can be changed by others", path).WithRemedy("Run: chmod go-w %s", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSettings+1))
	if err != nil || len(text) > maxSettings {
		return nil, fault.Wrap(err, fault.Invalid, "InvalidConfiguration", "the configuration file %s is larger than %d bytes, or ends in an error", path, maxSettings)
	}
	return text, nil
}

func parseSettings(path string, text []byte, flags *pflag.FlagSet) (faults []error) {
	d := json.NewDecoder(bytes.NewReader(text))
	complain := func(format string, args ...any) {
		line := 1 + bytes.Count(text[:d.InputOffset()], []byte("\n"))
		faults = append(faults, fault.New(fault.Invalid, "InvalidConfiguration", "%s, line %d: %s", path, line, fmt.Sprintf(format, args...)))
	}
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		complain("this is no JSON object: %s", syntax(err))
		return faults
	}
	known, seen := settingKeys(), map[string]bool{}
	for d.More() {
		key, err := d.Token()
		name, isText := key.(string)
		var value json.RawMessage
		if err == nil && isText {
			err = d.Decode(&value)
		}
		if err != nil || !isText {
			complain("%s", syntax(err))
			return faults // what follows cannot be read
		}
		flag := known[name]
		switch {
		case flag == "":
			complain("the key %q is unknown; known are %s", name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		case seen[name]:
			complain("the key %q is there twice", name)
		default:
			if err := setFlag(flags, flag, value); err != nil {
				complain("the key %q: %v", name, err)
			}
		}
		seen[name] = true
	}
	if _, err := d.Token(); err != nil {
		complain("%s", syntax(err))
	} else if _, err := d.Token(); !errors.Is(err, io.EOF) {
		complain("something follows the object")
	}
	return faults
}

// setFlag gives a flag the file's value where the command line gave none. Its
// type is checked either way.
func setFlag(flags *pflag.FlagSet, name string, value json.RawMessage) error {
	f := flags.Lookup(name)
	text := string(value)
	switch f.Value.Type() {
	case "bool":
		if text != "true" && text != "false" {
			return errors.New("it must be true or false")
		}
	case "duration":
		if len(value) == 0 || value[0] != '"' || json.Unmarshal(value, &text) != nil {
			return errors.New(`it must be a time in double quotes, for example "8h"`)
		}
		if _, err := time.ParseDuration(text); err != nil {
			return errors.New(`it must be a time in double quotes, for example "8h"`)
		}
	case "stringSlice":
		var list []string
		if value[0] != '[' || json.Unmarshal(value, &list) != nil || strings.Contains(strings.Join(list, ""), ",") {
			return errors.New("it must be a list of texts")
		}
		text = strings.Join(list, ",")
	case "int":
		if _, err := strconv.ParseUint(text, 10, 31); err != nil {
			return errors.New("it must be a whole number from 0")
		}
	default:
		if len(value) == 0 || value[0] != '"' || json.Unmarshal(value, &text) != nil {
			return errors.New("it must be a text in double quotes")
		}
	}
	if f.Changed {
		return nil
	}
	return flags.Set(name, text)
}

// syntax is what encoding/json says of a file.
func syntax(err error) string {
	switch {
	case err == nil:
		return "it does not begin with {"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "it ends too early"
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

// all is nil, the one fault, or one that lists them.
func all(faults []error) error {
	switch len(faults) {
	case 0:
		return nil
	case 1:
		return faults[0]
	}
	lines := make([]string, len(faults))
	for i, err := range faults {
		lines[i] = "\n  - " + fault.As(err).Public()
	}
	return fault.Wrap(errors.Join(faults...), fault.Invalid, "InvalidConfiguration", "%d settings are wrong:%s", len(faults), strings.Join(lines, ""))
}
