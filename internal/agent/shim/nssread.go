package shim

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strings"
)

// decodeNSS is the reverse of encodeNSS for any bytes.
func decodeNSS(b []byte) (Database, error) {
	var h header
	if n, err := binary.Decode(b, binary.BigEndian, &h); err != nil || n != nssHeader {
		return Database{}, invalid("the file is shorter than its header")
	}
	switch {
	case string(h.Magic[:]) != nssMagic:
		return Database{}, invalid("this is not a name service file of version SPNSSDB1")
	case uint64(h.Size) != uint64(len(b)) || h.Reserved0 != 0:
		return Database{}, invalid("the header does not describe a file of %d bytes", len(b))
	case h.Domains > domainsMax || bits.OnesCount32(h.Buckets) != 1:
		return Database{}, invalid("the header's domains or tables cannot be right")
	}
	domains, err := decodeTexts(b, span{nssHeader, h.Domains})
	if err != nil {
		return Database{}, err
	}
	db := Database{Domains: domains}
	reached := map[uint32]bool{}
	err = walk(b, h, chainByName, func(at uint32, u User) error {
		if reached[at] {
			return invalid("two chains lead to the record at %d", at)
		}
		reached[at] = true
		db.Users = append(db.Users, u)
		return nil
	})
	if err != nil {
		return Database{}, err
	}
	if err := checkByUID(b, h, reached); err != nil {
		return Database{}, err
	}
	for i, r := range roleGroups() {
		members, err := decodeTexts(b, h.Members[i])
		if err != nil {
			return Database{}, err
		}
		db.Groups = append(db.Groups, Group{r.name, r.gid, members})
	}
	return db, db.check()
}

// checkByUID requires that the chains by uid reach the same records, once each.
func checkByUID(b []byte, h header, reached map[uint32]bool) error {
	if uint64(h.Users) != uint64(len(reached)) {
		return invalid("the header names %d users, the file has %d", h.Users, len(reached))
	}
	left := len(reached)
	err := walk(b, h, chainByUID, func(at uint32, _ User) error {
		if !reached[at] {
			return invalid("the record at %d is not reached once by name and once by uid", at)
		}
		reached[at] = false
		left--
		return nil
	})
	if err == nil && left != 0 {
		return invalid("%d users are not reached by uid", left)
	}
	return err
}

// chain says where a table is, where a record keeps its next link, and which
// slot a user belongs to.
type chain struct {
	table func(header) uint32
	next  uint32
	hash  func(seed uint32, u User) uint32
}

func chainByName() chain {
	return chain{func(h header) uint32 { return h.ByName }, 0,
		func(seed uint32, u User) uint32 { return nssHash(seed, u.Name) }}
}

func chainByUID() chain {
	return chain{func(h header) uint32 { return h.ByUID }, recordNextUID,
		func(seed uint32, u User) uint32 { return nssHash(seed, uidKey(u.UID)) }}
}

// walk visits every record of every chain.
func walk(b []byte, h header, which func() chain, visit func(at uint32, u User) error) error {
	c, size := which(), uint64(len(b))
	table := uint64(c.table(h))
	if table+4*uint64(h.Buckets) > size {
		return invalid("a table ends behind the file")
	}
	for slot := range h.Buckets {
		at := binary.BigEndian.Uint32(b[table+4*uint64(slot):])
		for steps := 0; at != 0; steps++ {
			u, err := decodeUser(b, at)
			if err != nil {
				return err
			}
			if steps == chainMax || c.hash(h.Seed, u)&(h.Buckets-1) != slot {
				return invalid("a chain is too long, or the record at %d is in the wrong one", at)
			}
			if err := visit(at, u); err != nil {
				return err
			}
			at = binary.BigEndian.Uint32(b[at+c.next:])
		}
	}
	return nil
}

// decodeUser reads the record at an offset.
func decodeUser(b []byte, at uint32) (User, error) {
	be := binary.BigEndian
	if at < nssHeader || uint64(at)+nssRecord > uint64(len(b)) {
		return User{}, invalid("no record can be at %d", at)
	}
	r := b[at:]
	length := uint64(be.Uint32(r[16:]))
	var texts [4]string
	end := uint64(nssRecord)
	for i := range texts {
		n := uint64(be.Uint16(r[20+2*i:]))
		if end+n >= uint64(len(r)) || r[end+n] != 0 {
			return User{}, invalid("a text of the record at %d does not end where it says", at)
		}
		texts[i] = string(r[end : end+n])
		end += n + 1
	}
	if end != length {
		return User{}, invalid("the record at %d is not as long as it says", at)
	}
	uid, roles := be.Uint32(r[8:]), be.Uint32(r[12:])
	u := User{Name: texts[0], UID: uid, GID: uid, Gecos: texts[1], Home: texts[2], Shell: texts[3]}
	for i, g := range roleGroups() {
		if roles&(1<<i) != 0 {
			u.Groups = append(u.Groups, g.gid)
			roles &^= 1 << i
		}
	}
	if roles != 0 {
		return User{}, invalid("the record at %d has unknown roles", at)
	}
	return u, nil
}

// decodeTexts reads texts with a NUL after each.
func decodeTexts(b []byte, s span) ([]string, error) {
	if uint64(s.Offset)+uint64(s.Length) > uint64(len(b)) {
		return nil, invalid("a list ends behind the file")
	}
	if s.Length == 0 {
		return nil, nil
	}
	list, ok := bytes.CutSuffix(b[s.Offset:s.Offset+s.Length], []byte{0})
	if !ok {
		return nil, invalid("a list does not end with its last text")
	}
	return strings.Split(string(list), "\x00"), nil
}
