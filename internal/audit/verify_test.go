package audit

import (
	"errors"
	"slices"
	"testing"
	"time"
)

func chainOf(writer string, n int) []Record {
	var list []Record
	var last Record
	for i := range n {
		by := By{Principal: "u", Type: User, CorrelationID: "c", At: time.Unix(int64(1000+i), 0).UTC()}
		last = NewRecord(by, Event{Type: "group.create", Outcome: Success}).Seal(writer, int64(i+1), last.Hash)
		list = append(list, last)
	}
	return list
}

func headOf(r Record) Head { return Head{Writer: r.Writer, Sequence: r.Sequence, Hash: r.Hash} }

func checkpointAt(r Record) Checkpoint {
	return Checkpoint{Writer: r.Writer, Sequence: r.Sequence, Hash: r.Hash, Count: r.Sequence, Time: time.Unix(5000, 0)}
}

// Deleted records are accounted for by a checkpoint and by nothing else.
func TestVerifier_Checkpoints(t *testing.T) {
	c := chainOf("w", 10)
	other := chainOf("w", 10)
	other[3].Hash = []byte("other")
	gap := NewRecord(By{}, Event{Type: "x", Outcome: Success, Detail: map[string]string{LastSequence: "4"}}).Seal("w", 1000, c[3].Hash)
	restored := append(slices.Clone(c[:4]), NewRecord(By{}, Event{Type: Restored, Outcome: Success, Detail: map[string]string{LastSequence: "4"}}).Seal("w", 1000, c[3].Hash))
	restored = append(restored, NewRecord(By{}, Event{Type: "x", Outcome: Success}).Seal("w", 1001, restored[4].Hash))
	for name, k := range map[string]struct {
		records     []Record
		checkpoints []Checkpoint
		claims      []Claim
		bad         int64
	}{
		"whole":                              {records: c},
		"whole with a checkpoint":            {records: c, checkpoints: []Checkpoint{checkpointAt(c[3])}},
		"behind the checkpoint":              {records: c[4:], checkpoints: []Checkpoint{checkpointAt(c[3])}},
		"behind the second":                  {records: c[6:], checkpoints: []Checkpoint{checkpointAt(c[3]), checkpointAt(c[5])}},
		"deletion under way":                 {records: c[2:], checkpoints: []Checkpoint{checkpointAt(c[5])}},
		"no checkpoint":                      {records: c[4:], bad: 1},
		"more is gone than it says":          {records: c[6:], checkpoints: []Checkpoint{checkpointAt(c[3])}, bad: 5},
		"another record":                     {records: c, checkpoints: []Checkpoint{checkpointAt(other[3])}, bad: 4},
		"checkpoint of another chain":        {records: c[4:], checkpoints: []Checkpoint{checkpointAt(other[3])}, bad: 5},
		"everything is gone":                 {checkpoints: []Checkpoint{checkpointAt(c[3])}, bad: 1},
		"under way and cut":                  {records: c[2:4], checkpoints: []Checkpoint{checkpointAt(c[5])}, bad: 5},
		"deleted record seen by a machine":   {records: c[4:], checkpoints: []Checkpoint{checkpointAt(c[3])}, claims: []Claim{{Head: headOf(c[1]), Source: "m"}}},
		"checkpoint against a machine":       {records: c[4:], checkpoints: []Checkpoint{checkpointAt(c[3])}, claims: []Claim{{Head: headOf(other[3]), Source: "m"}}, bad: 4},
		"lost with a restore":                {records: restored, claims: []Claim{{Head: headOf(c[8]), Source: "m", Lost: true}}},
		"lost, a writer of its own":          {records: restored, claims: []Claim{{Head: Head{Writer: "v", Sequence: 3, Hash: []byte("x")}, Source: "m", Lost: true}}},
		"seen since, left out by a restore":  {records: restored, claims: []Claim{{Head: headOf(c[8]), Source: "m"}}, bad: 9},
		"cut off, not lost":                  {records: c[:4], claims: []Claim{{Head: headOf(c[8]), Source: "m", Lost: true}}, bad: 5},
		"replaced before the restore":        {records: restored, claims: []Claim{{Head: headOf(other[3]), Source: "m", Lost: true}}, bad: 4},
		"a gap that nobody explains":         {records: append(slices.Clone(c[:4]), gap), bad: 5},
		"a restore of another end":           {records: append(slices.Clone(c[:5]), restored[4]), bad: 6},
		"a writer that nobody has heard of":  {records: c, claims: []Claim{{Head: Head{Writer: "v", Sequence: 3, Hash: []byte("x")}, Source: "m"}}, bad: 1},
		"two chains, mixed":                  {records: append(append([]Record{}, chainOf("v", 2)...), c...)},
		"the same record twice":              {records: append(append([]Record{}, c[:3]...), c[2:]...), bad: 3},
		"seen further by a machine, cut off": {records: c[:4], claims: []Claim{{Head: headOf(c[8]), Source: "m"}}, bad: 5},
	} {
		v := NewVerifier(k.checkpoints, k.claims)
		var err error
		for _, r := range k.records {
			if err = v.Add(r); err != nil {
				break
			}
		}
		verdict := Verdict{}
		if err == nil {
			verdict, err = v.Finish()
		}
		var broken *Broken
		switch {
		case k.bad == 0:
			if err != nil || verdict.Records != int64(len(k.records)) {
				t.Errorf("%s: %v %+v", name, err, verdict)
			}
		case !errors.As(err, &broken) || broken.Sequence != k.bad:
			t.Errorf("%s: %v, want record %d", name, err, k.bad)
		}
	}
}

func TestTokens_RoundTripAndRefusals(t *testing.T) {
	p := Place{Micros: 5, Writer: "server-1", Sequence: 9}
	if got, err := ParsePlace(Token(p)); err != nil || got != p {
		t.Fatal(got, err)
	}
	c := Cursor{"server-1": 9, "b": 0}
	if got, err := ParseCursor(Token(c)); err != nil || len(got) != 2 || got["server-1"] != 9 {
		t.Fatal(got, err)
	}
	for _, bad := range []string{"", "x", "!", Token(nil), Token([]int{1}), Token(Place{Writer: "a b", Sequence: 1}), Token(Place{Writer: "a"}), Token(Place{Writer: "a", Sequence: 1, Micros: -1}), Token(map[string]int64{"'": 1}), Token(map[string]int64{"a": -1}), Token(map[string]string{"a": "b"})} {
		_, e1 := ParsePlace(bad)
		_, e2 := ParseCursor(bad)
		if e1 == nil || e2 == nil {
			t.Errorf("%q: %v %v", bad, e1, e2)
		}
	}
}

func FuzzParseCursor(f *testing.F) {
	f.Add(Token(Cursor{"server-1": 9}))
	f.Add("bnVsbA")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCursor(text)
		if err != nil {
			return
		}
		again, err := ParseCursor(Token(c))
		if err != nil || len(again) != len(c) {
			t.Fatalf("%v %v", c, err)
		}
	})
}
