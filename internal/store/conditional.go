package store

import (
	"fmt"

	"sallyport/internal/conditional"
)

func (t *Tx) conditionalPolicies(where string, args []any, f func(conditional.Policy) error) error {
	return t.query(`SELECT policy FROM conditional_policy `+where, args, func(scan func(...any) error) error {
		var text string
		var p conditional.Policy
		if err := scan(&text); err != nil {
			return err
		}
		if err := fromJSON(text, &p); err != nil {
			return err
		}
		return f(p)
	})
}

// EachConditionalPolicy walks over all Conditional Access policies.
func (t *Tx) EachConditionalPolicy(f func(conditional.Policy) error) error {
	return t.conditionalPolicies("", nil, f)
}

// ConditionalPolicyByID reads one.
func (t *Tx) ConditionalPolicyByID(id string) (conditional.Policy, bool, error) {
	return one(func(f func(conditional.Policy) error) error {
		return t.conditionalPolicies(`WHERE id = $1`, []any{id}, f)
	})
}

// PutConditionalPolicy writes one.
func (t *Tx) PutConditionalPolicy(p conditional.Policy) error {
	text, err := jsonText(p)
	if err != nil {
		return err
	}
	if _, err := t.exec(`INSERT INTO conditional_policy (id, policy) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET policy = excluded.policy`, p.ID, text); err != nil {
		return fmt.Errorf("conditional access policy: %w", err)
	}
	return t.changed(conditional.Change, p.ID)
}

// DeleteConditionalPolicy removes one.
func (t *Tx) DeleteConditionalPolicy(id string) (existed bool, err error) {
	n, err := t.exec(`DELETE FROM conditional_policy WHERE id = $1`, id)
	if err != nil || n == 0 {
		return false, err
	}
	return true, t.changed(conditional.Change, id)
}
