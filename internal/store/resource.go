package store

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/internal/resource"
	"sallyport/internal/scope"
)

const resourceColumns = `id, location, tags, identity, top, properties, private, above, etag, revision, observed, wanted_at, state, error, created_at, changed_at`

func scanResource(scan func(...any) error) (resource.Resource, error) {
	var r resource.Resource
	var id, tags, identity, top, properties, private, failure string
	var wanted, created, changed int64
	if err := scan(&id, &r.Location, &tags, &identity, &top, &properties, &private, &r.Above, &r.ETag, &r.Revision, &r.Observed, &wanted, &r.State, &failure, &created, &changed); err != nil {
		return r, err
	}
	var err error
	if r.ID, err = scope.Parse(id); err != nil {
		return r, fmt.Errorf("resource %s: %w", id, err)
	}
	if err := fromJSON(tags, &r.Tags); err != nil {
		return r, fmt.Errorf("resource %s: %w", id, err)
	}
	if err := fromJSON(identity, &r.Identity); err != nil {
		return r, fmt.Errorf("resource %s: %w", id, err)
	}
	if err := fromJSON(failure, &r.Error); err != nil {
		return r, fmt.Errorf("resource %s: %w", id, err)
	}
	r.Top, r.Properties, r.Private = rawText(top), rawText(properties), rawText(private)
	r.WantedAt, r.CreatedAt, r.ChangedAt = fromMicros(wanted), fromMicros(created), fromMicros(changed)
	return r, nil
}

func rawText(text string) json.RawMessage {
	if text == "" {
		return nil
	}
	return json.RawMessage(text)
}

func (t *Tx) resources(rest string, args []any) ([]resource.Resource, error) {
	var out []resource.Resource
	err := t.query(`SELECT `+resourceColumns+` FROM resource `+rest, args, func(scan func(...any) error) error {
		r, err := scanResource(scan)
		out = append(out, r)
		return err
	})
	return out, err
}

func firstResource(list []resource.Resource, err error) (resource.Resource, bool, error) {
	if err != nil || len(list) == 0 {
		return resource.Resource{}, false, err
	}
	return list[0], true, nil
}

// ResourceByID finds a resource by its key.
func (t *Tx) ResourceByID(key string) (resource.Resource, bool, error) {
	return firstResource(t.resources(`WHERE key = $1`, []any{key}))
}

// ResourceOfMachine finds the resource that is a machine, by the machine's id.
func (t *Tx) ResourceOfMachine(machineID string) (resource.Resource, bool, error) {
	if machineID == "" {
		return resource.Resource{}, false, nil
	}
	return firstResource(t.resources(`WHERE machine = $1`, []any{strings.ToLower(machineID)}))
}

// ListResources lists what a range selects, by key.
func (t *Tx) ListResources(r resource.Range) ([]resource.Resource, error) {
	low, high := "/", "0" // '0' follows '/': every key lies between
	if !r.Under.IsZero() && r.Under != scope.Root() {
		low, high = r.Under.Key()+"/", r.Under.Key()+"0"
	}
	low = max(low, r.After)
	limit := r.Limit
	if limit <= 0 {
		limit = 1 << 30
	}
	if r.Type == "" {
		return t.resources(`WHERE key > $1 AND key < $2 ORDER BY key LIMIT $3`, []any{low, high, limit})
	}
	return t.resources(`WHERE type_key = $1 AND key > $2 AND key < $3 ORDER BY key LIMIT $4`, []any{strings.ToLower(r.Type), low, high, limit})
}

// SettledResources lists the resources of a type that a range selects and that are
// not behind, oldest first, without the newest. It reads ids alone: what they hold
// may be large.
func (t *Tx) SettledResources(r resource.Range, newest int) (ids []scope.ID, err error) {
	err = t.query(`SELECT id FROM resource WHERE type_key = $1 AND key > $2 AND key < $3 AND behind = 0 ORDER BY wanted_at DESC, key DESC LIMIT 1073741824 OFFSET $4`,
		[]any{strings.ToLower(r.Type), r.Under.Key() + "/", r.Under.Key() + "0", newest}, func(scan func(...any) error) error {
			var text string
			if err := scan(&text); err != nil {
				return err
			}
			id, err := scope.Parse(text)
			ids = append(ids, id)
			return err
		})
	slices.Reverse(ids)
	return ids, err
}

// PutResource inserts or replaces a resource. One that wants a new revision is
// due at once; a lease that a worker holds on it stays.
func (t *Tx) PutResource(r resource.Resource) error {
	tags, err := jsonText(r.Tags)
	if err != nil {
		return err
	}
	identity, err := optionalText(r.Identity, r.Identity == nil)
	if err != nil {
		return err
	}
	failure, err := optionalText(r.Error, r.Error == nil)
	if err != nil {
		return err
	}
	var machine struct {
		MachineID string `json:"machineId"`
	}
	if err := r.ReadPrivate(&machine); err != nil {
		return err
	}
	behind := 0
	if r.Behind() {
		behind = 1
	}
	_, err = t.exec(`INSERT INTO resource (`+resourceColumns+`, key, type_key, machine, behind, due, lease)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, 0, 0)
ON CONFLICT (key) DO UPDATE SET id = excluded.id, location = excluded.location, tags = excluded.tags, identity = excluded.identity, top = excluded.top,
  properties = excluded.properties, private = excluded.private, above = excluded.above, etag = excluded.etag,
  due = CASE WHEN excluded.revision > resource.revision THEN 0 ELSE resource.due END,
  revision = excluded.revision, observed = excluded.observed, wanted_at = excluded.wanted_at, state = excluded.state, error = excluded.error,
  changed_at = excluded.changed_at, machine = excluded.machine, behind = excluded.behind`,
		r.ID.String(), r.Location, tags, identity, string(r.Top), string(r.Properties), string(r.Private), r.Above, r.ETag, r.Revision, r.Observed,
		micros(r.WantedAt), r.State, failure, micros(r.CreatedAt), micros(r.ChangedAt), r.ID.Key(), strings.ToLower(r.ID.Type()), strings.ToLower(machine.MachineID), behind)
	if err != nil {
		return fmt.Errorf("resource %s: %w", r.ID, err)
	}
	return t.changed(resource.Kind(r.ID), r.ID.Key())
}

func optionalText(v any, none bool) (string, error) {
	if none {
		return "", nil
	}
	return jsonText(v)
}

// DeleteResource removes a resource.
func (t *Tx) DeleteResource(id scope.ID) error {
	n, err := t.exec(`DELETE FROM resource WHERE key = $1`, id.Key())
	if err != nil || n == 0 {
		return err
	}
	return t.changed(resource.Kind(id), id.Key())
}

// MoveResource stores a resource under its new id in the place of the old one.
// The new one comes first in the feed, so that an index never shows neither.
func (t *Tx) MoveResource(from scope.ID, r resource.Resource) error {
	if err := t.PutResource(r); err != nil {
		return err
	}
	var machineID string
	if _, err := t.row(`SELECT machine FROM resource WHERE key = $1`, []any{r.ID.Key()}, &machineID); err != nil {
		return err
	}
	if machineID != "" {
		// A token lets its holder be the machine: what the old group's people made
		// and did not use is theirs no more.
		if _, err := t.exec(`DELETE FROM join_tokens WHERE machine_id = $1 AND used_at = 0`, machineID); err != nil {
			return err
		}
		if _, err := t.exec(`UPDATE join_tokens SET resource_id = $1 WHERE machine_id = $2`, r.ID.String(), machineID); err != nil {
			return err
		}
		n, err := t.exec(`UPDATE machines SET resource_id = $1 WHERE id = $2`, r.ID.String(), machineID)
		if err != nil {
			return err
		}
		if n > 0 {
			if err := t.changed("machine", machineID); err != nil {
				return err
			}
		}
	}
	if _, err := t.exec(`UPDATE operation SET resource = $1 WHERE lower(resource) = $2`, r.ID.String(), from.Key()); err != nil {
		return err
	}
	return t.DeleteResource(from)
}

// operationLife is how long a ticket can be asked for.
const operationLife = 7 * 24 * time.Hour

// PutOperation stores a ticket and forgets those that are too old.
func (t *Tx) PutOperation(op resource.Operation) error {
	if _, err := t.exec(`DELETE FROM operation WHERE started_at < $1`, micros(t.now.Add(-operationLife))); err != nil {
		return err
	}
	_, err := t.exec(`INSERT INTO operation (id, resource, born, revision, verb, principal, started_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		op.ID, op.Resource.String(), micros(op.Born), op.Revision, op.Verb, op.Principal, micros(op.StartedAt))
	return err
}

// OperationByID finds a ticket.
func (t *Tx) OperationByID(id string) (resource.Operation, bool, error) {
	op := resource.Operation{ID: strings.ToLower(id)}
	var where string
	var born, started int64
	found, err := t.row(`SELECT resource, born, revision, verb, principal, started_at FROM operation WHERE id = $1`, []any{op.ID},
		&where, &born, &op.Revision, &op.Verb, &op.Principal, &started)
	if err != nil || !found {
		return op, false, err
	}
	op.Born, op.StartedAt = fromMicros(born), fromMicros(started)
	op.Resource, err = scope.Parse(where)
	return op, true, err
}

// NextDue says when the first resource that is behind may be leased.
func (t *Tx) NextDue() (time.Time, bool, error) {
	var at int64
	found, err := t.row(`SELECT CASE WHEN due > lease THEN due ELSE lease END AS at FROM resource WHERE behind = 1 ORDER BY at LIMIT 1`, nil, &at)
	return fromMicros(at), found, err
}

// LeaseResource hands out one resource that is behind, due and not leased.
func (t *Tx) LeaseResource(until time.Time) (resource.Resource, bool, error) {
	var key string
	found, err := t.row(`UPDATE resource SET lease = $1, due = 1 WHERE key = (SELECT key FROM resource WHERE behind = 1 AND due <= $2 AND lease <= $3 ORDER BY due LIMIT 1) RETURNING key`,
		[]any{micros(until), micros(t.now), micros(t.now)}, &key)
	if err != nil || !found {
		return resource.Resource{}, false, err
	}
	return t.ResourceByID(key)
}

// SettleResource ends a lease. held is false when it was lost.
func (t *Tx) SettleResource(key string, lease, due time.Time) (held bool, err error) {
	n, err := t.exec(`UPDATE resource SET lease = 0, due = CASE WHEN due = 0 THEN due ELSE $1 END WHERE key = $2 AND lease = $3`, micros(due), key, micros(lease))
	return n == 1, err
}
