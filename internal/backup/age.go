package backup

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"filippo.io/age"

	"sallyport/internal/fault"
)

// minPassphrase is the shortest passphrase that a backup is written under: the
// file can be tried offline for ever.
const minPassphrase = 12

// Lock is whom a file is encrypted to: recipients, or one passphrase (age allows
// no more than one, and nothing beside it).
type Lock struct {
	Recipients []string // "age1...": X25519 or age's hybrid post-quantum ones
	Passphrase []byte
}

// Apart reports whether nothing that opens a file under one lock opens one under
// the other.
func (l Lock) Apart(other Lock) bool {
	if len(l.Passphrase) > 0 && bytes.Equal(l.Passphrase, other.Passphrase) {
		return false
	}
	for _, r := range l.Recipients {
		for _, o := range other.Recipients {
			if strings.EqualFold(strings.TrimSpace(r), strings.TrimSpace(o)) {
				return false
			}
		}
	}
	return true
}

func (l Lock) recipients() ([]age.Recipient, error) {
	switch {
	case len(l.Recipients) > 0 && len(l.Passphrase) > 0:
		return nil, fault.New(fault.Invalid, "BackupRecipient", "a backup is encrypted to recipients or to a passphrase, not to both")
	case len(l.Passphrase) > 0:
		if len(l.Passphrase) < minPassphrase {
			return nil, fault.New(fault.Invalid, "PassphraseShort", "the passphrase of a backup has at least %d characters", minPassphrase).WithRemedy("For example: head -c 24 /dev/urandom | base64")
		}
		r, err := age.NewScryptRecipient(string(l.Passphrase))
		return []age.Recipient{r}, err
	case len(l.Recipients) == 0:
		return nil, fault.New(fault.Invalid, "BackupRecipient", "a backup is never written in clear").WithRemedy("Give --recipient age1... (make one with: sally server backup-identity) or --passphrase-file FILE.")
	}
	var out []age.Recipient
	for _, text := range l.Recipients {
		list, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil || len(list) != 1 {
			return nil, fault.New(fault.Invalid, "BackupRecipient", "%q is no age recipient", printable(text)).WithRemedy("It begins with age1; make one with: sally server backup-identity")
		}
		out = append(out, list...)
	}
	return out, nil
}

// Opener is what opens a file: identities, or the passphrase.
type Opener struct {
	Identities []byte // lines of an age identity file
	Passphrase []byte
}

func (o Opener) identities() ([]age.Identity, error) {
	if len(o.Passphrase) > 0 && len(o.Identities) == 0 {
		id, err := age.NewScryptIdentity(string(o.Passphrase))
		return []age.Identity{id}, err
	}
	if len(o.Passphrase) > 0 || len(o.Identities) == 0 {
		return nil, fault.New(fault.Invalid, "BackupIdentity", "a backup is opened with an identity file or with a passphrase").WithRemedy("Give --identity-file FILE or --passphrase-file FILE.")
	}
	ids, err := age.ParseIdentities(bytes.NewReader(o.Identities))
	if err != nil {
		return nil, fault.New(fault.Invalid, "BackupIdentity", "the identity file holds no age identity").WithRemedy("Its lines begin with AGE-SECRET-KEY-1.")
	}
	return ids, nil
}

// NewIdentity makes an identity and the recipient that belongs to it.
func NewIdentity() (identity, recipient string, err error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return "", "", err
	}
	return id.String(), id.Recipient().String(), nil
}

// Writer writes a file. Close ends it; a file without that is refused by Open.
type Writer struct {
	sealed io.WriteCloser
	frames *frames
}

// NewWriter begins a file with its header.
func NewWriter(w io.Writer, lock Lock, h Header) (*Writer, error) {
	to, err := lock.recipients()
	if err != nil {
		return nil, err
	}
	sealed, err := age.Encrypt(w, to...)
	if err != nil {
		return nil, err
	}
	h.Format = Format
	f, err := newFrames(sealed, h)
	return &Writer{sealed: sealed, frames: f}, err
}

// Row adds a row; the rows of a table come together. Values are int64, string,
// []byte or nil.
func (w *Writer) Row(table string, columns []string, values []any) error {
	return w.frames.row(table, columns, values)
}

// Close writes the trailer and age's last chunk.
func (w *Writer) Close() (Summary, error) {
	if err := w.frames.end(); err != nil {
		return w.frames.found, err
	}
	return w.frames.found, w.sealed.Close()
}

// Reader reads a file.
type Reader struct {
	Header Header
	parser *parser
}

// Open begins to read a file: the header is authentic when Open returns, but
// whether the file is whole is known at the end of Rows only.
func Open(r io.Reader, o Opener) (*Reader, error) {
	ids, err := o.identities()
	if err != nil {
		return nil, err
	}
	plain, err := age.Decrypt(r, ids...)
	var wrong *age.NoIdentityMatchError
	if errors.As(err, &wrong) {
		return nil, fault.Wrap(err, fault.Forbidden, "BackupIdentityWrong", "the backup was not encrypted to this identity or passphrase").
			WithRemedy("A file of data and a file of keys have each their own; see which one belongs to this file.")
	}
	if err != nil {
		return nil, readError(err)
	}
	p, h, err := newParser(plain)
	if err != nil {
		return nil, err
	}
	return &Reader{Header: h, parser: p}, nil
}

// Rows calls put with every row and then checks the end: only when it returns
// nil is everything there that was written.
func (r *Reader) Rows(put func(table string, columns []string, values []any) error) (Summary, error) {
	return r.parser.rows(put)
}
