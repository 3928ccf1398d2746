package oauth

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/cloud"
	"sallyport/internal/conditional"
	"sallyport/internal/credential"
	"sallyport/internal/directory"
	"sallyport/internal/guid"
	"sallyport/internal/oauth/token"
	"sallyport/internal/sshca"
)

// Lifetimes of what this package gives out.
const (
	tokenLife   = time.Hour
	codeLife    = 5 * time.Minute
	deviceLife  = 15 * time.Minute
	devicePoll  = 5 * time.Second
	assertLife  = time.Hour // the longest life of a client assertion
	clockLeeway = 5 * time.Minute
	userCodes   = 100 // that a user may leave unredeemed
)

// Directory knows who exists; directory.Index satisfies it.
type Directory interface {
	Tenant() directory.Tenant
	User(id string) (directory.User, bool)
	GroupsOf(principalID string) []string
	Application(appID string) (directory.Application, bool)
	ServicePrincipalByAppID(appID string) (directory.ServicePrincipal, bool)
}

// Principals finds a service principal by object id; directory.Index satisfies it.
type Principals interface {
	ServicePrincipal(id string) (directory.ServicePrincipal, bool)
}

// People proves users; signin.Service satisfies it. Its refusals are faults
// whose code is an AADSTS code.
type People interface {
	Check(ctx context.Context, by audit.By, upn, password string) (directory.User, error)
}

// Clients proves confidential clients; credential.Service satisfies it.
type Clients interface {
	VerifySecret(ctx context.Context, appID, secret string) (credential.ClientStatus, error)
	ClientCertificates(ctx context.Context, appID string) ([]credential.Certificate, error)
}

// Issuer signs certificates; sshca.Issuer satisfies it.
type Issuer interface {
	Issue(sshca.Request) (*ssh.Certificate, error)
}

// Repeats decides which refusals get a record of their own; repeat.Counter does.
type Repeats interface {
	First(by audit.By, e audit.Event) bool
}

// Config makes a Service. Roles, Policies, PreAuthorized, Settings, Repeats
// and Gate may be nil; Rights is needed for sign-ins of others.
type Config struct {
	URL           string      // "https://host[:port]", no slash at the end
	Cloud         cloud.Cloud // what the deployment presents itself as; the zero value is the global one
	Write         func(context.Context, func(Tx) error) error
	Read          func(context.Context, func(Tx) error) error
	Rand          io.Reader
	Hash          func(label, secret string) []byte
	Directory     Directory
	Principals    Principals
	Consents      Consents
	People        People
	Clients       Clients
	Tokens        *token.Keys
	Issuer        Issuer
	Longest       time.Duration                                 // bounds the life of user certificates; 0 for what the profile allows
	Roles         func(userID string, groups []string) []string // directory role template ids
	Policies      func() []conditional.Policy
	PreAuthorized func(appID string) bool // may ask for users' certificates besides the CLIs
	Settings      *SettingsIndex          // nil: everything is allowed
	Rights        Rights
	Repeats       Repeats // nil: every refusal is a record
	// Gate, where set, refuses what the whole deployment does not give out at this
	// time: a certificate, or anything to this principal. Its error is a fault
	// whose code is an AADSTS code.
	Gate func(principalID string, certificate bool) error
	// Allow, where set, bounds how much one principal is given; its refusal is
	// returned as it is.
	Allow func(by audit.By) error
}

// Service is safe for concurrent use.
type Service struct {
	cfg       Config
	audiences map[Resource][]string
}

// New returns a Service.
func New(cfg Config) *Service {
	cfg.URL = strings.TrimSuffix(cfg.URL, "/")
	if cfg.Cloud.Name == "" {
		cfg.Cloud = cloud.Of(cloud.Global)
	}
	return &Service{cfg: cfg, audiences: audiencesOf(cfg.URL, cfg.Cloud)}
}

// random returns a high-entropy secret as base64url text.
func (s *Service) random() (string, error) {
	b := make([]byte, 32)
	if _, err := io.ReadFull(s.cfg.Rand, b); err != nil {
		return "", fmt.Errorf("oauth: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

// recordRefusal records a refusal that changes nothing.
func (s *Service) recordRefusal(ctx context.Context, by audit.By, e audit.Event) error {
	if s.cfg.Repeats != nil && !s.cfg.Repeats.First(by, e) {
		return nil
	}
	return s.cfg.Write(ctx, func(tx Tx) error { return tx.Audit(by, e) })
}

// gate asks the deployment's gate.
func (s *Service) gate(principalID string, certificate bool) error {
	if s.cfg.Gate == nil {
		return nil
	}
	return errFault(s.cfg.Gate(principalID, certificate))
}

func (s *Service) guid() (string, error) { return guid.New(s.cfg.Rand) }
