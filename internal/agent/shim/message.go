package shim

import (
	"encoding/base64"
	"slices"
	"strings"
	"unicode/utf8"
)

// Phase is what PAM is doing.
type Phase string

// The phases that the PAM module reports.
const (
	PhaseAccount Phase = "account" // may this person enter? The answer decides.
	PhaseOpen    Phase = "open"    // a session begins; a denial stops it
	PhaseClose   Phase = "close"   // a session ends; the answer changes nothing
	PhaseBegin   Phase = "begin"   // authentication begins; the answer is a prompt or a denial
	PhaseCheck   Phase = "check"   // the prompt was answered: an allow, a denial, or wait
)

// PAMRequest is what the PAM module knows. User has the shape of a name of ours;
// the other texts come from the calling program and are only known to be
// printable.
type PAMRequest struct {
	Phase   Phase
	Service string
	User    string
	RUser   string
	RHost   string
	TTY     string
}

// PAMAnswer decides. Text is the sentence that the person reads when Allow is
// false; it is never shown otherwise. Prompt, to PhaseBegin, is what is shown
// before the person presses Enter; Wait, to PhaseCheck, has the module ask again.
type PAMAnswer struct {
	Allow  bool
	Text   string
	Prompt string
	Wait   bool
}

// PrincipalsRequest is what sshd told its AuthorizedPrincipalsCommand as
// "%u %i %s %k". sshd has checked the certificate's CA and the shape of it, not
// that anybody holds its key: the record of it is a claim until PAM follows.
type PrincipalsRequest struct {
	User        string
	KeyID       string
	Serial      string
	Certificate string // base64 of the certificate's blob
}

const (
	textMax         = 1024 // of a denial
	serviceMax      = 64
	detailMax       = 1025 // of ruser, rhost and tty; NI_MAXHOST
	keyIDMax        = 256
	serialMax       = 20
	certificateMax  = 30000
	deniedNoReason  = "Sallyport: access denied."
	serviceAlphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
)

// parsePAMRequest makes a request of a frame whose every field is checked.
func parsePAMRequest(f frame) (PAMRequest, error) {
	if f.kind != typePAMRequest || len(f.fields) != 6 {
		return PAMRequest{}, malformed("frame type %#x with %d fields is not a PAM request", f.kind, len(f.fields))
	}
	r := PAMRequest{Phase(f.fields[0]), f.fields[1], f.fields[2], f.fields[3], f.fields[4], f.fields[5]}
	switch {
	case !slices.Contains([]Phase{PhaseAccount, PhaseOpen, PhaseClose, PhaseBegin, PhaseCheck}, r.Phase):
		return PAMRequest{}, malformed("the phase is none of account, open, close, begin and check")
	case r.Service == "" || len(r.Service) > serviceMax || strings.Trim(r.Service, serviceAlphabet) != "":
		return PAMRequest{}, malformed("the PAM service is not a service name")
	case !shaped(r.User):
		return PAMRequest{}, malformed("the user name is not one of ours")
	}
	for _, v := range f.fields[3:] {
		if len(v) > detailMax || !printable(v) {
			return PAMRequest{}, malformed("ruser, rhost or tty is too long or not printable")
		}
	}
	return r, nil
}

// frame returns the answer as it goes to the PAM module.
func (a PAMAnswer) frame() frame {
	switch {
	case a.Allow:
		return frame{kind: typePAMAllow}
	case a.Wait:
		return frame{kind: typePAMWait}
	case a.Prompt != "":
		return frame{kind: typePAMPrompt, fields: []string{sentence(a.Prompt)}}
	}
	return frame{kind: typePAMDeny, fields: []string{sentence(a.Text)}}
}

// sentence makes text fit for the module: printable ASCII and line feeds, at
// most textMax bytes, never empty.
func sentence(text string) string {
	var b strings.Builder
	for _, r := range text {
		if b.Len() == textMax {
			break
		}
		switch {
		case r == '\n' || r >= ' ' && r <= '~':
			b.WriteByte(byte(r))
		case r == '\t' || r == '\r':
			b.WriteByte(' ')
		default:
			b.WriteByte('?')
		}
	}
	if strings.TrimSpace(b.String()) == "" {
		return deniedNoReason
	}
	return b.String()
}

// parsePrincipalsRequest makes a request of a frame whose every field is checked.
func parsePrincipalsRequest(f frame) (PrincipalsRequest, error) {
	if f.kind != typePrincipalsRequest || len(f.fields) != 4 {
		return PrincipalsRequest{}, malformed("frame type %#x with %d fields is not a principals request", f.kind, len(f.fields))
	}
	r := PrincipalsRequest{f.fields[0], f.fields[1], f.fields[2], f.fields[3]}
	switch {
	case !shaped(r.User):
		return PrincipalsRequest{}, malformed("the user name is not one of ours")
	case r.KeyID == "" || len(r.KeyID) > keyIDMax || !printable(r.KeyID):
		return PrincipalsRequest{}, malformed("the key id is empty, too long or not printable")
	case r.Serial == "" || len(r.Serial) > serialMax || strings.Trim(r.Serial, "0123456789") != "":
		return PrincipalsRequest{}, malformed("the serial is not a number")
	case r.Certificate == "" || len(r.Certificate) > certificateMax || strings.ContainsAny(r.Certificate, "\r\n"):
		return PrincipalsRequest{}, malformed("the certificate is empty or too long")
	}
	if _, err := base64.StdEncoding.Strict().DecodeString(r.Certificate); err != nil {
		return PrincipalsRequest{}, malformed("the certificate is not base64")
	}
	return r, nil
}

// printable refuses control characters, also those of Unicode's C1 block, and
// what is not UTF-8.
func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r < ' ' || r >= 0x7f && r <= 0x9f {
			return false
		}
	}
	return true
}
