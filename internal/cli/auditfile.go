package cli

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/audit"
	"sallyport/internal/audit/proof"
	"sallyport/internal/cli/client"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// auditExport writes every record to a file, with the evidence that belongs to
// them. The file is its own cursor: run again, it goes on where it ends.
func (a *app) auditExport() *cobra.Command {
	cmd := leafFor("export", "Write the audit log to a file of JSON lines that can be verified without the server; go on with one that exists.", []flag{
		{name: "file", short: "f", required: true, usage: "File to write or to go on with"},
	}, func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		path := in.text("file")
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return fault.Wrap(err, fault.Invalid, "CannotWrite", "cannot write %s", path)
		}
		stop := a.progress("Exporting")
		records, err := a.export(ctx, s, f)
		stop()
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		return a.print(map[string]any{"file": path, "records": records})
	})
	cmd.Example = "  sally audit export --file audit.jsonl\n  sally audit verify --file audit.jsonl --server https://login.corp.example#THUMBPRINT"
	return cmd
}

// export goes on with a file: first the evidence as it is now, then every
// record up to it, and the evidence behind them.
func (a *app) export(ctx context.Context, s *client.Session, f *os.File) (added int, err error) {
	cursor := audit.Cursor{}
	whole, err := proof.Scan(f, func(r audit.Record, p *proof.Proof) error {
		if p == nil {
			cursor.Add(r)
		}
		return nil
	})
	if info, serr := f.Stat(); err == nil && whole == 0 && (serr != nil || info.Size() > 0) {
		err = errors.New("it has no line of one") // and would be lost
	}
	if err != nil {
		return 0, fault.Wrap(err, fault.Conflict, "NotAnExport", "%s is not an export that can be gone on with: %v", f.Name(), err).WithRemedy("Choose another file.")
	}
	if err := f.Truncate(whole); err != nil {
		return 0, err
	}
	if _, err := f.Seek(whole, io.SeekStart); err != nil {
		return 0, err
	}
	var evidence proof.Proof
	if err := do(ctx, s, client.Call{Method: http.MethodGet, Path: "/providers/Sallyport.Access/auditProof"}, &evidence); err != nil {
		return 0, err
	}
	heads := make([]audit.Head, len(evidence.Heads))
	for i, h := range evidence.Heads {
		heads[i] = h.Head
	}
	token := audit.Token(cursor)
	for !cursor.Covers(heads) {
		var page followed
		if err := do(ctx, s, client.Call{Method: http.MethodGet, Path: auditURL + "/follow", Query: url.Values{"$skipToken": {token}}}, &page); err != nil {
			return added, err
		}
		if len(page.Value) == 0 {
			return added, fault.New(fault.Conflict, "AuditBroken", "the audit log ends before the head that the server signed").WithRemedy("Run: sally audit verify")
		}
		var b bytes.Buffer
		for _, raw := range page.Value {
			r, _, err := proof.ParseLine(raw)
			if err != nil {
				return added, fault.Wrap(err, fault.Unavailable, "BadAnswer", "the server's answer cannot be read")
			}
			line, err := proof.RecordLine(r)
			if err != nil {
				return added, err
			}
			b.Write(line)
			cursor.Add(r)
		}
		if _, err := f.Write(b.Bytes()); err != nil {
			return added, fault.Wrap(err, fault.Unavailable, "CannotWrite", "cannot write %s", f.Name())
		}
		added += len(page.Value)
		token = page.SkipToken
	}
	line, err := proof.ProofLine(evidence)
	if err == nil {
		_, err = f.Write(line)
	}
	return added, errors.Join(err, f.Sync())
}

// auditVerify asks the server to check its chains, or checks an exported file
// here, trusting the manifest key alone.
func (a *app) auditVerify() *cobra.Command {
	cmd := leafFor("verify", "Check that no audit record is missing or altered.", []flag{
		{name: "file", short: "f", usage: "Check this export here and ask nobody"},
		{name: "server", usage: "For --file: the server's address with its thumbprint, or a file with its signed manifest; without it, the server that you are signed in to"},
		{name: "witness", kind: 'l', usage: "For --file: what machines have seen: files with the output of `sally agent status --json`"},
	}, func(ctx context.Context, in values) error {
		if in.text("file") != "" {
			return a.verifyFile(in)
		}
		if in.given("server") || in.given("witness") {
			return usageError{"--server and --witness belong to --file"}
		}
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		stop := a.progress("Verifying")
		var result map[string]any
		err = do(ctx, s, client.Call{Method: http.MethodPost, Path: "/providers/Sallyport.Access/verifyAudit"}, &result)
		stop()
		if err != nil {
			return err
		}
		if err := a.print(result); err != nil {
			return err
		}
		if ok, _ := result["ok"].(bool); !ok {
			message, _ := result["message"].(string)
			return auditBroken(message)
		}
		return nil
	})
	cmd.Example = "  sally audit verify\n  sally audit verify --file audit.jsonl --server https://login.corp.example#THUMBPRINT --witness vm1-status.json"
	return cmd
}

func auditBroken(message string) error {
	return fault.New(fault.Conflict, "AuditBroken", "the audit log is not whole: %s", message).WithRemedy("Compare it with an earlier export and with what machines have witnessed; see docs/operations.md.")
}

func (a *app) verifyFile(in values) error {
	pin, err := a.auditPin(in)
	if err != nil {
		return err
	}
	var beside []proof.Witness
	for _, path := range in.list("witness") {
		w, err := readWitness(path)
		if err != nil {
			return err
		}
		beside = append(beside, w...)
	}
	f, err := os.Open(in.text("file"))
	if err != nil {
		return fault.Wrap(err, fault.NotFound, "CannotRead", "cannot read %s", in.text("file"))
	}
	defer func() { _ = f.Close() }()
	stop := a.progress("Verifying")
	result, err := proof.Check(f, func(m protocol.SignedManifest) (protocol.Manifest, error) { return m.Open(pin) }, beside)
	stop()
	shown := map[string]any{"ok": err == nil, "records": result.Records, "chains": result.Heads, "witnessed": result.Compared, "endSigned": result.Signed, "notes": result.Notes, "message": "every record is in its place and unaltered"}
	if err == nil && !result.Signed {
		shown["message"] = "every record is in its place and unaltered, but no signature covers the last ones: the export did not come to its end"
	}
	var broken *audit.Broken
	if errors.As(err, &broken) {
		shown["firstBad"] = map[string]any{"writer": broken.Writer, "sequence": broken.Sequence}
	}
	if err != nil {
		shown["message"] = err.Error()
	}
	if perr := a.print(shown); perr != nil {
		return perr
	}
	if err != nil {
		return auditBroken(err.Error())
	}
	return nil
}

// auditPin is the thumbprint of the manifest key that the check trusts.
func (a *app) auditPin(in values) (string, error) {
	text := in.text("server")
	switch {
	case text == "":
		s, err := a.identity()
		if err != nil {
			return "", err
		}
		return s.Server().Record().Pin, nil
	case strings.Contains(text, "://"):
		_, pin, err := client.ParseAddress(text)
		if err == nil && pin == "" {
			err = fault.New(fault.Invalid, "ServerAddress", "the server's address is without the thumbprint after '#'").WithRemedy("Give all of the address that `sally server init` printed.")
		}
		return pin, err
	}
	b, err := os.ReadFile(text)
	if err != nil {
		return "", fault.Wrap(err, fault.Invalid, "CannotRead", "cannot read the manifest %s: %v", text, reason(err))
	}
	var m protocol.SignedManifest
	if err := protocol.Decode(b, &m); err != nil {
		return "", fault.Wrap(err, fault.Invalid, "NotAManifest", "%s is no signed manifest: %v", text, err)
	}
	pin, err := manifestPin(m)
	if err != nil {
		return "", fault.Wrap(err, fault.Invalid, "NotAManifest", "%s is no signed manifest: %v", text, err)
	}
	_, err = m.Open(pin)
	return pin, err
}

// manifestPin is the thumbprint of a manifest that somebody vouches for by
// handing it over.
func manifestPin(m protocol.SignedManifest) (string, error) {
	pub, err := x509.ParsePKIXPublicKey(m.ManifestKey)
	if err != nil {
		return "", err
	}
	return protocol.Thumbprint(pub)
}

// maxWitness bounds what is read of a machine's words.
const maxWitness = 1 << 20

// readWitness reads what `sally agent status --json` printed on a machine.
func readWitness(path string) ([]proof.Witness, error) {
	bad := func(err error) error {
		return fault.Wrap(err, fault.Invalid, "NotAWitness", "%s is not the output of `sally agent status --json`: %v", path, err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(err, fault.NotFound, "CannotRead", "cannot read %s: %v", path, reason(err))
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxWitness))
	if err != nil {
		return nil, bad(err)
	}
	var status struct {
		MachineID string               `json:"machineId"`
		Witnessed []protocol.Witnessed `json:"witnessed"`
	}
	if err := json.Unmarshal(b, &status); err != nil {
		return nil, bad(err)
	}
	if status.MachineID == "" || len(status.Witnessed) == 0 {
		return nil, bad(fmt.Errorf("it holds nothing that the machine has witnessed"))
	}
	list := make([]proof.Witness, len(status.Witnessed))
	for i, w := range status.Witnessed {
		list[i] = proof.Witness{MachineID: status.MachineID, Witnessed: w}
	}
	return list, nil
}
