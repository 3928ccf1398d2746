package keystoretest

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"sallyport/internal/keystore"
)

// Open puts a complete set of keys into dir, which it makes, and opens it. The
// sets of one test differ from each other; other tests of the process get the
// same ones, because RSA keys take long to find.
func Open(t testing.TB, dir string) *keystore.Store {
	t.Helper()
	files, err := next()(t.Name())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := keystore.Open(keystore.Config{Dir: dir, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// next gives a test its next set: key folders, kept in memory.
var next = sync.OnceValue(func() func(test string) (map[string][]byte, error) {
	var mu sync.Mutex
	var all []func() (map[string][]byte, error)
	given := map[string]int{}
	return func(test string) (map[string][]byte, error) {
		mu.Lock()
		n := given[test]
		given[test]++
		if n == len(all) {
			all = append(all, sync.OnceValues(create))
		}
		get := all[n]
		mu.Unlock()
		return get()
	}
})

func create() (files map[string][]byte, err error) {
	dir, err := os.MkdirTemp("", "sallyport-keys-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if _, err := keystore.Create(keystore.Config{Dir: dir, Rand: rand.Reader}); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	files = map[string][]byte{}
	for _, e := range entries {
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			return nil, err
		}
	}
	return files, nil
}
