package credential

import (
	"testing"
	"time"
)

// Whatever a browser shows is nobody's token unless it was made for him.
func FuzzRemember(f *testing.F) {
	s := &Service{cfg: Config{Key: make([]byte, 32)}}
	at := time.Unix(1_800_000_000, 0)
	text := "AAAAAAAAAAAAAAAAAAAAAA.1800000000"
	f.Add(text + "." + s.deviceMAC("alice", text))
	f.Add("a.1.b~a.2.c")
	f.Add("~~..~.")
	f.Fuzz(func(t *testing.T, shown string) {
		if _, _, ok := s.deviceOf("bob", shown, at); ok {
			t.Fatalf("%q opened another's", shown)
		}
		if _, _, ok := s.deviceOf("", shown, at); ok {
			t.Fatalf("%q is nobody's", shown)
		}
		if len(devices(shown)) > maxDevices {
			t.Fatal("too many")
		}
	})
}
