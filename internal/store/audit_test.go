package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/machine/protocol"
)

// logged writes n records of several kinds, one a second.
func logged(t *testing.T, s *Store, n int) {
	t.Helper()
	err := s.Write(t.Context(), func(tx *Tx) error {
		for i := range n {
			by := audit.By{Principal: fmt.Sprintf("p%d", i%7), Type: audit.User, CorrelationID: fmt.Sprintf("c%d", i), At: clock().Add(time.Duration(i) * time.Second)}
			e := audit.Event{Type: []string{"user.create", "group.create"}[i%2], Outcome: audit.Success, Target: fmt.Sprintf("/Sub/VM%d", i%5)}
			if i%10 == 3 {
				e = audit.Event{Type: "machine.login.deny", Outcome: audit.Denied, Target: e.Target, Detail: map[string]string{"objectId": "p1"}}
			}
			if err := tx.Audit(by, e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, s *Store, f func(*Tx) error) {
	t.Helper()
	if err := s.Read(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

// Each way to tamper with real rows is found, and the first bad record named.
func TestWalkAudit_NamesTheFirstBadRecord(t *testing.T) {
	rehash := func(from int64) func(*Tx) error { // somebody who knows how the chain works
		return func(tx *Tx) error {
			list, err := tx.AuditAfter(audit.Cursor{"w": from - 1}, 100)
			if err != nil {
				return err
			}
			before, err := tx.AuditAfter(audit.Cursor{"w": from - 2}, 1)
			if err != nil {
				return err
			}
			last := before[0]
			for _, r := range list {
				r.Principal = "somebody else"
				last = r.Seal("w", r.Sequence, last.Hash)
				body, _ := jsonText(last)
				c := columnsOf(last)
				if _, err := tx.exec(`UPDATE audit SET body = $1, hash = $2, principal = $3, subject = $4 WHERE sequence = $5`, body, c.hash, c.principal, c.subject, c.sequence); err != nil {
					return err
				}
			}
			return nil
		}
	}
	sql := func(q string) func(*Tx) error {
		return func(tx *Tx) error { _, err := tx.exec(q); return err }
	}
	for name, c := range map[string]struct {
		tamper func(*Tx) error
		first  int64
	}{
		"untouched":            {sql(`SELECT 1`), 0},
		"changed":              {sql(`UPDATE audit SET body = replace(body, 'user.create', 'user.delete'), type = 'user.delete' WHERE sequence = 5`), 5},
		"changed in a column":  {sql(`UPDATE audit SET principal = 'nobody' WHERE sequence = 6`), 6},
		"hidden from a filter": {sql(`UPDATE audit SET target_key = 'x' WHERE sequence = 6`), 6},
		"moved in time":        {sql(`UPDATE audit SET at = 5 WHERE sequence = 6`), 6},
		"damaged":              {sql(`UPDATE audit SET body = '{' WHERE sequence = 7`), 7},
		"removed":              {sql(`DELETE FROM audit WHERE sequence = 8`), 8},
		"two removed":          {sql(`DELETE FROM audit WHERE sequence IN (8, 9)`), 8},
		"first removed":        {sql(`DELETE FROM audit WHERE sequence = 1`), 1},
		"beginning removed":    {sql(`DELETE FROM audit WHERE sequence < 5`), 1},
		"inserted":             {sql(`UPDATE audit SET sequence = sequence + 1 WHERE sequence > 19; INSERT INTO audit SELECT writer, 20, at, correlation, principal, type, outcome, target, body, hash, subject, target_key FROM audit WHERE sequence = 19`), 20},
		"of another writer":    {sql(`UPDATE audit SET writer = 'v' WHERE sequence > 9`), 10},
		"truncated":            {sql(`DELETE FROM audit WHERE sequence > 12`), 13},
		"removed whole":        {sql(`DELETE FROM audit`), 1},
		"rewritten to the end": {rehash(5), 15},
	} {
		s := open4test(t)
		logged(t, s, 20)
		var claims []audit.Claim
		read(t, s, func(tx *Tx) error {
			list, err := tx.AuditAfter(audit.Cursor{}, 100)
			claims = []audit.Claim{{Head: head(list[14]), Source: "machine m"}, {Head: head(list[2]), Source: "machine n"}}
			return err
		})
		if err := s.Write(t.Context(), c.tamper); err != nil {
			t.Fatal(name, err)
		}
		read(t, s, func(tx *Tx) error {
			v := audit.NewVerifier(nil, claims)
			err := tx.WalkAudit(v)
			if err == nil {
				_, err = v.Finish()
			}
			var broken *audit.Broken
			switch {
			case c.first == 0 && err == nil:
			case !errors.As(err, &broken) || broken.Sequence != c.first:
				t.Errorf("%s: %v, want record %d", name, err, c.first)
			}
			return nil
		})
	}
}

func head(r audit.Record) audit.Head {
	return audit.Head{Writer: r.Writer, Sequence: r.Sequence, Hash: r.Hash}
}

// A second writer's records are in the same list and have a chain of their own.
func TestAuditAfter_SeveralWritersWithoutGapsOrRepeats(t *testing.T) {
	s := open4test(t)
	logged(t, s, 30)
	_ = s.Close()
	cfg := s.cfg
	cfg.Writer = "v"
	other, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	logged(t, other, 50)
	c, next, pages := audit.Cursor{}, map[string]int64{}, 0
	read(t, other, func(tx *Tx) error {
		for {
			page, err := tx.AuditAfter(c, 7)
			if err != nil || len(page) == 0 {
				return err
			}
			pages++
			for _, r := range page {
				if next[r.Writer]++; r.Sequence != next[r.Writer] {
					t.Fatalf("%s/%d instead of %d", r.Writer, r.Sequence, next[r.Writer])
				}
			}
		}
	})
	if next["w"] != 30 || next["v"] != 50 || pages < 12 {
		t.Fatal(next, pages)
	}
	read(t, other, func(tx *Tx) error {
		heads, err := tx.AuditHeads()
		if len(heads) != 2 || !c.Covers(heads) || (audit.Cursor{"w": 30}).Covers(heads) {
			t.Errorf("%v", heads)
		}
		return err
	})
}

// Pages follow each other by place, although all records of a second share a
// time with those of the other writer.
func TestAuditRecords_FiltersAndPages(t *testing.T) {
	s := open4test(t)
	logged(t, s, 100)
	for name, c := range map[string]struct {
		filter audit.Filter
		want   int
	}{
		"all": {audit.Filter{}, 100}, "correlation": {audit.Filter{CorrelationID: "c42"}, 1}, "type": {audit.Filter{Type: "machine.login.deny"}, 10},
		"denied": {audit.Filter{Outcome: audit.Denied}, 10}, "success": {audit.Filter{Outcome: audit.Success}, 90}, "failure": {audit.Filter{Outcome: audit.Failure}, 0},
		"target in another case": {audit.Filter{Target: "/sub/vm3"}, 20}, "times": {audit.Filter{Since: clock().Add(10 * time.Second), Until: clock().Add(19 * time.Second)}, 10},
		"person in machines' reports": {audit.Filter{Principal: "p1", Outcome: audit.Denied}, 10}, "who and what": {audit.Filter{Principal: "p2", Type: "user.create"}, 7}, "quote": {audit.Filter{Type: "' OR 1=1 --"}, 0},
	} {
		read(t, s, func(tx *Tx) error {
			got, f := 0, c.filter
			f.Limit = 7
			last := audit.Place{Micros: 1 << 62}
			for {
				page, err := tx.AuditRecords(f)
				if err != nil {
					return err
				}
				for _, r := range page {
					if !f.Matches(r) || r.Place().Compare(last) >= 0 {
						t.Fatalf("%s: %+v", name, r)
					}
					last = r.Place()
				}
				got += len(page)
				if len(page) < 7 {
					break
				}
				f.Before = last
			}
			if got != c.want {
				t.Errorf("%s: %d, want %d", name, got, c.want)
			}
			return nil
		})
	}
}

// A million records answer quickly because each filter has an index: the plan
// says which.
func TestAuditQuery_UsesAnIndex(t *testing.T) {
	s := open4test(t)
	logged(t, s, 200)
	since := audit.Filter{Since: clock().Add(time.Second), Until: clock().Add(time.Minute)}
	page := audit.Filter{Before: audit.Place{Micros: 5, Writer: "w", Sequence: 4}}
	for index, filters := range map[string][]audit.Filter{
		"audit_place":       {{}, since, page, {Outcome: audit.Success}},
		"audit_correlation": {{CorrelationID: "c1"}},
		"audit_subject":     {{Principal: "p1"}, {Principal: "p1", Since: since.Since}, {Principal: "p1", Before: page.Before}, {Principal: "p1", Type: "user.create", Outcome: audit.Denied, Since: since.Since}},
		"audit_type":        {{Type: "user.create"}, {Type: "user.create", Until: since.Until}},
		"audit_target":      {{Target: "/sub/vm1"}, {Target: "/sub/vm1", Outcome: audit.Success}},
		"audit_refused":     {{Outcome: audit.Denied}, {Outcome: audit.Failure, Since: since.Since}},
	} {
		for _, f := range filters {
			query, args := auditQuery(f)
			var plan []string
			read(t, s, func(tx *Tx) error {
				return tx.query("EXPLAIN QUERY PLAN "+query, args, func(scan func(...any) error) error {
					var id, parent, unused int
					var detail string
					err := scan(&id, &parent, &unused, &detail)
					plan = append(plan, detail)
					return err
				})
			})
			text := strings.Join(plan, "; ")
			if !strings.Contains(text, "USING INDEX "+index) || index != "audit_correlation" && strings.Contains(text, "USE TEMP B-TREE FOR ORDER BY") {
				t.Errorf("%+v: %s", f, text)
			}
		}
	}
}

func TestPutWitness_KeepsAFewAndNotTooOften(t *testing.T) {
	now := clock()
	s := open4test(t)
	s.cfg.Now = func() time.Time { return now }
	put := func(sequence int64) {
		w := protocol.Witnessed{SignedHead: protocol.SignedHead{Head: audit.Head{Writer: "w", Sequence: sequence, Hash: []byte{byte(sequence)}}, KeyID: "k", Signature: []byte("s")}, Epoch: 1}
		if err := s.Write(t.Context(), func(tx *Tx) error { return tx.PutWitness("m", w) }); err != nil {
			t.Fatal(err)
		}
	}
	kept := func() (list []int64) {
		read(t, s, func(tx *Tx) error {
			return tx.EachWitness(func(id string, w protocol.Witnessed) error {
				if id != "m" || w.Head.Hash[0] != byte(w.Head.Sequence) || string(w.Signature) != "s" || w.Epoch != 1 || w.KeyID != "k" {
					t.Errorf("%+v", w)
				}
				list = append(list, w.Head.Sequence)
				return nil
			})
		})
		return list
	}
	put(1)
	put(2) // within the hour
	if got := kept(); !slices.Equal(got, []int64{1}) {
		t.Fatal(got)
	}
	for i := int64(3); i < 20; i++ {
		now = now.Add(2 * time.Hour)
		put(i)
	}
	if got := kept(); len(got) != witnessKept || got[0] != 20-witnessKept || got[len(got)-1] != 19 {
		t.Fatal(got)
	}
}
