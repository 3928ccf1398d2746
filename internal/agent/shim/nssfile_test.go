package shim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sallyport/internal/fault"
)

const testID = "3f2b1c4d-0a9e-4b7c-8d6f-1234567890ab"

// basic is what shim/test/vectors/basic.db holds.
func basic() Database {
	users := []User{
		{"alice@example.com", IDMin + 1, IDMin + 1, "Alice Ångström", "/home/alice@example.com", "/bin/bash", []uint32{GIDUsers}},
		{"bob@example.com", IDMin + 2, IDMin + 2, "Bob", "/home/bob@example.com", "/bin/sh", []uint32{GIDUsers, GIDAdmins}},
		{"o'neil+x@lab.example", IDMin + 3, IDMin + 3, "", "/home/o'neil+x@lab.example", "/bin/bash", []uint32{GIDUsers, GIDIdentity}},
		{"ext_gmail.com#ext#@lab.example", UIDMax, UIDMax, "Guest", "/home/ext_gmail.com#ext#@lab.example", "/bin/bash", nil},
		{testID, IDMin, IDMin, "deploy", "/home/" + testID, "/bin/sh", []uint32{GIDUsers}},
	}
	for i := range uint32(3) {
		name := fmt.Sprintf("u%02d@example.com", i)
		users = append(users, User{name, IDMin + 100 + i, IDMin + 100 + i, "", "/home/" + name, "/bin/sh", []uint32{GIDUsers}})
	}
	return Database{
		Domains: []string{"lab.example", "example.com"},
		Users:   users,
		Groups: []Group{
			{GroupAdmins, GIDAdmins, []string{"bob@example.com"}},
			{GroupIdentity, GIDIdentity, []string{"o'neil+x@lab.example"}},
			{"alice@example.com", IDMin + 1, nil},
		},
	}
}

func TestEncodeNSS_GivesTheGoldenBytes(t *testing.T) {
	want, err := os.ReadFile(filepath.Join(vectorsDir, "basic.db"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := encodeNSS(basic())
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("other bytes than shim/test/vectors/basic.db: %v", err)
	}
}

func TestWriteNSS_ReadsBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nss.db")
	if _, err := ReadNSS(path); !fault.Is(err, fault.NotFound) || !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("no file: %v", err)
	}
	if err := os.WriteFile(path+".new", []byte("left by a crash"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := WriteNSS(path, basic()); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ReadNSS(path)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]User{}
	for _, u := range got.Users {
		names[u.Name] = u
	}
	for _, u := range basic().Users {
		if !reflect.DeepEqual(names[u.Name], u) {
			t.Errorf("got %+v, want %+v", names[u.Name], u)
		}
	}
	wantGroups := []Group{{GroupUsers, GIDUsers, nil}, basic().Groups[0], basic().Groups[1]}
	if !reflect.DeepEqual(got.Groups, wantGroups) || len(got.Users) != 8 {
		t.Fatalf("groups %+v, %d users", got.Groups, len(got.Users))
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o644 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) != 0 {
		t.Fatalf("left over: %v", left)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadNSS(path); !fault.Is(err, fault.Precondition) {
		t.Fatalf("a file that everybody may write to: %v", err)
	}
}

func TestWriteNSS_RefusesAndKeepsTheOldFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nss.db")
	if err := WriteNSS(path, basic()); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	tests := map[string]func(*Database){
		"local-name":            func(d *Database) { d.Users[0].Name = "root" },
		"foreign-domain":        func(d *Database) { d.Users[0].Name = "alice@other.example" },
		"uid-zero":              func(d *Database) { d.Users[0].UID, d.Users[0].GID = 0, 0 },
		"uid-of-a-role-group":   func(d *Database) { d.Users[0].UID, d.Users[0].GID = GIDAdmins, GIDAdmins },
		"gid-of-root":           func(d *Database) { d.Users[0].GID = 0 },
		"gid-of-another":        func(d *Database) { d.Users[0].GID = d.Users[1].GID },
		"uid-twice":             func(d *Database) { d.Users[5].UID, d.Users[5].GID = d.Users[6].UID, d.Users[6].GID },
		"name-twice":            func(d *Database) { d.Users[0].Name = d.Users[1].Name },
		"gecos-colon":           func(d *Database) { d.Users[0].Gecos = "a:b" },
		"gecos-line":            func(d *Database) { d.Users[0].Gecos = "a\nroot" },
		"gecos-long":            func(d *Database) { d.Users[0].Gecos = strings.Repeat("a", 256) },
		"home-relative":         func(d *Database) { d.Users[0].Home = "home" },
		"home-parent":           func(d *Database) { d.Users[0].Home = "/home/../root" },
		"home-empty":            func(d *Database) { d.Users[0].Home = "" },
		"shell-space":           func(d *Database) { d.Users[0].Shell = "/bin/sh -x" },
		"group-sudo":            func(d *Database) { d.Users[0].Groups = []uint32{27} },
		"group-of-another-user": func(d *Database) { d.Users[0].Groups = []uint32{d.Users[1].GID} },
		"group-twice":           func(d *Database) { d.Users[0].Groups = []uint32{GIDUsers, GIDUsers} },
		"role-group-name":       func(d *Database) { d.Groups[0].Name = "sudo" },
		"role-group-gid":        func(d *Database) { d.Groups[0].GID = 0 },
		"group-listed-twice":    func(d *Database) { d.Groups[1] = d.Groups[0] },
		"member-without-role":   func(d *Database) { d.Groups[0].Members = []string{"alice@example.com"} },
		"member-unknown":        func(d *Database) { d.Groups[0].Members = []string{"root"} },
		"member-twice":          func(d *Database) { d.Groups[0].Members = []string{"bob@example.com", "bob@example.com"} },
		"domain-upper":          func(d *Database) { d.Domains[0] = "Lab.Example" },
		"domain-twice":          func(d *Database) { d.Domains = append(d.Domains, "example.com") },
		"domain-empty":          func(d *Database) { d.Domains = append(d.Domains, "") },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			db := basic()
			change(&db)
			if err := WriteNSS(path, db); !fault.Is(err, fault.Invalid) {
				t.Fatalf("not refused: %v", err)
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
				t.Fatal("the file changed")
			}
		})
	}
}

func TestDecodeNSS_RefusesEveryDamage(t *testing.T) {
	good, err := encodeNSS(basic())
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(good) {
		if _, err := decodeNSS(good[:n]); err == nil {
			t.Fatalf("accepted the first %d bytes", n)
		}
	}
	var h header
	if _, err := binary.Decode(good, binary.BigEndian, &h); err != nil {
		t.Fatal(err)
	}
	loop := bytes.Clone(good)
	first := uint32(0)
	for slot := range h.Buckets {
		if at := binary.BigEndian.Uint32(loop[h.ByName+4*slot:]); at != 0 {
			first = at
		}
	}
	binary.BigEndian.PutUint32(loop[first:], first)
	if _, err := decodeNSS(loop); err == nil {
		t.Fatal("accepted a chain that loops")
	}
}

// Names chosen so that all fall into one chain under the first seed must not
// lock anybody out: the writer takes another seed.
func TestEncodeNSS_SpreadsHostileNames(t *testing.T) {
	db := Database{Domains: []string{"example.com"}}
	for i := uint32(0); len(db.Users) < 200; i++ {
		name := fmt.Sprintf("n%d@example.com", i)
		if nssHash(0, name)&255 != 7 {
			continue
		}
		id := IDMin + uint32(len(db.Users))
		db.Users = append(db.Users, User{Name: name, UID: id, GID: id, Home: "/home/" + name, Shell: "/bin/sh"})
	}
	b, err := encodeNSS(db)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodeNSS(b); err != nil || len(got.Users) != 200 || binary.BigEndian.Uint32(b[12:]) == 0 {
		t.Fatalf("%d users, seed %d: %v", len(got.Users), binary.BigEndian.Uint32(b[12:]), err)
	}
}

func TestGecos_IsAlwaysAccepted(t *testing.T) {
	for _, in := range []string{"", "Alice, Admin: yes\n\x1b[0m", "\xff\xfe", strings.Repeat("Å", 400), "\u009b\u202e"} {
		db := basic()
		db.Users[0].Gecos = Gecos(in)
		if err := db.check(); err != nil {
			t.Errorf("%q became %q: %v", in, db.Users[0].Gecos, err)
		}
	}
	if got := Gecos("Alice, Admin: yes"); got != "Alice  Admin  yes" {
		t.Fatalf("got %q", got)
	}
}

func FuzzDecodeNSS(f *testing.F) {
	addCorpus(f, filepath.Join(corpusDir, "nss"))
	good, err := encodeNSS(basic())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		db, err := decodeNSS(b)
		if err != nil {
			return
		}
		again, err := encodeNSS(db)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if back, err := decodeNSS(again); err != nil || len(back.Users) != len(db.Users) {
			t.Fatalf("what was written cannot be read: %v", err)
		}
	})
}

func BenchmarkEncodeNSS_100000Users(b *testing.B) {
	db := manyUsers(100000)
	for b.Loop() {
		if _, err := encodeNSS(db); err != nil {
			b.Fatal(err)
		}
	}
}

func manyUsers(n uint32) Database {
	db := Database{Domains: []string{"example.com"}}
	for i := range n {
		name := fmt.Sprintf("user%06d@example.com", i)
		db.Users = append(db.Users, User{name, IDMin + i, IDMin + i, "A User", "/home/" + name, "/bin/bash", []uint32{GIDUsers}})
	}
	return db
}
