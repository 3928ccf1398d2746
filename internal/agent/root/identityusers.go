package root

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"sallyport/internal/agent/durable"
	"sallyport/internal/fault"
)

// membersPath lists who is in the group sallyport-identity besides what
// /etc/group says: where our name service is wired the group exists already, so
// the system's tools can neither make it nor add to it.
const membersPath = stateFolder + "/identity-users.json"

const maxMembers = 256

// members reads the list; it is asked for rarely and is root's own file.
func (s *Service) members() ([]string, error) {
	b, err := durable.Read(s.at(membersPath), s.cfg.Owner, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var list []string
	if err == nil {
		err = json.Unmarshal(b, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("members of the identity group: %w", err)
	}
	return list, nil
}

// changeMember adds a name to the list or removes it, for root alone.
func (s *Service) changeMember(name string, add bool) error {
	s.ident.change.Lock()
	defer s.ident.change.Unlock()
	list, err := s.members()
	if err != nil {
		return err
	}
	at, found := slices.BinarySearch(list, name)
	change := "allow"
	switch {
	case add && found:
		return nil
	case add:
		if err := s.known(name); err != nil {
			return err
		}
		if len(list) >= maxMembers {
			return fault.New(fault.Invalid, "TooManyMembers", "%d users may use the identity already; that is the most", maxMembers)
		}
		list = slices.Insert(list, at, name)
	case !found:
		return fault.New(fault.NotFound, "NotAMember", "%s is not in the list", printable(name)).WithRemedy("Run: sally agent identity list. Members of a local group are removed with: gpasswd -d NAME sallyport-identity")
	default:
		list, change = slices.Delete(list, at, at+1), "deny"
	}
	b, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if err := durable.Write(s.at(membersPath), b, 0o600); err != nil {
		return err
	}
	if id, err := s.guid(); err == nil {
		s.event("identity.member", id, "", printable(name), map[string]string{"change": change})
	}
	return nil
}

// known refuses a name that is nobody's: a mistake, or a name that somebody else
// could get later.
func (s *Service) known(name string) error {
	found := s.now().people[name] != nil
	err := s.lines("/etc/passwd", func(f []string) { found = found || len(f) == 7 && f[0] == name })
	if err == nil && !found {
		err = fault.New(fault.NotFound, "UserUnknown", "this machine has no user %s", printable(name))
	}
	return err
}
