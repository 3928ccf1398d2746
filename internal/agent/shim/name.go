package shim

import (
	"strings"

	"sallyport/internal/guid"
)

// Ids of ours (DESIGN section 6). A user's uid is also the gid of the private
// group of the same name. The ids above UIDMax are no user's, so that no private
// group can be a role group.
const (
	IDMin       uint32 = 1879048192
	IDMax       uint32 = 2147483647
	UIDMax      uint32 = 2147483639
	GIDUsers    uint32 = 2147483640
	GIDAdmins   uint32 = 2147483641
	GIDIdentity uint32 = 2147483642
)

// Names of the role groups: who may log in, who may sudo, who may ask the
// machine's identity endpoint.
const (
	GroupUsers    = "sallyport-users"
	GroupAdmins   = "sallyport-admins"
	GroupIdentity = "sallyport-identity"
)

// Limits of names in bytes.
const (
	NameMax   = 255
	localMax  = 64
	domainMax = 253
	labelMax  = 63
	guidLen   = 36
)

// Ours reports whether name can be a login name of ours: a lower-case GUID (the
// object id of a service principal or managed identity), or local@domain with
// domain exactly one of domains, which are in lower case. The local part is 1 to
// 64 of [a-z0-9._'+#-] and begins with [a-z0-9_], because a leading -, + or #
// means something else to getopt, to compat NSS and to sudo. The C parts apply
// the same rule; the vectors in shim/test hold both to it.
func Ours(name string, domains []string) bool {
	if guid.Valid(name) {
		return true
	}
	domain, ok := upnDomain(name)
	if !ok {
		return false
	}
	for _, d := range domains {
		if d == domain {
			return true
		}
	}
	return false
}

// upnDomain returns the domain of a name of the shape local@domain.
func upnDomain(name string) (string, bool) {
	local, domain, ok := strings.Cut(name, "@")
	if !ok || len(name) > NameMax || local == "" || len(local) > localMax {
		return "", false
	}
	for i := range len(local) {
		if !isAlnum(local[i]) && !strings.ContainsRune("._-'+#", rune(local[i])) {
			return "", false
		}
	}
	if !isAlnum(local[0]) && local[0] != '_' {
		return "", false
	}
	return domain, isDomain(domain)
}

// shaped reports whether name could be ours under some domain.
func shaped(name string) bool {
	_, ok := upnDomain(name)
	return ok || guid.Valid(name)
}

func isAlnum(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

// isDomain accepts DNS labels of [a-z0-9-] joined by dots (RFC 1035 section
// 2.3.1 with the digits of RFC 1123 section 2.1), in lower case.
func isDomain(s string) bool {
	if s == "" || len(s) > domainMax {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > labelMax || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if !isAlnum(label[i]) && label[i] != '-' {
				return false
			}
		}
	}
	return true
}
