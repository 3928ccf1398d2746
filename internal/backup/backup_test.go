package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"sallyport/internal/fault"
)

func header() Header {
	return Header{Format: Format, Kind: Data, ID: "0aaaaaaa-0000-4000-8000-000000000001", Build: "0.2.0", Tenant: "0aaaaaaa-0000-4000-8000-000000000002", ManifestPin: "pin", Epoch: 1, ManifestVersion: 3, Position: 77,
		At: time.Date(2026, 11, 22, 1, 2, 3, 0, time.UTC), Migrations: []string{"schema/01_core.sql"}}
}

type row struct {
	table   string
	columns []string
	values  []any
}

func rows() []row {
	return []row{
		{"audit", []string{"writer", "sequence"}, []any{"server-1", int64(1)}},
		{"audit", []string{"writer", "sequence"}, []any{"server-1", int64(-1 << 63)}},
		{"blobs", []string{"a", "b", "c"}, []any{nil, []byte{0, 1, 255}, ""}},
		{"blobs", []string{"a", "b", "c"}, []any{[]byte{}, "ümlaut\x00", int64(0)}},
	}
}

func written(t testing.TB, lock Lock, list []row) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, lock, header())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if err := w.Row(r.table, r.columns, r.values); err != nil {
			t.Fatal(err)
		}
	}
	if sum, err := w.Close(); err != nil || sum.Rows != int64(len(list)) {
		t.Fatal(sum, err)
	}
	return out.Bytes()
}

func read(file []byte, o Opener) (got []row, h Header, err error) {
	r, err := Open(bytes.NewReader(file), o)
	if err != nil {
		return nil, h, err
	}
	_, err = r.Rows(func(table string, columns []string, values []any) error {
		got = append(got, row{table, columns, values})
		return nil
	})
	return got, r.Header, err
}

func lockPair(t testing.TB) (Lock, Opener) {
	t.Helper()
	identity, recipient, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return Lock{Recipients: []string{recipient}}, Opener{Identities: []byte("# comment\n" + identity + "\n")}
}

func TestFile_RoundTrip(t *testing.T) {
	recipient, identity := lockPair(t)
	phrase := []byte("correct horse battery")
	for name, c := range map[string]struct {
		lock Lock
		open Opener
	}{"recipient": {recipient, identity}, "passphrase": {Lock{Passphrase: phrase}, Opener{Passphrase: phrase}}} {
		file := written(t, c.lock, rows())
		got, h, err := read(file, c.open)
		if err != nil || !reflect.DeepEqual(h, header()) {
			t.Fatalf("%s: %v %+v", name, err, h)
		}
		if !reflect.DeepEqual(got, rows()) {
			t.Fatalf("%s: %v", name, got)
		}
		for _, clear := range []string{"server-1", "audit", "0aaaaaaa", "pin", "0.2.0"} {
			if bytes.Contains(file, []byte(clear)) {
				t.Errorf("%s: the file shows %q", name, clear)
			}
		}
	}
	if got, _, err := read(written(t, recipient, nil), identity); err != nil || len(got) != 0 {
		t.Fatal(got, err)
	}
}

// A file that ends anywhere before its end, or was changed anywhere, is refused.
func TestFile_CutOrChangedIsRefused(t *testing.T) {
	lock, open := lockPair(t)
	var list []row
	for i := range 3000 { // several chunks of age
		list = append(list, row{"t", []string{"id", "text"}, []any{int64(i), strings.Repeat("x", 60)}})
	}
	file := written(t, lock, list)
	if len(file) < 3*64<<10 {
		t.Fatal("too small for the test")
	}
	for n := 0; n < len(file); n += 1 + len(file)/300 {
		if _, _, err := read(file[:n], open); !fault.Is(err, fault.Invalid) {
			t.Fatalf("cut at %d: %v", n, err)
		}
		changed := bytes.Clone(file)
		changed[n] ^= 1
		if _, _, err := read(changed, open); err == nil {
			t.Fatalf("changed at %d: taken", n)
		}
	}
	if _, _, err := read(file[:len(file)-1], open); !fault.Is(err, fault.Invalid) {
		t.Fatal(err)
	}
	if _, _, err := read(append(bytes.Clone(file), 0), open); err == nil {
		t.Fatal("something follows the end")
	}
}

// A writer that dies before Close leaves a file that nobody takes for whole.
func TestFile_WithoutCloseIsRefused(t *testing.T) {
	lock, open := lockPair(t)
	var out bytes.Buffer
	w, err := NewWriter(&out, lock, header())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Row("t", []string{"a"}, []any{"b"}), w.frames.out.Flush(), w.sealed.Close()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := read(out.Bytes(), open); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "cut off") {
		t.Fatal(err)
	}
}

func TestOpen_WrongSecret(t *testing.T) {
	lock, _ := lockPair(t)
	_, other := lockPair(t)
	phrase := Lock{Passphrase: []byte("correct horse battery")}
	for name, c := range map[string]struct {
		lock Lock
		open Opener
		code string
	}{
		"identity":             {lock, other, "BackupIdentityWrong"},
		"passphrase":           {phrase, Opener{Passphrase: []byte("correct horse batterx")}, "BackupIdentityWrong"},
		"kind of secret":       {lock, Opener{Passphrase: []byte("correct horse battery")}, "BackupIdentityWrong"},
		"none":                 {lock, Opener{}, "BackupIdentity"},
		"both":                 {lock, Opener{Identities: other.Identities, Passphrase: []byte("x")}, "BackupIdentity"},
		"not an identity file": {lock, Opener{Identities: []byte("hello\n")}, "BackupIdentity"},
	} {
		if _, _, err := read(written(t, c.lock, rows()), c.open); fault.As(err).Code != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Nothing is ever written in clear, or under something that guessing opens.
func TestNewWriter_RefusesWeakLocks(t *testing.T) {
	lock, _ := lockPair(t)
	for name, l := range map[string]Lock{
		"none": {}, "short": {Passphrase: []byte("short")}, "both": {Recipients: lock.Recipients, Passphrase: []byte("correct horse battery")},
		"no recipient": {Recipients: []string{"age1x"}}, "empty": {Recipients: []string{""}}, "ssh": {Recipients: []string{"ssh-ed25519 AAAA"}},
	} {
		if _, err := NewWriter(io.Discard, l, header()); err == nil {
			t.Errorf("%s: written", name)
		}
	}
}

func TestLock_Apart(t *testing.T) {
	a, _ := lockPair(t)
	b, _ := lockPair(t)
	p := Lock{Passphrase: []byte("one")}
	for _, c := range []struct {
		x, y Lock
		want bool
	}{{a, b, true}, {a, a, false}, {a, Lock{Recipients: []string{" " + strings.ToUpper(a.Recipients[0])}}, false}, {p, p, false}, {p, Lock{Passphrase: []byte("two")}, true}, {a, p, true}} {
		if got := c.x.Apart(c.y); got != c.want {
			t.Errorf("%v %v: %v", c.x, c.y, got)
		}
	}
}

func TestWriter_RefusesWhatCouldNotBeRead(t *testing.T) {
	lock, _ := lockPair(t)
	for name, list := range map[string][]row{
		"values":  {{"t", []string{"a", "b"}, []any{"x"}}},
		"type":    {{"t", []string{"a"}, []any{3.5}}},
		"apart":   {{"t", []string{"a"}, []any{"x"}}, {"u", []string{"a"}, []any{"x"}}, {"t", []string{"a"}, []any{"x"}}},
		"columns": {{"t", []string{"a"}, []any{"x"}}, {"t", []string{"b"}, []any{"x"}}},
	} {
		w, err := NewWriter(io.Discard, lock, header())
		for _, r := range list {
			if err == nil {
				err = w.Row(r.table, r.columns, r.values)
			}
		}
		if err == nil {
			t.Errorf("%s: written", name)
		}
	}
}

// plain is the plain text of a small file.
func plain(t testing.TB, list []row) []byte {
	var out bytes.Buffer
	f, err := newFrames(&out, header())
	for _, r := range list {
		err = errors.Join(err, f.row(r.table, r.columns, r.values))
	}
	if err = errors.Join(err, f.end()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func parse(text []byte) (list []row, err error) {
	p, _, err := newParser(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	_, err = p.rows(func(table string, columns []string, values []any) error {
		list = append(list, row{table, columns, values})
		return nil
	})
	return list, err
}

// FuzzParse: whatever the plain text, an error or rows that write back as they
// were read.
func FuzzParse(f *testing.F) {
	f.Add(plain(f, rows()))
	f.Add(plain(f, nil))
	f.Add([]byte("H\x00\x00\x00\x02{}"))
	f.Add([]byte("H\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := parse(text)
		if err != nil {
			if fault.Is(err, fault.Internal) {
				t.Fatal(err)
			}
			return
		}
		var out bytes.Buffer
		w, err := newFrames(&out, header())
		for _, r := range list {
			err = errors.Join(err, w.row(r.table, r.columns, r.values))
		}
		if err = errors.Join(err, w.end()); err != nil {
			t.Fatal(err)
		}
		if again, err := parse(out.Bytes()); err != nil || fmt.Sprint(again) != fmt.Sprint(list) {
			t.Fatal(err, again, list)
		}
	})
}

// FuzzOpen: foreign bytes in place of a file.
func FuzzOpen(f *testing.F) {
	lock, open := lockPair(f)
	f.Add(written(f, lock, rows()))
	f.Add([]byte("age-encryption.org/v1\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		if _, _, err := read(file, open); err != nil && fault.Is(err, fault.Internal) {
			t.Fatal(err)
		}
	})
}
