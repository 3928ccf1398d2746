package credential

import (
	"context"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // x5t is SHA-1 by definition (RFC 7515 section 4.1.7); it selects, the key proves
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
)

const (
	maxPerOwner  = 20
	secretPrefix = "sps_" // lets scanners find leaked secrets, and no option parser takes one for a flag
	// DefaultSecretLife is Graph's for a secret without an end.
	DefaultSecretLife = 2 * 365 * 24 * time.Hour
)

// Secret is a stored client secret. The text itself is shown once, at creation.
type Secret struct {
	ID          string // key id, GUID
	OwnerID     string // object id of the application or service principal
	DisplayName string
	Hint        string
	Keyed       string // keyed hash of the text
	Start, End  time.Time
}

// Certificate is a client certificate: what verifies a signed assertion.
type Certificate struct {
	ID          string
	OwnerID     string
	DisplayName string
	SHA1        string // thumbprint, lower-case hex (x5t)
	SHA256      string // thumbprint, lower-case hex (x5t#S256)
	DER         []byte
	Start, End  time.Time
}

// Life is the time for which a credential is good. A zero Start means now, or the
// start of the certificate; a zero End DefaultSecretLife, or the certificate's end.
type Life struct{ Start, End time.Time }

// AddSecret generates a secret for an application or service principal and
// returns its text. It is good at once: a start that is ahead, as the clock of a client
// can be, is now.
func (s *Service) AddSecret(ctx context.Context, by audit.By, ownerID, displayName string, life Life) (Secret, string, error) {
	ownerID = strings.ToLower(ownerID)
	added := event("credential.addSecret", audit.Success, ownerID, nil)
	if err := s.cfg.Directory.MayManageCredentials(by, ownerID); err != nil {
		return Secret{}, "", s.cfg.Directory.Refuse(ctx, by, added, err)
	}
	raw, err := s.random(48)
	if err != nil {
		return Secret{}, "", err
	}
	text := secretPrefix + base64.RawURLEncoding.EncodeToString(raw[:32])
	secret := Secret{ID: guid.Of([16]byte(raw[32:])), OwnerID: ownerID, Hint: text[:len(secretPrefix)+3], Keyed: s.keyed("client secret", text), Start: life.Start, End: life.End}
	if displayName != "" {
		if secret.DisplayName, err = directory.ParseText("displayName", displayName, 120); err != nil {
			return Secret{}, "", err
		}
	}
	err = s.cfg.Write(ctx, func(tx Tx) error {
		if secret.Start.IsZero() || secret.Start.After(tx.Now()) {
			secret.Start = tx.Now()
		}
		if secret.End.IsZero() {
			secret.End = tx.Now().Add(DefaultSecretLife)
		}
		if err := s.room(tx, ownerID, secret.End); err != nil {
			return err
		}
		if err := tx.PutClientSecret(secret); err != nil {
			return err
		}
		added.Detail = map[string]string{"keyId": secret.ID, "end": secret.End.UTC().Format(time.RFC3339)}
		return tx.Audit(by, added)
	})
	if err != nil {
		return Secret{}, "", err
	}
	return secret, text, nil
}

// room checks that the owner still exists, the end is ahead, and there are not
// too many credentials.
func (s *Service) room(tx Tx, ownerID string, end time.Time) error {
	if _, app, err := tx.ApplicationByID(ownerID); err != nil {
		return err
	} else if _, sp, err := tx.ServicePrincipalByID(ownerID); err != nil {
		return err
	} else if !app && !sp {
		return directory.NotFound(ownerID)
	}
	if err := ahead(end, tx.Now()); err != nil {
		return err
	}
	secrets, err := tx.ClientSecretsOf(ownerID)
	if err != nil {
		return err
	}
	certificates, err := tx.ClientCertificatesOf(ownerID)
	if err != nil {
		return err
	}
	if len(secrets)+len(certificates) >= maxPerOwner {
		return full()
	}
	return nil
}

func ahead(end, now time.Time) error {
	if end.After(now) {
		return nil
	}
	return fault.New(fault.Invalid, "Request_BadRequest", "the credential would end before it begins.").WithTarget("endDateTime").WithRemedy("Give an end in the future.")
}

func full() error {
	return fault.New(fault.Invalid, "Request_BadRequest", "there are %d credentials already.", maxPerOwner).WithRemedy("Remove the ones that are not used.")
}

// NewCertificate is a client certificate to add: DER, for the part of its own life that
// is in the given one. Only its key and its validity count: who may add it is the trust,
// not who signed it.
type NewCertificate struct {
	DisplayName string
	DER         []byte
	Life        Life
}

// AddCertificate adds a client certificate.
func (s *Service) AddCertificate(ctx context.Context, by audit.By, ownerID, displayName string, der []byte, life Life) (Certificate, error) {
	list, err := s.ChangeCertificates(ctx, by, ownerID, nil, []NewCertificate{{displayName, der, life}})
	if err != nil {
		return Certificate{}, err
	}
	return list[0], nil
}

// ChangeCertificates removes credentials of an application or service principal by
// their key ids and adds certificates, or does nothing: whoever loses the old one and
// does not get the new one has lost the application.
func (s *Service) ChangeCertificates(ctx context.Context, by audit.By, ownerID string, gone []string, added []NewCertificate) ([]Certificate, error) {
	change, list, err := s.PrepareCertificates(ctx, by, ownerID, gone, added)
	if err != nil {
		return nil, err
	}
	return list, s.Do(ctx, change)
}

// Change is a change of credentials whose rights have been judged; a write does it.
type Change func(tx Tx) error

// Do makes a change in a write of its own.
func (s *Service) Do(ctx context.Context, change Change) error { return s.cfg.Write(ctx, change) }

// InDirectory is a change as a part of a write of the directory's.
func InDirectory(change Change) func(directory.Tx) error {
	return func(tx directory.Tx) error {
		whole, ok := tx.(Tx)
		if !ok {
			return fmt.Errorf("a transaction (%T) that cannot write credentials", tx)
		}
		return change(whole)
	}
}

// PrepareCertificates is ChangeCertificates as far as it goes without a write.
func (s *Service) PrepareCertificates(ctx context.Context, by audit.By, ownerID string, gone []string, added []NewCertificate) (Change, []Certificate, error) {
	ownerID = strings.ToLower(ownerID)
	if err := s.cfg.Directory.MayManageCredentials(by, ownerID); err != nil {
		refused := event("credential.addCertificate", audit.Success, ownerID, nil)
		if len(added) == 0 {
			refused = event("credential.remove", audit.Success, ownerID, nil)
		}
		return nil, nil, s.cfg.Directory.Refuse(ctx, by, refused, err)
	}
	list := make([]Certificate, 0, len(added))
	for _, n := range added {
		c, err := n.read()
		if err != nil {
			return nil, nil, err
		}
		raw, err := s.random(16)
		if err != nil {
			return nil, nil, err
		}
		c.ID, c.OwnerID = guid.Of([16]byte(raw)), ownerID
		list = append(list, c)
	}
	return func(tx Tx) error {
		for _, id := range gone {
			if err := removeIn(tx, by, ownerID, strings.ToLower(id)); err != nil {
				return err
			}
		}
		for _, c := range list {
			if err := s.addIn(tx, by, c); err != nil {
				return err
			}
		}
		return nil
	}, list, nil
}

// CheckCertificates refuses certificates that ChangeCertificates would refuse at that
// time, whoever adds them to what.
func CheckCertificates(added []NewCertificate, at time.Time) error {
	seen := map[string]bool{}
	for _, n := range added {
		c, err := n.read()
		if err == nil {
			err = ahead(c.End, at)
		}
		switch {
		case err != nil:
			return err
		case seen[c.SHA256]:
			return isThere()
		case len(seen) >= maxPerOwner:
			return full()
		}
		seen[c.SHA256] = true
	}
	return nil
}

func (n NewCertificate) read() (Certificate, error) {
	c, err := ParseCertificate(n.DER)
	if err != nil {
		return Certificate{}, err
	}
	life := n.Life
	if life.Start.After(c.Start) {
		c.Start = life.Start
	}
	if !life.End.IsZero() && life.End.Before(c.End) {
		c.End = life.End
	}
	if n.DisplayName != "" {
		c.DisplayName, err = directory.ParseText("displayName", n.DisplayName, 120)
	}
	return c, err
}

func (s *Service) addIn(tx Tx, by audit.By, c Certificate) error {
	if err := s.room(tx, c.OwnerID, c.End); err != nil {
		return err
	}
	present, err := tx.ClientCertificatesOf(c.OwnerID)
	if err != nil {
		return err
	}
	for _, p := range present {
		if p.SHA256 == c.SHA256 {
			return isThere()
		}
	}
	if err := tx.PutClientCertificate(c); err != nil {
		return err
	}
	return tx.Audit(by, event("credential.addCertificate", audit.Success, c.OwnerID, map[string]string{"keyId": c.ID, "sha256": c.SHA256}))
}

func isThere() error {
	return fault.New(fault.Invalid, "Request_BadRequest", "this certificate is there already.").WithRemedy("Nothing needs to be done.")
}

// ParseCertificate reads a certificate as AddCertificate does, which accepts it when
// there is no error, whoever adds it to what.
func ParseCertificate(der []byte) (Certificate, error) {
	bad := fault.New(fault.Invalid, "Request_BadRequest", "the key is not a usable X.509 certificate.").WithTarget("keyCredentials").
		WithRemedy("Send one certificate, DER in base64, with an RSA key of 2048 to 8192 bits.")
	if len(der) > 16<<10 {
		return Certificate{}, bad
	}
	x, err := x509.ParseCertificate(der)
	if err != nil {
		return Certificate{}, bad
	}
	key, ok := x.PublicKey.(*rsa.PublicKey)
	if !ok || key.N.BitLen() < 2048 || key.N.BitLen() > 8192 {
		return Certificate{}, bad
	}
	one, two := sha1.Sum(x.Raw), sha256.Sum256(x.Raw) //nolint:gosec // see the import
	return Certificate{SHA1: hex.EncodeToString(one[:]), SHA256: hex.EncodeToString(two[:]), DER: x.Raw, Start: x.NotBefore.UTC(), End: x.NotAfter.UTC()}, nil
}

// RemoveCredential removes a secret or certificate by its key id.
func (s *Service) RemoveCredential(ctx context.Context, by audit.By, ownerID, keyID string) error {
	ownerID, keyID = strings.ToLower(ownerID), strings.ToLower(keyID)
	removed := event("credential.remove", audit.Success, ownerID, map[string]string{"keyId": directory.Shown(keyID)})
	if err := s.cfg.Directory.MayManageCredentials(by, ownerID); err != nil {
		return s.cfg.Directory.Refuse(ctx, by, removed, err)
	}
	return s.cfg.Write(ctx, func(tx Tx) error { return removeIn(tx, by, ownerID, keyID) })
}

func removeIn(tx Tx, by audit.By, ownerID, keyID string) error {
	found, err := tx.DeleteClientCredential(ownerID, keyID)
	if err != nil {
		return err
	}
	if !found {
		return fault.New(fault.NotFound, "Request_ResourceNotFound", "no credential with the given keyId was found.").WithTarget("keyId").WithRemedy("List them by showing the application.")
	}
	return tx.Audit(by, event("credential.remove", audit.Success, ownerID, map[string]string{"keyId": directory.Shown(keyID)}))
}

// Credentials lists what proves an application or service principal; the stored
// hashes are left out.
func (s *Service) Credentials(ctx context.Context, ownerID string) ([]Secret, []Certificate, error) {
	var secrets []Secret
	var certificates []Certificate
	err := s.cfg.Read(ctx, func(tx Tx) error {
		var err error
		if secrets, err = tx.ClientSecretsOf(strings.ToLower(ownerID)); err != nil {
			return err
		}
		certificates, err = tx.ClientCertificatesOf(strings.ToLower(ownerID))
		return err
	})
	for i := range secrets {
		secrets[i].Keyed = ""
	}
	return secrets, certificates, err
}

// ClientStatus is the outcome of a client's proof. The zero value proves
// nothing.
type ClientStatus uint8

// The client statuses.
const (
	ClientWrong ClientStatus = iota
	ClientOK
	ClientExpired // the secret is right, its time is over
)

// VerifySecret checks a client secret against those of the application and of
// its service principal. It writes nothing: the caller's audit record of what
// the proof was for is the record. Whether the service principal exists and is
// enabled is the caller's question to the directory.
func (s *Service) VerifySecret(ctx context.Context, appID, text string) (ClientStatus, error) {
	want := []byte(s.keyed("client secret", text))
	status := ClientWrong
	err := s.eachOwner(ctx, appID, func(tx Tx, ownerID string) error {
		secrets, err := tx.ClientSecretsOf(ownerID)
		for _, c := range secrets {
			if subtle.ConstantTimeCompare([]byte(c.Keyed), want) != 1 || tx.Now().Before(c.Start) {
				continue
			}
			if tx.Now().Before(c.End) {
				status = ClientOK
			} else if status == ClientWrong {
				status = ClientExpired
			}
		}
		return err
	})
	if err != nil {
		return ClientWrong, err
	}
	return status, nil
}

// ClientCertificates returns the certificates whose keys sign assertions of the
// application, from their Start until their End: also those whose time is not now.
func (s *Service) ClientCertificates(ctx context.Context, appID string) ([]Certificate, error) {
	var all []Certificate
	err := s.eachOwner(ctx, appID, func(tx Tx, ownerID string) error {
		list, err := tx.ClientCertificatesOf(ownerID)
		all = append(all, list...)
		return err
	})
	return all, err
}

// eachOwner visits the objects whose credentials prove an application, inside
// one read.
func (s *Service) eachOwner(ctx context.Context, appID string, f func(tx Tx, ownerID string) error) error {
	return s.cfg.Read(ctx, func(tx Tx) error {
		x := s.cfg.Directory.Index()
		if a, ok := x.Application(appID); ok {
			if err := f(tx, a.ID); err != nil {
				return err
			}
		}
		if p, ok := x.ServicePrincipalByAppID(appID); ok && p.Type == directory.TypeApplication {
			return f(tx, p.ID)
		}
		return nil
	})
}
