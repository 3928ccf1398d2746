package credential

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
)

// Tx is the transaction that credentials need. It includes the directory's,
// because a user and his password, or a reset and the death of old tokens,
// happen together or not at all.
type Tx interface {
	directory.Tx
	PasswordTx
	ClientTx
}

// PasswordTx stores passwords, counted tries and the places of users.
type PasswordTx interface {
	PasswordOf(userID string) (Password, bool, error)
	PutPassword(p Password) error
	AttemptsOf(name, place string) (Attempts, bool, error)
	// PutAttempts with no failures removes the row.
	PutAttempts(a Attempts) error
	PlaceTx
}

// PlaceTx stores where users signed in.
type PlaceTx interface {
	// ForgetAttemptsAt removes all counts at a name, and its places.
	ForgetAttemptsAt(name string) error
	FamiliarPlace(userID, place string) (last time.Time, found bool, err error)
	PutFamiliarPlace(userID, place string, at time.Time) error
}

// Repeats decides which refusals get a record of their own; repeat.Counter does.
type Repeats interface {
	First(by audit.By, e audit.Event) bool
}

// ClientTx stores what proves applications and service principals.
type ClientTx interface {
	ClientSecretsOf(ownerID string) ([]Secret, error)
	PutClientSecret(s Secret) error
	ClientCertificatesOf(ownerID string) ([]Certificate, error)
	PutClientCertificate(c Certificate) error
	// DeleteClientCredential removes a secret or a certificate of the owner; it
	// reports false where there is none.
	DeleteClientCredential(ownerID, keyID string) (bool, error)
}

// Config is what a Service is made of; every field but Repeats is required.
type Config struct {
	Write     func(context.Context, func(Tx) error) error
	Read      func(context.Context, func(Tx) error) error
	Directory *directory.Service
	Slots     Slots
	Rand      io.Reader
	// Key makes keyed hashes; 32 bytes, the same for the life of the store.
	Key  []byte
	Cost Cost
	// Repeats, where set, bounds the records of wrong passwords.
	Repeats Repeats
}

// Service proves identities and changes what proves them. It is safe for
// concurrent use.
type Service struct{ cfg Config }

// NewService returns a service; it refuses a weak key or a zero cost.
func NewService(cfg Config) (*Service, error) {
	if len(cfg.Key) < 32 || cfg.Cost.MemoryKiB == 0 || cfg.Cost.Passes == 0 || cfg.Cost.Lanes == 0 {
		return nil, fault.New(fault.Internal, "CredentialConfig", "credentials need a key of 32 bytes and a hash cost")
	}
	return &Service{cfg: cfg}, nil
}

// keyed is HMAC-SHA-256 over a purpose and a value. It is for generated secrets
// of full entropy, which need no slow hash, and for names.
func (s *Service) keyed(purpose, value string) string {
	m := hmac.New(sha256.New, s.cfg.Key)
	fmt.Fprintf(m, "sallyport %s v1\x00%s", purpose, value)
	return base64.RawStdEncoding.EncodeToString(m.Sum(nil))
}

func (s *Service) random(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(s.cfg.Rand, b); err != nil {
		return nil, fmt.Errorf("credential: random bytes: %w", err)
	}
	return b, nil
}

func event(kind string, outcome audit.Outcome, target string, detail map[string]string) audit.Event {
	return audit.Event{Type: kind, Outcome: outcome, Target: target, Detail: detail}
}
