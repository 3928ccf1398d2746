package resource

import (
	"context"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/scope"
)

// Operation is a ticket for a write: which revision of which incarnation of a
// resource it waits for. It holds no logic and no state of its own.
type Operation struct {
	ID        string // GUID
	Resource  scope.ID
	Born      time.Time // CreatedAt of the resource: another one under its name is not it
	Revision  int64
	Verb      string // write, delete, start/action, ...
	Principal string
	StartedAt time.Time
}

// Status is where an operation stands, with Azure's words.
type Status struct {
	ID       string
	Resource scope.ID
	Verb     string
	Status   string // InProgress, Succeeded, Failed, Canceled
	Start    time.Time
	End      time.Time
	Error    *Failure
}

// The statuses beside Succeeded and Failed.
const (
	InProgress = "InProgress"
	Canceled   = "Canceled"
)

func (e *Engine) operation(tx Tx, by audit.By, verb string, r Resource) (*Operation, error) {
	id, err := e.guid()
	if err != nil {
		return nil, err
	}
	op := Operation{ID: id, Resource: r.ID, Born: r.CreatedAt, Revision: r.Revision, Verb: verb, Principal: by.Principal, StartedAt: tx.Now()}
	return &op, tx.PutOperation(op)
}

// Operation tells the caller who started it, and those who may read its
// resource, where an operation stands.
func (e *Engine) Operation(ctx context.Context, by audit.By, id string) (Status, error) {
	var out Status
	err := e.cfg.Read(ctx, func(tx Tx) error {
		op, ok, err := tx.OperationByID(id)
		if err != nil {
			return err
		}
		if !ok || (op.Principal != by.Principal && !e.Allowed(by, op.Resource.Type()+"/read", op.Resource)) {
			return fault.New(fault.NotFound, "OperationNotFound", "there is no operation '%s'", clip(id))
		}
		r, found, err := tx.ResourceByID(op.Resource.Key())
		if err != nil {
			return err
		}
		out = op.status(r, found)
		return nil
	})
	return out, err
}

// status derives the operation's status from the resource that is there now.
func (op Operation) status(r Resource, found bool) Status {
	s := Status{ID: op.ID, Resource: op.Resource, Verb: op.Verb, Start: op.StartedAt, Status: InProgress}
	same := found && r.CreatedAt.Equal(op.Born)
	switch {
	case !same && op.Verb == "delete":
		s.Status = Succeeded
	case !same:
		s.Status = Canceled
		s.Error = &Failure{Code: "ResourceDeleted", Message: fault.Sentence("the resource was deleted while the operation ran")}
	case r.Observed < op.Revision:
		return s
	case r.State == Failed:
		s.Status, s.Error = Failed, r.Error
	case op.Verb == "delete":
		s.Status = Failed
		s.Error = &Failure{Code: "DeleteFailed", Message: fault.Sentence("the resource could not be deleted")}
	default:
		s.Status = Succeeded
	}
	s.End = r.ChangedAt
	return s
}
