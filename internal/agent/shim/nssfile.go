package shim

import (
	"cmp"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"sallyport/internal/fault"
)

// WriteNSS replaces the file that the name service module reads, so that every
// reader sees the old or the new one, whole, also after a loss of power: it is
// written and synced beside path, renamed, and the folder is synced. The same
// database gives the same bytes. There must be one writer at a time.
func WriteNSS(path string, db Database) error {
	b, err := encodeNSS(db)
	if err != nil {
		return err
	}
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return writeFault(err, path)
	}
	if err := writeSynced(fresh, b); err != nil {
		return errors.Join(writeFault(err, path), os.Remove(fresh))
	}
	if err := os.Rename(fresh, path); err != nil {
		return errors.Join(writeFault(err, path), os.Remove(fresh))
	}
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return writeFault(err, path)
	}
	return nil
}

func writeFault(cause error, path string) error {
	return fault.Wrap(cause, fault.Unavailable, "NSSFileNotWritten", "cannot replace %s", path)
}

// writeSynced makes a new file that everybody may read, whatever the umask.
func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ReadNSS reads such a file back and checks all of it, more strictly than the
// module does: that both chains reach every user and nothing else is in it. The
// private groups are not among Groups; role groups are, also empty ones. The
// file must belong to this process's user and be writable by nobody else.
func ReadNSS(path string) (Database, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return Database{}, readFault(err, path)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return Database{}, readFault(err, path)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() || stat.Uid != uint32(os.Geteuid()) || info.Mode().Perm()&0o022 != 0 {
		return Database{}, fault.New(fault.Precondition, "NSSFileUnsafe", "%s must be a file of the agent's own user that nobody else can write to", path)
	}
	if err := fits(info.Size()); err != nil {
		return Database{}, err
	}
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return Database{}, readFault(err, path)
	}
	return decodeNSS(b)
}

func readFault(cause error, path string) error {
	kind := fault.Unavailable
	if errors.Is(cause, fs.ErrNotExist) {
		kind = fault.NotFound
	}
	return fault.Wrap(cause, kind, "NSSFileNotRead", "cannot read %s", path)
}

// Layout of the file; see docs/machine-protocol.md. All numbers are big-endian.
const (
	nssMagic      = "SPNSSDB1"
	nssHeader     = 64
	nssRecord     = 28
	recordNextUID = 4
	chainWanted   = 24 // what the writer accepts
	chainMax      = 64 // what readers follow
	seedsTried    = 256
)

// header mirrors the first 64 bytes.
type header struct {
	Magic     [8]byte
	Size      uint32
	Seed      uint32
	Domains   uint32 // bytes of the list right behind the header
	Buckets   uint32 // a power of two
	ByName    uint32 // offset of the table by name
	ByUID     uint32 // offset of the table by uid
	Users     uint32
	Members   [3]span
	Reserved0 uint32
}

type span struct{ Offset, Length uint32 }

// nssHash is FNV-1a started from a seed.
func nssHash[T string | []byte](seed uint32, key T) uint32 {
	h := 2166136261 ^ seed
	for i := range len(key) {
		h = (h ^ uint32(key[i])) * 16777619
	}
	return h ^ h>>15
}

func uidKey(uid uint32) []byte { return binary.BigEndian.AppendUint32(nil, uid) }

// chooseSeed returns the first seed with which no chain is longer than
// chainWanted: names are chosen by people, some of whom would like a chain that
// readers give up on.
func chooseSeed(users []User, buckets uint32) (uint32, error) {
	names, uids := make([]uint8, buckets), make([]uint8, buckets)
	for seed := range uint32(seedsTried) {
		clear(names)
		clear(uids)
		fits := true
		for i := range users {
			n := nssHash(seed, users[i].Name) & (buckets - 1)
			u := nssHash(seed, uidKey(users[i].UID)) & (buckets - 1)
			names[n]++
			uids[u]++
			if names[n] > chainWanted || uids[u] > chainWanted {
				fits = false
				break
			}
		}
		if fits {
			return seed, nil
		}
	}
	return 0, invalid("no seed spreads these %d users", len(users))
}

// encodeNSS checks db and returns the file.
func encodeNSS(db Database) ([]byte, error) {
	if err := db.check(); err != nil {
		return nil, err
	}
	users := slices.SortedFunc(slices.Values(db.Users), func(a, b User) int { return cmp.Compare(a.Name, b.Name) })
	buckets := uint32(8)
	for int(buckets) < len(users) {
		buckets *= 2
	}
	seed, err := chooseSeed(users, buckets)
	if err != nil {
		return nil, err
	}
	b := make([]byte, nssHeader, nssHeader+8*int(buckets)+len(users)*160)
	for _, d := range slices.Sorted(slices.Values(db.Domains)) {
		b = append(append(b, d...), 0)
	}
	h := header{Magic: [8]byte([]byte(nssMagic)), Seed: seed, Buckets: buckets, Users: uint32(len(users))}
	h.Domains = uint32(len(b) - nssHeader)
	h.ByName = uint32(len(b))
	h.ByUID = h.ByName + 4*buckets
	b = append(b, make([]byte, 8*int(buckets))...)
	for i := range users {
		b = appendUser(b, &h, &users[i])
	}
	b = appendMembers(b, &h, db.Groups)
	if err := fits(int64(len(b))); err != nil {
		return nil, err
	}
	h.Size = uint32(len(b))
	_, err = binary.Encode(b, binary.BigEndian, h)
	return b, err
}

// fits refuses a file whose places its numbers cannot name.
func fits(size int64) error {
	if size > math.MaxInt32 {
		return invalid("%d bytes are more than the format of the name service file allows", size)
	}
	return nil
}

// appendUser writes a record and puts it at the head of its two chains.
func appendUser(b []byte, h *header, u *User) []byte {
	at, be := uint32(len(b)), binary.BigEndian
	name := b[h.ByName+4*(nssHash(h.Seed, u.Name)&(h.Buckets-1)):][:4]
	uid := b[h.ByUID+4*(nssHash(h.Seed, uidKey(u.UID))&(h.Buckets-1)):][:4]
	nextName, nextUID := be.Uint32(name), be.Uint32(uid)
	be.PutUint32(name, at)
	be.PutUint32(uid, at)
	roles := uint32(0)
	for _, gid := range u.Groups {
		roles |= 1 << roleIndex(gid)
	}
	texts := [...]string{u.Name, u.Gecos, u.Home, u.Shell}
	length := uint32(nssRecord)
	for _, t := range texts {
		length += uint32(len(t)) + 1
	}
	for _, v := range [...]uint32{nextName, nextUID, u.UID, roles, length} {
		b = be.AppendUint32(b, v)
	}
	for _, t := range texts {
		b = be.AppendUint16(b, uint16(len(t)))
	}
	for _, t := range texts {
		b = append(append(b, t...), 0)
	}
	return b
}

func appendMembers(b []byte, h *header, groups []Group) []byte {
	for _, g := range groups {
		role := roleIndex(g.GID)
		if role < 0 || len(g.Members) == 0 {
			continue
		}
		at := len(b)
		for _, m := range slices.Sorted(slices.Values(g.Members)) {
			b = append(append(b, m...), 0)
		}
		h.Members[role] = span{uint32(at), uint32(len(b) - at)}
	}
	return b
}
