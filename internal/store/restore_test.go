package store

import (
	"testing"
	"time"

	"sallyport/internal/audit"
)

// Whoever adds a table decides here what a restore does to it: what was issued
// before a restore must not come back to life because nobody thought of it.
func TestRestoredTables_EveryTableIsDecided(t *testing.T) {
	place := place4test(t)
	place.Now = time.Now
	s, err := Create(t.Context(), place)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	decided := restoredTables()
	if err := s.Read(t.Context(), func(tx *Tx) error {
		tables, err := tx.tables()
		for _, x := range tables {
			if decided[x.name] == "" {
				t.Errorf("table %s has no line in restoredTables (store/restore.go): decide whether a restore keeps, empties or changes it", x.name)
			}
			delete(decided, x.name)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for name := range decided {
		t.Errorf("there is no table %s", name)
	}
}

// Only the record of a restore leaves numbers out, and only where it says so.
func TestContinueChains_GapIsExplainedOrRefused(t *testing.T) {
	place := place4test(t)
	place.Now, place.Declared = time.Now, audit.Declared
	s, err := Create(t.Context(), place)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	by := audit.By{Type: audit.Task, Name: "t", At: time.Now()}
	event := audit.Event{Type: "tenant.create", Outcome: audit.Success}
	restore := func(last audit.Head) audit.Event {
		return audit.Event{Type: audit.Restored, Outcome: audit.Success, Detail: map[string]string{audit.LastSequence: "2"}}
	}
	verify := func() (heads []audit.Head, err error) {
		err = s.Read(t.Context(), func(tx *Tx) (err error) { _, heads, err = tx.VerifyAudit(); return err })
		return heads, err
	}
	if err := s.Write(t.Context(), func(tx *Tx) error {
		if err := tx.Audit(by, event); err != nil {
			return err
		}
		if err := tx.Audit(by, event); err != nil {
			return err
		}
		heads, err := tx.ContinueChains(by, 5_000, 10, restore)
		if len(heads) != 1 || heads[0].Sequence != 5_000 {
			t.Errorf("%+v", heads)
		}
		if err != nil {
			return err
		}
		return tx.Audit(by, event)
	}); err != nil {
		t.Fatal(err)
	}
	if heads, err := verify(); err != nil || len(heads) != 1 || heads[0].Sequence != 5_001 {
		t.Fatal(heads, err)
	}
	// A second restore goes at least its step higher.
	if err := s.Write(t.Context(), func(tx *Tx) error {
		heads, err := tx.ContinueChains(by, 1, 10, func(audit.Head) audit.Event {
			return audit.Event{Type: audit.Restored, Outcome: audit.Success, Detail: map[string]string{audit.LastSequence: "5001"}}
		})
		if len(heads) != 1 || heads[0].Sequence != 5_011 {
			t.Errorf("%+v", heads)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	// A record that names another end than the chain's is not written at all.
	if err := s.Write(t.Context(), func(tx *Tx) error { _, err := tx.ContinueChains(by, 9_000, 10, restore); return err }); err == nil {
		t.Fatal("a gap without its explanation was written")
	}
	// One that was taken out before the restore is missed all the same.
	if _, err := s.db.ExecContext(t.Context(), `DELETE FROM audit WHERE sequence = 2`); err != nil {
		t.Fatal(err)
	}
	if _, err := verify(); err == nil {
		t.Fatal("a removed record was not missed")
	}
}
