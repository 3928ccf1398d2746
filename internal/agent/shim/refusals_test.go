package shim

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/internal/fault"
)

func told(t *testing.T, err error, kind fault.Kind, words string) {
	t.Helper()
	if !fault.Is(err, kind) || !strings.Contains(err.Error(), words) {
		t.Errorf("got %v (%v), want %v: %s", err, fault.KindOf(err), kind, words)
	}
}

func TestWriteNSS_RefusesTooManyDomains(t *testing.T) {
	path, db := filepath.Join(t.TempDir(), "nss.db"), basic()
	for i := range domainsMax / len("0000.example.com") {
		db.Domains = append(db.Domains, fmt.Sprintf("%04d.example.com", i))
	}
	told(t, WriteNSS(path, db), fault.Invalid, "the limit is 4096")
	if _, err := os.Stat(path); err == nil {
		t.Error("the file was written")
	}
}

func TestReadNSS_RefusesAFileThatIsTooLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nss.db")
	if err := WriteNSS(path, basic()); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, math.MaxInt32+1); err != nil { // a hole
		t.Fatal(err)
	}
	_, err := ReadNSS(path)
	told(t, err, fault.Invalid, "2147483648 bytes are more than the format")
}

func TestChooseSeed_GivesUp(t *testing.T) {
	_, err := chooseSeed(make([]User, chainWanted+1), 1)
	told(t, err, fault.Invalid, "no seed spreads these 25 users")
}

// TestDecodeNSS_UsersAreReachedOnceByNameAndByUID: a file in which the two tables
// do not agree is refused as a whole.
func TestDecodeNSS_UsersAreReachedOnceByNameAndByUID(t *testing.T) {
	good, err := encodeNSS(basic())
	if err != nil {
		t.Fatal(err)
	}
	var h header
	if _, err := binary.Decode(good, binary.BigEndian, &h); err != nil {
		t.Fatal(err)
	}
	be := binary.BigEndian
	slot, first := h.ByUID, uint32(0)
	for ; first == 0; slot += 4 {
		first = be.Uint32(good[slot:])
	}
	slot -= 4
	for words, damage := range map[string]func([]byte){
		"the header names 9 users, the file has 8":       func(b []byte) { h := h; h.Users++; _, _ = binary.Encode(b, be, h) },
		"is not reached once by name and once by uid":    func(b []byte) { be.PutUint32(b[first+recordNextUID:], first) },
		"users are not reached by uid":                   func(b []byte) { be.PutUint32(b[slot:], 0) },
		"this is not a name service file of version SPN": func(b []byte) { b[0]++ },
	} {
		b := bytes.Clone(good)
		damage(b)
		_, err := decodeNSS(b)
		told(t, err, fault.Invalid, words)
	}
}

// TestServePAM_CallersWhoGo: one in the midst of its request, one before the answer.
func TestServePAM_CallersWhoGo(t *testing.T) {
	path, gone := filepath.Join(privateDir(t), "pam.sock"), make(chan struct{})
	refused := startPAM(t, path, self(), func(context.Context, Peer, PAMRequest) PAMAnswer { <-gone; return PAMAnswer{Allow: true} })
	request := readVector(t, "pam-account")
	if got := send(t, path, request[:len(request)-1]); len(got) != 0 {
		t.Errorf("half a request was answered with %q", got)
	}
	told(t, <-refused, fault.Invalid, "the connection ended inside a frame")
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(request); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	close(gone)
	told(t, <-refused, fault.Unavailable, "the client left before the answer")
}

// TestServe_BrokenSockets: what accepts nobody is said each time, and what is no
// socket has no caller.
func TestServe_BrokenSockets(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var heard []error
	config := Config{Refused: func(_ Peer, err error) { heard = append(heard, err); cancel() }}
	(&desk{config: config, fd: -1}).attend(ctx)
	fd, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	config.converse(t.Context(), fd, func(context.Context, Peer, io.ReadWriter) error { t.Error("it was served"); return nil })
	if len(heard) != 2 {
		t.Fatalf("heard %v", heard)
	}
	told(t, heard[0], fault.Unavailable, "cannot accept a connection")
	told(t, heard[1], fault.Internal, "cannot ask who is calling")
}
