package oauth

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/oauth/token"
	"sallyport/internal/signin"
)

// The kinds of sign-in.
const (
	InBrowser = "browser" // a sign-in session
	InProgram = "program" // a refresh family
)

// SignedIn is one place where a user is signed in.
type SignedIn struct {
	ID         string    `json:"id"`
	Kind       string    `json:"kind"`
	ClientID   string    `json:"clientId,omitempty"`
	Client     string    `json:"client"`
	Address    string    `json:"address"`
	SignedInAt time.Time `json:"signedInAt"`
	// LastUsedAt is when a browser was seen, to ten minutes, or a program's
	// refresh token rotated. A certificate does not rotate it.
	LastUsedAt time.Time `json:"lastUsedAt"`
	Ends       time.Time `json:"ends"`
	Factors    []string  `json:"factors"`
	// Session is the browser's sign-in that a program's rests on.
	Session string `json:"session,omitempty"`
}

// Rights says who may see and end the sign-ins of a user; directory.Service
// does. All refuse with a fault.
type Rights interface {
	MayRevokeSessions(by audit.By, userID string) error
	// MayRevokeOthersSessions returns nil when there may be others whose.
	MayRevokeOthersSessions(by audit.By) error
	// Refuse records a refusal for lack of rights and returns it.
	Refuse(ctx context.Context, by audit.By, e audit.Event, why error) error
}

// SignInTx keeps sign-ins, and the certificates that rest on them.
type SignInTx interface {
	SignInSessionsOf(userID string) ([]signin.Session, error)
	RefreshFamiliesOf(principal string) ([]token.Family, error)
	EndSignInSession(id string) error
	EndRefreshFamiliesOf(principal, session, reason string) error
	// EndGrantsOf spends the codes and takes back the device approvals that rest
	// on a sign-in session, also those that are being redeemed.
	EndGrantsOf(userID, session string) error
	IssuedCertificates(principal string, after time.Time) ([]Issued, error)
}

// Issued is a certificate as its record tells.
type Issued struct {
	Serial, Family, Session string
	Ends                    time.Time
}

// revokedReason is what the holder of a revoked sign-in reads.
const revokedReason = "it was revoked"

// SignIns lists where a user is signed in, the last used first: one's own, or
// another's for who may end them.
func (s *Service) SignIns(ctx context.Context, by audit.By, userID string) ([]SignedIn, error) {
	user, found := s.cfg.Directory.User(userID)
	if err := s.cfg.Rights.MayRevokeSessions(by, userID); err != nil {
		return nil, err
	}
	if !found {
		return nil, directory.NotFound(userID)
	}
	list := []SignedIn{}
	err := s.cfg.Read(ctx, func(tx Tx) error {
		sessions, err := tx.SignInSessionsOf(user.ID)
		if err != nil {
			return err
		}
		families, err := tx.RefreshFamiliesOf(user.ID)
		if err != nil {
			return err
		}
		for _, n := range sessions {
			if by.At.Before(n.Ends) && by.At.Sub(n.SeenAt) <= signin.IdleLife && !n.SignedInAt.Before(user.NotBefore) {
				list = append(list, SignedIn{ID: n.ID, Kind: InBrowser, Client: "browser", Address: n.Address, SignedInAt: n.SignedInAt, LastUsedAt: n.SeenAt, Ends: n.Ends, Factors: names(n.Factors)})
			}
		}
		for _, f := range families {
			if f.EndedFor == "" && by.At.Before(f.Until()) && !f.SignedInAt.Before(user.NotBefore) {
				list = append(list, SignedIn{ID: f.ID, Kind: InProgram, ClientID: f.Client, Client: s.clientName(f.Client), Address: f.Address, SignedInAt: f.SignedInAt, LastUsedAt: f.RotatedAt, Ends: f.Until(),
					Factors: names(f.Factors), Session: f.Session})
			}
		}
		return nil
	})
	slices.SortStableFunc(list, func(a, b SignedIn) int { return b.LastUsedAt.Compare(a.LastUsedAt) })
	return list, err
}

func names(factors map[string]time.Time) []string { return slices.Sorted(maps.Keys(factors)) }

func (s *Service) clientName(appID string) string {
	if app, ok := s.cfg.Directory.Application(appID); ok {
		return app.DisplayName
	}
	return appID
}

// RevokeSignIn ends one sign-in of a user: a program's, or a browser's with the
// programs that signed in through it. In the same transaction the certificates
// that rest on what ended are revoked, those too that have ended and whose
// sessions are still open: machines end those sessions. Access tokens that were
// given out end within the hour. A sign-in that has ended may be revoked again,
// which revokes what is left of it.
func (s *Service) RevokeSignIn(ctx context.Context, by audit.By, userID, id string) error {
	id = strings.ToLower(id)
	e := audit.Event{Type: "signin.revoke", Outcome: audit.Success, Target: userID, Detail: map[string]string{"session": directory.Shown(id)}}
	if err := s.cfg.Rights.MayRevokeSessions(by, userID); err != nil {
		return s.cfg.Rights.Refuse(ctx, by, e, err)
	}
	certificates, err := s.restingOn(ctx, by, userID)
	if err != nil {
		return err
	}
	return s.cfg.Write(ctx, func(tx Tx) error {
		browser, err := endSignIn(tx, userID, id)
		if err != nil {
			return err
		}
		if err := tx.Audit(by, e); err != nil {
			return err
		}
		// Nothing rests on what has ended from here on: record makes sure of that.
		return certificates.revoke(tx, by, userID, "its sign-in was revoked", func(c Issued) bool {
			return browser && c.Session == id || !browser && c.Family == id
		})
	})
}

// endSignIn ends a browser's sign-in with what came from it, or a program's.
func endSignIn(tx Tx, userID, id string) (browser bool, err error) {
	sessions, err := tx.SignInSessionsOf(userID)
	if err != nil {
		return false, err
	}
	families, err := tx.RefreshFamiliesOf(userID)
	if err != nil {
		return false, err
	}
	switch {
	case slices.ContainsFunc(sessions, func(n signin.Session) bool { return n.ID == id }), slices.ContainsFunc(families, func(f token.Family) bool { return id != "" && f.Session == id }):
		if err := tx.EndSignInSession(id); err != nil {
			return true, err
		}
		if err := tx.EndRefreshFamiliesOf(userID, id, revokedReason); err != nil {
			return true, err
		}
		return true, tx.EndGrantsOf(userID, id)
	case slices.ContainsFunc(families, func(f token.Family) bool { return f.ID == id }):
		return false, tx.EndRefreshFamily(id, revokedReason)
	}
	return false, fault.New(fault.NotFound, "SignInNotFound", "there is no sign-in %s of this user", directory.Shown(id)).WithRemedy("List them with: sally account session list")
}
