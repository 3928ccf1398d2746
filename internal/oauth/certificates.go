package oauth

import (
	"context"
	"strconv"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/sshca"
)

// CertificateTx reads what certificates there are: their records in the audit
// log are the only ones.
type CertificateTx interface {
	AuditRecords(f audit.Filter) ([]audit.Record, error)
	// CertificateBySerial finds the record of a certificate that was issued after a
	// time, or that opened a session which is still open: of one principal, or "" for
	// whose ever it is.
	CertificateBySerial(serial, principal string, after time.Time) (r audit.Record, found bool, err error)
	RevocationBySerial(serial string) (sshca.Revocation, bool, error)
	PutRevocation(sshca.Revocation) error
	// RevokedOf counts the certificates of a principal that are revoked and known.
	RevokedOf(principal string) (int, error)
	// OpenedWith returns the certificates that opened the sessions of a principal
	// which machines say are open.
	OpenedWith(principal string) ([]Opened, error)
}

// Opened is a certificate that opened a session which is still open.
type Opened struct {
	Serial string
	Since  time.Time
}

// IssuedCertificate is a user certificate, as its record tells.
type IssuedCertificate struct {
	Serial        string    `json:"serial"`
	KeyID         string    `json:"keyId"` // the correlation id of its request
	PrincipalID   string    `json:"principalId"`
	PrincipalName string    `json:"principalName"`
	IssuedAt      time.Time `json:"issuedAt"`
	Ends          time.Time `json:"ends"`
	Address       string    `json:"address"`
	ClientID      string    `json:"clientId"`
	MachineID     string    `json:"machineId,omitempty"` // the one machine that it is good for
	Grant         string    `json:"grant"`
	Fingerprint   string    `json:"fingerprint"` // of the person's key
	Session       string    `json:"session,omitempty"`
	Family        string    `json:"family,omitempty"`
	RevokedAt     time.Time `json:"-"` // zero: it is not revoked
	RevokedFor    string    `json:"-"`
}

// issuedCertificate reads a record; ok is false for one that is none of a
// certificate.
func issuedCertificate(r audit.Record) (c IssuedCertificate, ok bool) {
	ends, err := time.Parse(time.RFC3339, r.Detail["validBefore"])
	if _, bad := strconv.ParseUint(r.Detail["serial"], 10, 64); err != nil || bad != nil || r.Type != "certificate.issue" || r.Outcome != audit.Success {
		return c, false
	}
	return IssuedCertificate{
		Serial: r.Detail["serial"], KeyID: r.Detail["keyId"], PrincipalID: r.Principal, PrincipalName: r.PrincipalName, IssuedAt: r.Time, Ends: ends, Address: r.Address, ClientID: r.Client,
		MachineID: r.Detail["machine"], Grant: r.Detail["grant"], Fingerprint: r.Detail["fingerprint"], Session: r.Detail["session"], Family: r.Detail["family"],
	}, true
}

// oldest is the issue of the oldest certificate that can live at a time.
func oldest(at time.Time) time.Time { return at.Add(-sshca.MaxLifetime - clockLeeway) }

// Certificates lists the certificates that live, newest first: of one principal,
// or "" for all. next is where the list goes on, the zero Place at its end. Who
// may see them is the caller's question.
func (s *Service) Certificates(ctx context.Context, at time.Time, principal string, before audit.Place, limit int) (list []IssuedCertificate, next audit.Place, err error) {
	err = s.cfg.Read(ctx, func(tx Tx) error {
		list, next = []IssuedCertificate{}, audit.Place{}
		records, err := tx.AuditRecords(audit.Filter{Principal: principal, Type: "certificate.issue", Outcome: audit.Success, Since: oldest(at), Before: before, Limit: limit})
		if err != nil {
			return err
		}
		for _, r := range records {
			c, ok := issuedCertificate(r)
			if !ok || !c.Ends.After(at) {
				continue
			}
			if err := c.look(tx); err != nil {
				return err
			}
			list = append(list, c)
		}
		if len(records) == limit {
			next = records[limit-1].Place()
		}
		return nil
	})
	return list, next, err
}

// look finds out whether a certificate is revoked.
func (c *IssuedCertificate) look(tx Tx) error {
	r, found, err := tx.RevocationBySerial(c.Serial)
	if found {
		c.RevokedAt, c.RevokedFor = r.At, r.Reason
	}
	return err
}

// Certificate finds a certificate by its serial or its key id. By its key id it
// is found as long as its record is kept; by its serial while it lives, or while
// a session that it opened is open. With a principal only that one's are searched.
func (s *Service) Certificate(ctx context.Context, at time.Time, name, principal string) (c IssuedCertificate, err error) {
	err = s.cfg.Read(ctx, func(tx Tx) error {
		r, found, err := findCertificate(tx, at, name, principal)
		if err != nil {
			return err
		}
		if !found {
			return fault.New(fault.NotFound, "CertificateNotFound", "there is no record of a certificate %s that lives or has a session open", directory.Shown(name)).
				WithRemedy("List them with: sally cert list. What was issued to a user until now is revoked by: sally cert revoke --user NAME.")
		}
		c, _ = issuedCertificate(r)
		return c.look(tx)
	})
	return c, err
}

func findCertificate(tx Tx, at time.Time, name, principal string) (r audit.Record, found bool, err error) {
	if id, ok := guid.Parse(name); ok {
		records, err := tx.AuditRecords(audit.Filter{CorrelationID: id, Principal: principal, Type: "certificate.issue", Outcome: audit.Success, Limit: 10})
		if err != nil {
			return r, false, err
		}
		for _, r := range records {
			if c, ok := issuedCertificate(r); ok && c.KeyID == id {
				return r, true, nil
			}
		}
		return r, false, nil
	}
	if n, bad := strconv.ParseUint(name, 10, 64); bad != nil || strconv.FormatUint(n, 10) != name {
		return r, false, fault.New(fault.Invalid, "InvalidCertificate", "%s is neither the serial of a certificate, a decimal number, nor a key id", directory.Shown(name))
	}
	if r, found, err = tx.CertificateBySerial(name, principal, oldest(at)); err != nil || !found {
		return r, false, err
	}
	_, found = issuedCertificate(r)
	return r, found, nil
}

// MayRevokeCertificates returns nil when a caller may see and revoke the
// certificates of a user by a directory role, or because they are his own.
func (s *Service) MayRevokeCertificates(by audit.By, principal string) error {
	return s.cfg.Rights.MayRevokeSessions(by, principal)
}

// MayRevokeOthersCertificates returns nil when a directory role lets a caller see
// and revoke certificates that are not his own; whose, MayRevokeCertificates says.
func (s *Service) MayRevokeOthersCertificates(by audit.By) error {
	return s.cfg.Rights.MayRevokeOthersSessions(by)
}

// RevokeCertificate revokes one certificate; the sessions that it opened end.
// Whether by may do that is the caller's question, and has been answered. One
// that is revoked stays as it is.
func (s *Service) RevokeCertificate(ctx context.Context, by audit.By, c IssuedCertificate) error {
	return s.cfg.Write(ctx, func(tx Tx) error { return revokeIn(tx, by, c.PrincipalID, "somebody revoked it", c.Serial, c.Ends) })
}

// maxRevoked bounds the certificates of one principal that are revoked one by
// one: every machine is told of every serial, so that whoever may have many
// certificates could make all machines' snapshots too large to be taken.
const maxRevoked = 4096

// revokeIn revokes a certificate and records it. Machines are told of one that
// has ended too, for what it opened.
func revokeIn(tx Tx, by audit.By, principal, reason, serial string, ends time.Time) error {
	if _, found, err := tx.RevocationBySerial(serial); err != nil || found {
		return err
	}
	n, err := tx.RevokedOf(principal)
	if err != nil {
		return err
	}
	if n >= maxRevoked {
		return fault.New(fault.Conflict, "TooManyRevoked", "%d certificates of this principal are revoked already, and machines are told of each for a day beyond its end", n).
			WithRemedy("End everything that was issued to the principal until now: sally cert revoke --assignee NAME.")
	}
	if ends.Before(by.At) {
		ends = by.At
	}
	if err := tx.PutRevocation(sshca.Revocation{Serial: serial, Principal: principal, Reason: reason, At: by.At, Ends: ends}); err != nil {
		return err
	}
	return tx.Audit(by, audit.Event{Type: "certificate.revoke", Outcome: audit.Success, Target: principal, Detail: map[string]string{"serial": serial, "reason": reason}})
}

// resting are the certificates of a user that live or have a session open.
type resting struct {
	issued []Issued
	open   map[string]bool // serials with a session
}

// restingOn looks them up, before a write that revokes some: it may take time.
func (s *Service) restingOn(ctx context.Context, by audit.By, userID string) (r resting, err error) {
	r.open = map[string]bool{}
	err = s.cfg.Read(ctx, func(tx Tx) error {
		opened, err := tx.OpenedWith(userID)
		if err != nil {
			return err
		}
		after := oldest(by.At)
		for _, o := range opened {
			r.open[o.Serial] = true
			if first := oldest(o.Since); first.Before(after) {
				after = first
			}
		}
		r.issued, err = tx.IssuedCertificates(userID, after)
		return err
	})
	return r, err
}

// overlap is how long before a look-up what it missed may have begun: a request
// for a certificate takes no longer.
const overlap = 5 * time.Minute

// revoke revokes those of the certificates that match, and of those that were
// issued since they were looked up.
func (r resting) revoke(tx Tx, by audit.By, userID, reason string, match func(Issued) bool) error {
	late, err := tx.IssuedCertificates(userID, by.At.Add(-overlap))
	if err != nil {
		return err
	}
	done := map[string]bool{}
	for _, list := range [][]Issued{r.issued, late} {
		for _, c := range list {
			if done[c.Serial] || !match(c) || !c.Ends.After(by.At) && !r.open[c.Serial] {
				continue
			}
			done[c.Serial] = true
			if err := revokeIn(tx, by, userID, reason, c.Serial, c.Ends); err != nil {
				return err
			}
		}
	}
	return nil
}
