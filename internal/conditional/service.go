package conditional

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
)

// The directory actions about policies, close to Entra's. Reading is not among
// "standard/read", which every directory role of ours includes.
const (
	ActionRead   = "microsoft.directory/conditionalAccessPolicies/allProperties/read"
	actionCreate = "microsoft.directory/conditionalAccessPolicies/create"
	actionUpdate = "microsoft.directory/conditionalAccessPolicies/basic/update"
	actionDelete = "microsoft.directory/conditionalAccessPolicies/delete"
)

// mostPolicies bounds what every sign-in has to be judged by. Entra allows 195.
const mostPolicies = 195

// Tx stores policies; a change is a change of the kind Change.
type Tx interface {
	Reader
	ConditionalPolicyByID(id string) (Policy, bool, error)
	PutConditionalPolicy(p Policy) error
	DeleteConditionalPolicy(id string) (existed bool, err error)
	Now() time.Time
	Audit(by audit.By, e audit.Event) error
}

// Rights says who may do what; directory.Service does.
type Rights interface {
	// Require returns a fault unless by holds the directory action.
	Require(by audit.By, action string) error
	// Refuse records a refusal for lack of rights and returns it.
	Refuse(ctx context.Context, by audit.By, e audit.Event, why error) error
}

// Config is what a Service is made of; every field is required.
type Config struct {
	Write  func(context.Context, func(Tx) error) error
	Index  *Index
	People People
	Role   func(id string) bool // reports whether this is a directory role's template id
	Rights Rights
	Rand   io.Reader
}

// Service changes policies. Every method authorizes its caller, and every change
// is one transaction of policy, feed row and audit event.
type Service struct{ cfg Config }

// NewService returns a service.
func NewService(cfg Config) *Service { return &Service{cfg: cfg} }

// Policies lists the policies by id. Who is not told of them finds out only by
// being refused.
func (s *Service) Policies(by audit.By) ([]Policy, error) {
	return s.cfg.Index.Policies(), s.cfg.Rights.Require(by, ActionRead)
}

// Policy finds one.
func (s *Service) Policy(by audit.By, id string) (Policy, error) {
	if err := s.cfg.Rights.Require(by, ActionRead); err != nil {
		return Policy{}, err
	}
	p, ok := s.cfg.Index.Policy(id)
	if !ok {
		return p, notFound(id)
	}
	return p, nil
}

func notFound(id string) error {
	return fault.New(fault.NotFound, "NotFound", "there is no Conditional Access policy %s.", directory.Shown(id)).WithRemedy("List them with: GET /v1.0/identity/conditionalAccess/policies.")
}

// Create stores a new policy. It is enforced from the answer on.
func (s *Service) Create(ctx context.Context, by audit.By, p Policy) (Policy, error) {
	if err := s.permit(ctx, by, actionCreate, "conditionalAccessPolicy.create", ""); err != nil {
		return p, err
	}
	if err := p.check(s.cfg.People, s.cfg.Role, Users{}); err != nil {
		return p, err
	}
	id, err := guid.New(s.cfg.Rand)
	if err != nil {
		return p, err
	}
	p.ID, p.ModifiedAt = id, time.Time{}
	err = s.cfg.Write(ctx, func(tx Tx) error {
		n := 0
		if err := tx.EachConditionalPolicy(func(Policy) error { n++; return nil }); err != nil {
			return err
		}
		if n >= mostPolicies {
			return fault.New(fault.Invalid, "BadRequest", "a tenant has at most %d Conditional Access policies.", mostPolicies).WithRemedy("Delete one that is not needed.")
		}
		p.CreatedAt = tx.Now()
		if err := tx.PutConditionalPolicy(p); err != nil {
			return err
		}
		return record(tx, by, "conditionalAccessPolicy.create", p)
	})
	return p, err
}

// Update changes a policy: change is given it as it is stored, and may run twice.
func (s *Service) Update(ctx context.Context, by audit.By, id string, change func(*Policy) error) error {
	if err := s.permit(ctx, by, actionUpdate, "conditionalAccessPolicy.update", id); err != nil {
		return err
	}
	return s.cfg.Write(ctx, func(tx Tx) error {
		p, ok, err := tx.ConditionalPolicyByID(canonical(id))
		if err != nil {
			return err
		}
		if !ok {
			return notFound(id)
		}
		made, named := p.CreatedAt, p.Conditions.Users
		if err := change(&p); err != nil {
			return err
		}
		if err := p.check(s.cfg.People, s.cfg.Role, named); err != nil {
			return err
		}
		p.ID, p.CreatedAt, p.ModifiedAt = canonical(id), made, tx.Now()
		if err := tx.PutConditionalPolicy(p); err != nil {
			return err
		}
		return record(tx, by, "conditionalAccessPolicy.update", p)
	})
}

// Delete removes a policy.
func (s *Service) Delete(ctx context.Context, by audit.By, id string) error {
	if err := s.permit(ctx, by, actionDelete, "conditionalAccessPolicy.delete", id); err != nil {
		return err
	}
	return s.cfg.Write(ctx, func(tx Tx) error {
		p, ok, err := tx.ConditionalPolicyByID(canonical(id))
		if err != nil {
			return err
		}
		if !ok {
			return notFound(id)
		}
		if _, err := tx.DeleteConditionalPolicy(p.ID); err != nil {
			return err
		}
		return record(tx, by, "conditionalAccessPolicy.delete", p)
	})
}

// canonical is the stored form of an id; what is none names nothing.
func canonical(id string) string {
	id, _ = guid.Parse(id)
	return id
}

// permit records and returns a refusal.
func (s *Service) permit(ctx context.Context, by audit.By, action, kind, target string) error {
	err := s.cfg.Rights.Require(by, action)
	if err == nil {
		return nil
	}
	return s.cfg.Rights.Refuse(ctx, by, audit.Event{Type: kind, Target: canonical(target)}, err)
}

// record keeps the whole policy: who reads the log can see what was in force
// when.
func record(tx Tx, by audit.By, kind string, p Policy) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return tx.Audit(by, audit.Event{Type: kind, Outcome: audit.Success, Target: p.ID, Detail: map[string]string{"displayName": p.DisplayName, "state": string(p.State), "policy": string(text)}})
}
