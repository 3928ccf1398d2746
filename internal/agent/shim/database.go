package shim

import (
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"sallyport/internal/fault"
)

// User is one person or workload who has a role on this machine.
type User struct {
	Name   string // a name of ours, see Ours
	UID    uint32 // IDMin to UIDMax, assigned by the server
	GID    uint32 // equal to UID: the private group of the same name
	Gecos  string // see Gecos
	Home   string
	Shell  string
	Groups []uint32 // role groups
}

// Group is a role group and those of its members that getgrnam shall list. What
// a login gets is User.Groups; members may be left out, and with many users they
// should be, because every caller that asks for the group receives all of them.
// The private group of a user exists without being named; it may be named, with
// no member but the user.
type Group struct {
	Name    string
	GID     uint32
	Members []string
}

// Database is everything that the name service module knows. The order of its
// parts means nothing.
type Database struct {
	Domains []string // the tenant's verified domains, in lower case
	Users   []User
	Groups  []Group
}

const (
	gecosMax   = 255
	homeMax    = 272
	shellMax   = 127
	domainsMax = 4096
)

// roleGroup is one of the three groups that exist on every machine; its index is
// its bit in a user record and its place in the header.
type roleGroup struct {
	name string
	gid  uint32
}

func roleGroups() [3]roleGroup {
	return [3]roleGroup{{GroupUsers, GIDUsers}, {GroupAdmins, GIDAdmins}, {GroupIdentity, GIDIdentity}}
}

// roleIndex returns the index of the role group with this gid, or -1.
func roleIndex(gid uint32) int {
	for i, r := range roleGroups() {
		if r.gid == gid {
			return i
		}
	}
	return -1
}

// Gecos makes a display name fit for User.Gecos: what passwd(5) and chfn give a
// meaning to (colon, comma, control characters) becomes a space, and it is cut
// to its limit between characters.
func Gecos(display string) string {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(display, "?") {
		if r == ':' || r == ',' || !unicode.IsPrint(r) {
			r = ' '
		}
		if b.Len()+utf8.RuneLen(r) > gecosMax {
			break
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, "NSSDatabaseInvalid", format, args...)
}

// check refuses a database of which any part cannot be served exactly as it is.
func (db Database) check() error {
	total := 0
	for i, d := range db.Domains {
		if !isDomain(d) {
			return invalid("%q is not a domain in lower case", d)
		}
		if slices.Contains(db.Domains[:i], d) {
			return invalid("the domain %s is listed twice", d)
		}
		total += len(d) + 1
	}
	if total > domainsMax {
		return invalid("the domains take %d bytes; the limit is %d", total, domainsMax)
	}
	names := make(map[string]*User, len(db.Users))
	uids := make(map[uint32]string, len(db.Users))
	for i := range db.Users {
		u := &db.Users[i]
		if err := u.check(db.Domains); err != nil {
			return err
		}
		if names[u.Name] != nil {
			return invalid("the user %s is listed twice", u.Name)
		}
		if other, taken := uids[u.UID]; taken {
			return invalid("%s and %s have the same uid %d", other, u.Name, u.UID)
		}
		names[u.Name], uids[u.UID] = u, u.Name
	}
	return db.checkGroups(names)
}

func (u *User) check(domains []string) error {
	switch {
	case !Ours(u.Name, domains):
		return invalid("%q is not a login name under a verified domain", u.Name)
	case u.UID < IDMin || u.UID > UIDMax:
		return invalid("the uid %d of %s is outside %d to %d", u.UID, u.Name, IDMin, UIDMax)
	case u.GID != u.UID:
		return invalid("the gid %d of %s is not its uid %d", u.GID, u.Name, u.UID)
	case len(u.Gecos) > gecosMax || !printable(u.Gecos) || strings.Contains(u.Gecos, ":"):
		return invalid("the display name of %s cannot stand in a passwd entry", u.Name)
	case !isPath(u.Home, homeMax):
		return invalid("the home %q of %s is not a clean absolute path", u.Home, u.Name)
	case !isPath(u.Shell, shellMax):
		return invalid("the shell %q of %s is not a clean absolute path", u.Shell, u.Name)
	}
	for i, gid := range u.Groups {
		if roleIndex(gid) < 0 || slices.Contains(u.Groups[:i], gid) {
			return invalid("the group %d of %s is not a role group, or is listed twice", gid, u.Name)
		}
	}
	return nil
}

func isPath(s string, limit int) bool {
	if len(s) > limit || !filepath.IsAbs(s) || filepath.Clean(s) != s {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' })
}

func (db Database) checkGroups(users map[string]*User) error {
	seen := make(map[uint32]bool, len(db.Groups))
	for _, g := range db.Groups {
		if seen[g.GID] {
			return invalid("the group %s (%d) is listed twice", g.Name, g.GID)
		}
		seen[g.GID] = true
		role := roleIndex(g.GID)
		switch owner := users[g.Name]; {
		case role >= 0 && roleGroups()[role].name == g.Name:
		case role < 0 && owner != nil && owner.GID == g.GID:
		default:
			return invalid("%s (%d) is neither a role group nor the private group of a user", g.Name, g.GID)
		}
		members := make(map[string]bool, len(g.Members))
		for _, m := range g.Members {
			u := users[m]
			belongs := u != nil && (u.GID == g.GID || slices.Contains(u.Groups, g.GID))
			if !belongs || members[m] {
				return invalid("%s is not a user whose groups name %s, or is listed in it twice", m, g.Name)
			}
			members[m] = true
		}
	}
	return nil
}
