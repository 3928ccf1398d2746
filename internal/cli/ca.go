package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"sallyport/internal/cli/client"
	"sallyport/internal/cli/output"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// Paths of the deployment's keys.
const (
	keysURL     = "/providers/Sallyport.Access/keys"
	rotateURL   = "/providers/Sallyport.Access/rotateKey"
	requestURL  = "/providers/Sallyport.Access/manifestRequest"
	applyURL    = "/providers/Sallyport.Access/applyManifest"
	rotateLook  = time.Second
	maxManifest = 1 << 20
)

// caCommands are the commands about the deployment's keys.
func (a *app) caCommands() map[string]*cobra.Command {
	return map[string]*cobra.Command{"ca show": a.caShow(), "ca export": a.caExport(), "ca rotate": a.caRotate(), "ca request-manifest": a.caRequest(), "ca apply-manifest": a.caApply()}
}

// keyList is the part of the answer that decisions here are made from; people
// get all of it.
type keyList struct {
	Manifest struct {
		OnServer bool `json:"keyOnServer"`
		Unsigned bool `json:"unsigned"`
	} `json:"manifest"`
	Value []struct {
		Purpose  string `json:"purpose"`
		ID       string `json:"id"`
		State    string `json:"state"`
		WaitsFor string `json:"waitsFor"`
	} `json:"value"`
	Behind   int `json:"machinesBehind"`
	Machines []struct {
		ResourceID string     `json:"resourceId"`
		LastSeen   *time.Time `json:"lastSeen"`
	} `json:"machines"`
}

func flagPurpose() flag {
	return flag{name: "purpose", required: true, usage: "Which key: user-ca, host-ca, token, snapshot or audit"}
}

func (a *app) caShow() *cobra.Command {
	return leafFor("show", "Show the deployment's keys, and the machines that do not know the newest list yet.", nil, func(ctx context.Context, _ values) error {
		s, err := a.identity()
		if err != nil {
			return err
		}
		var doc json.RawMessage
		if err := do(ctx, s, client.Call{Method: http.MethodGet, Path: keysURL}, &doc); err != nil {
			return err
		}
		return a.printKeys(doc)
	})
}

// printKeys shows everything, in a table the keys alone, with what else matters
// as warnings.
func (a *app) printKeys(doc json.RawMessage) error {
	var list keyList
	if err := json.Unmarshal(doc, &list); err != nil {
		return fault.Wrap(err, fault.Unavailable, "BadAnswer", "the server's answer cannot be read")
	}
	if a.out.Format != output.Table || a.out.Query != nil {
		return a.print(doc)
	}
	if list.Manifest.Unsigned {
		a.warn("A newer list of keys waits for the manifest key. " + howToSign)
	}
	a.warnBehind(list)
	var rows struct {
		Value json.RawMessage `json:"value"`
	}
	if err := json.Unmarshal(doc, &rows); err != nil {
		return fault.Wrap(err, fault.Unavailable, "BadAnswer", "the server's answer cannot be read")
	}
	return a.print(rows.Value, columns("Purpose=purpose", "State=state", "Since=since", "Until=until", "WaitsFor=waitsFor", "Fingerprint=fingerprint", "KeyId=id")...)
}

const howToSign = "Run: sally ca request-manifest --file FILE; sign it where the manifest key is with: sally ca sign-manifest; bring the result back with: sally ca apply-manifest --file FILE"

// namedMachines is how many machines a warning names.
const namedMachines = 10

func (a *app) warnBehind(list keyList) {
	if list.Behind == 0 {
		return
	}
	var names []string
	for _, m := range list.Machines[:min(namedMachines, len(list.Machines))] {
		seen := "not seen since the server started"
		if m.LastSeen != nil {
			seen = "last seen " + m.LastSeen.UTC().Format(time.RFC3339)
		}
		names = append(names, m.ResourceID+" ("+seen+")")
	}
	if more := list.Behind - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	a.warn(fmt.Sprintf("%d machines have not put the newest list of keys into force: %s", list.Behind, strings.Join(names, ", ")))
}

func (a *app) caRotate() *cobra.Command {
	flags := []flag{flagPurpose(),
		{name: "compromised", kind: 'b', usage: "Others may hold the key: withdraw it at once and, for user-ca, end every session"},
		{name: "force", kind: 'b', usage: "Do not wait for machines; also for a rotation that waits already"},
		{name: "after", usage: "Wait for machines at most so long, for example 30m or 24h"},
		{name: "offline", usage: "Write what the manifest key has to sign to this new file"},
		{name: "no-wait", kind: 'b', usage: "Do not wait until the new key signs"},
		{name: "yes", short: "y", kind: 'b', usage: "Do not ask for confirmation"}}
	cmd := leafFor("rotate", "Replace a key: publish its successor, wait for the machines, sign with it, retire the old one.", flags, func(ctx context.Context, in values) error {
		body := map[string]any{"purpose": in.text("purpose"), "compromised": in.on("compromised"), "force": in.on("force")}
		if text := in.text("after"); text != "" {
			d, err := time.ParseDuration(text)
			if err != nil || d < time.Second {
				return usageError{"argument --after: '" + text + "' is not a time such as 30m or 24h"}
			}
			body["afterSeconds"] = int64(d / time.Second)
		}
		if in.on("compromised") {
			question := "The key is withdrawn at once; what it has signed is refused from then on. Are you sure you want to perform this operation?"
			if in.text("purpose") == string(protocol.UserCA) {
				question = "The key is withdrawn at once: its certificates are refused and every session of directory accounts ends. Are you sure you want to perform this operation?"
			}
			if err := a.confirm(in.on("yes"), question); err != nil {
				return err
			}
		}
		s, err := a.identity()
		if err != nil {
			return err
		}
		var doc json.RawMessage
		if err := do(ctx, s, client.Call{Method: http.MethodPost, Path: rotateURL, Body: body}, &doc); err != nil {
			return err
		}
		if file := in.text("offline"); file != "" {
			if err := a.writeRequest(ctx, s, file); err != nil {
				return err
			}
			return a.printKeys(doc)
		}
		if !in.on("no-wait") {
			if doc, err = a.awaitKey(ctx, s, in.text("purpose"), doc); err != nil {
				return err
			}
		}
		return a.printKeys(doc)
	})
	cmd.Example = "  sally ca rotate --purpose user-ca\n  sally ca rotate --purpose host-ca --after 24h --no-wait\n  sally ca rotate --purpose user-ca --compromised"
	return cmd
}

// awaitKey waits until no key of the purpose is about to take over. What it
// waits for is the server's: an interrupted command changes nothing.
func (a *app) awaitKey(ctx context.Context, s *client.Session, purpose string, doc json.RawMessage) (json.RawMessage, error) {
	text := ""
	stop := func() {}
	defer func() { stop() }()
	for {
		var list keyList
		if err := json.Unmarshal(doc, &list); err != nil {
			return nil, fault.Wrap(err, fault.Unavailable, "BadAnswer", "the server's answer cannot be read")
		}
		waits := ""
		for _, k := range list.Value {
			if k.Purpose == purpose && k.State == "next" {
				waits = "Waiting for " + k.WaitsFor
			}
		}
		if waits == "" {
			return doc, nil
		}
		if list.Manifest.Unsigned && purpose != string(protocol.Token) {
			a.warn("The new list of keys waits for the manifest key. " + howToSign)
			return doc, nil
		}
		if waits != text {
			stop()
			text, stop = waits, a.progress(waits)
			a.warnBehindOnce(list)
		}
		if err := a.cfg.Wait(ctx, rotateLook); err != nil {
			return nil, err
		}
		if err := do(ctx, s, client.Call{Method: http.MethodGet, Path: keysURL}, &doc); err != nil {
			return nil, err
		}
	}
}

// warnBehindOnce names the machines that a rotation waits for to a person who
// watches it.
func (a *app) warnBehindOnce(list keyList) {
	if a.cfg.IsTerminal(a.cfg.Stderr) {
		a.warnBehind(list)
	}
}

func (a *app) caRequest() *cobra.Command {
	flags := []flag{{name: "file", short: "f", required: true, usage: "New file for the request"}}
	return leafFor("request-manifest", "Write the list of keys that waits for the manifest key to a file, to be signed on another computer.", flags, func(ctx context.Context, in values) error {
		s, err := a.identity()
		if err != nil {
			return err
		}
		return a.writeRequest(ctx, s, in.text("file"))
	})
}

func (a *app) writeRequest(ctx context.Context, s *client.Session, file string) error {
	path, err := absolute(file)
	if err != nil {
		return err
	}
	var doc json.RawMessage
	if err := do(ctx, s, client.Call{Method: http.MethodGet, Path: requestURL}, &doc); err != nil {
		return err
	}
	if _, err := os.Lstat(path); err == nil {
		return fault.New(fault.Conflict, "FileExists", "%s exists already", path).WithRemedy("Name another file.")
	}
	if err := client.WriteFile(path, append(slices.Clone(doc), '\n'), 0o644); err != nil {
		return err
	}
	a.say("Take %s to the computer that has the manifest key, and run there: sally ca sign-manifest --request %s --key manifest.pem --file signed.json", path, filepath.Base(path))
	return nil
}

func (a *app) caApply() *cobra.Command {
	flags := []flag{{name: "file", short: "f", required: true, usage: "File that sally ca sign-manifest wrote"}}
	return leafFor("apply-manifest", "Bring a signed list of keys to the server.", flags, func(ctx context.Context, in values) error {
		data, err := os.ReadFile(in.text("file"))
		var signed protocol.SignedManifest
		if err == nil && len(data) > maxManifest {
			err = fmt.Errorf("it is larger than %d bytes", maxManifest)
		}
		if err == nil {
			err = protocol.Decode(data, &signed)
		}
		if err != nil {
			return fault.Wrap(err, fault.Invalid, "ManifestFile", "%s holds no signed list of keys: %v", in.text("file"), err)
		}
		s, err := a.identity()
		if err != nil {
			return err
		}
		var doc json.RawMessage
		if err := do(ctx, s, client.Call{Method: http.MethodPost, Path: applyURL, Body: signed}, &doc); err != nil {
			return err
		}
		return a.printKeys(doc)
	})
}

func (a *app) caExport() *cobra.Command {
	flags := []flag{{name: "purpose", required: true, usage: "user-ca or host-ca"},
		{name: "format", usage: "trusted-user-ca-keys or authorized-keys (user-ca), known-hosts (host-ca)"},
		{name: "principal", usage: "Login name or object id that authorized-keys lines accept"},
		{name: "file", short: "f", usage: "Write to this file instead of the standard output"}}
	cmd := leafFor("export", "Print the authorities for machines and clients that do not follow the list of keys by themselves.", flags, func(ctx context.Context, in values) error {
		s, err := a.identity()
		if err != nil {
			return err
		}
		if err := s.Server().Renew(ctx); err != nil {
			return err
		}
		text, err := exported(s.Server().Manifest(), in.text("purpose"), in.text("format"), in.text("principal"))
		if err != nil {
			return err
		}
		if file := in.text("file"); file != "" {
			return client.WriteFile(file, []byte(text), 0o644)
		}
		_, err = fmt.Fprint(a.cfg.Stdout, text)
		return err
	})
	cmd.Example = "  sally ca export --purpose user-ca --file /etc/ssh/sallyport_user_ca.pub\n  sally ca export --purpose host-ca >>~/.ssh/known_hosts"
	return cmd
}

// exported writes authorities in a format of OpenSSH: the file of sshd_config(5)
// TrustedUserCAKeys, authorized_keys with cert-authority, known_hosts with
// @cert-authority (sshd(8)).
func exported(m protocol.Manifest, purpose, format, principal string) (string, error) {
	p := protocol.Purpose(purpose)
	if format == "" {
		format = map[protocol.Purpose]string{protocol.UserCA: "trusted-user-ca-keys", protocol.HostCA: "known-hosts"}[p]
	}
	prefix := ""
	switch {
	case p == protocol.UserCA && format == "trusted-user-ca-keys":
	case p == protocol.UserCA && format == "authorized-keys":
		// Without a principal the line would accept everybody's certificate.
		if principal == "" {
			return "", usageError{"argument --principal: authorized-keys needs the login name or object id that the lines accept"}
		}
		if err := checkLogin(principal); err != nil {
			return "", err
		}
		prefix = `cert-authority,principals="` + principal + `" `
	case p == protocol.HostCA && format == "known-hosts":
		var names []string
		for _, d := range m.Domains {
			names = append(names, "*.machine."+d)
		}
		prefix = "@cert-authority " + strings.Join(names, ",") + " "
	default:
		return "", usageError{"argument --purpose, --format: give user-ca (trusted-user-ca-keys, authorized-keys) or host-ca (known-hosts)"}
	}
	var b strings.Builder
	for _, k := range authorityKeys(m, p) {
		b.WriteString(prefix + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))) + " sallyport-" + purpose + "\n")
	}
	return b.String(), nil
}
