package shim

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/internal/fault"
)

// vectorsDir holds the vectors that the C tests read too. They were made by a
// third program, from the text of the specification.
const (
	vectorsDir = "../../../shim/test/vectors"
	corpusDir  = "../../../shim/test/corpus"
)

type vector struct {
	File   string   `json:"file"`
	Limit  int      `json:"limit"`
	Valid  bool     `json:"valid"`
	Type   byte     `json:"type"`
	Fields []string `json:"fields"`
	Note   string   `json:"note"`
}

func readVectors(t *testing.T) []vector {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(vectorsDir, "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var list []vector
	if err := json.Unmarshal(b, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestFrame_Vectors(t *testing.T) {
	for _, v := range readVectors(t) {
		t.Run(v.File, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join(vectorsDir, v.File))
			if err != nil {
				t.Fatal(err)
			}
			f, err := parseFrame(b, v.Limit)
			if (err == nil) != v.Valid {
				t.Fatalf("%s: valid must be %v, got %v", v.Note, v.Valid, err)
			}
			if err != nil {
				if !fault.Is(err, fault.Invalid) {
					t.Fatalf("the fault is not Invalid: %v", err)
				}
				return
			}
			if f.kind != v.Type || len(f.fields) != len(v.Fields) {
				t.Fatalf("got type %#x with %d fields", f.kind, len(f.fields))
			}
			for i := range f.fields {
				if hex.EncodeToString([]byte(f.fields[i])) != v.Fields[i] {
					t.Fatalf("field %d is %q", i, f.fields[i])
				}
			}
			if again, err := f.encode(v.Limit); err != nil || !bytes.Equal(again, b) {
				t.Fatalf("it encodes to other bytes: %v", err)
			}
			if _, err := f.encode(len(b) - 1); err == nil {
				t.Fatal("it was encoded above a limit")
			}
			if read, err := readFrame(bytes.NewReader(append(b, 'x')), v.Limit); err != nil || read.kind != f.kind {
				t.Fatalf("it does not read from a stream: %v", err)
			}
		})
	}
}

func TestRequest_EveryFieldIsChecked(t *testing.T) {
	pam := func(change func(f []string)) error {
		fields := []string{"account", "sshd", "alice@example.com", "", "10.77.0.1", "ssh"}
		change(fields)
		_, err := parsePAMRequest(frame{typePAMRequest, fields})
		return err
	}
	principals := func(change func(f []string)) error {
		fields := []string{"alice@example.com", "key id", "1", "AAAA"}
		change(fields)
		_, err := parsePrincipalsRequest(frame{typePrincipalsRequest, fields})
		return err
	}
	if err := pam(func([]string) {}); err != nil {
		t.Fatal(err)
	}
	if err := principals(func([]string) {}); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		parse func(func([]string)) error
		field int
		value string
	}{
		{"phase", pam, 0, "ignore"}, {"phase-empty", pam, 0, ""}, {"service-empty", pam, 1, ""},
		{"service-path", pam, 1, "../sshd"}, {"user-local", pam, 2, "root"}, {"user-upper", pam, 2, "Alice@example.com"},
		{"ruser-escape", pam, 3, "\x1b[2J"}, {"rhost-line", pam, 4, "a\nb"}, {"rhost-c1", pam, 4, "a\u009bb"},
		{"rhost-long", pam, 4, strings.Repeat("a", 1026)}, {"tty-nul", pam, 5, "ssh\x00"}, {"tty-not-utf8", pam, 5, "\xff"},
		{"user-root", principals, 0, "root"}, {"key-id-empty", principals, 1, ""}, {"key-id-control", principals, 1, "a\tb"},
		{"key-id-long", principals, 1, strings.Repeat("a", 257)}, {"serial-sign", principals, 2, "-1"},
		{"serial-long", principals, 2, strings.Repeat("1", 21)}, {"certificate-empty", principals, 3, ""},
		{"certificate-bits", principals, 3, "AAB="}, {"certificate-line", principals, 3, "AAAA\nAAAA"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.parse(func(f []string) { f[tt.field] = tt.value }); !fault.Is(err, fault.Invalid) {
				t.Fatalf("%q was accepted: %v", tt.value, err)
			}
		})
	}
	if _, err := parsePAMRequest(frame{typePAMAllow, make([]string, 6)}); err == nil {
		t.Fatal("an answer was taken for a request")
	}
}

func TestSentence_IsAlwaysFitForTheModule(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"plain", "Sallyport: no.\nAsk.", "Sallyport: no.\nAsk."},
		{"empty", "", deniedNoReason},
		{"blank", " \n\t", deniedNoReason},
		{"escape", "a\x1b[31mb\u009bc\x00", "a?[31mb?c?"},
		{"foreign-letters", "Ångström", "?ngstr?m"},
		{"tab", "a\tb\r\n", "a b \n"},
		{"not-utf8", "a\xffb", "a?b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := sentence(tt.in); got != tt.want {
				t.Fatalf("got %q, want %q", got, tt.want)
			}
		})
	}
	if got := sentence(strings.Repeat("é", 5000)); len(got) != textMax {
		t.Fatalf("a long text became %d bytes", len(got))
	}
}

func FuzzParseFrame(f *testing.F) {
	addCorpus(f, filepath.Join(corpusDir, "frame"))
	addCorpus(f, vectorsDir)
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseFrame(b, limitPrincipals)
		if err != nil {
			return
		}
		again, err := got.encode(limitPrincipals)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("decoded and encoded again it differs: %v", err)
		}
		if r, err := parsePAMRequest(got); err == nil && !shaped(r.User) {
			t.Fatalf("accepted the user %q", r.User)
		}
		if r, err := parsePrincipalsRequest(got); err == nil && !shaped(r.User) {
			t.Fatalf("accepted the user %q", r.User)
		}
	})
}

func addCorpus(f *testing.F, dir string) {
	f.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}
