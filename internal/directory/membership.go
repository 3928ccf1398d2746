package directory

import (
	"slices"
	"strings"
)

// GroupsOf returns the object ids of every group that holds the principal,
// directly or through other groups, sorted. Circles of groups are tolerated; a
// group in a circle is in itself only if it is asked about through a member.
// The slice is shared: it must not be written to.
func (x *Index) GroupsOf(principalID string) []string {
	id := asciiLower(principalID)
	if v, ok := x.closure.Load(id); ok {
		if list, ok := v.([]string); ok {
			return list
		}
	}
	// The cache is written under the read lock: a change of groups, made under
	// the write lock, clears it afterwards, so no stale entry outlives a change.
	x.mu.RLock()
	defer x.mu.RUnlock()
	if len(x.parents[id]) == 0 {
		return nil
	}
	list := x.above(id)
	x.closure.Store(id, list)
	return list
}

func (x *Index) above(id string) []string {
	seen := map[string]bool{id: true}
	var list []string
	for queue := []string{id}; len(queue) > 0; queue = queue[1:] {
		for g := range x.parents[queue[0]] {
			if _, exists := x.groups.get(g); seen[g] || !exists {
				continue
			}
			seen[g] = true
			list = append(list, g)
			queue = append(queue, g)
		}
	}
	slices.Sort(list)
	return list
}

// GroupsDirectlyOf returns the object ids of the groups that hold the principal
// directly, sorted.
func (x *Index) GroupsDirectlyOf(principalID string) []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var list []string
	for g := range x.parents[asciiLower(principalID)] {
		if _, ok := x.groups.get(g); ok {
			list = append(list, g)
		}
	}
	slices.Sort(list)
	return list
}

// MembersOf returns the members of a group that still exist, sorted by object
// id: the direct ones, or with transitive also those of the groups in it.
func (x *Index) MembersOf(groupID string, transitive bool) []Member {
	x.mu.RLock()
	defer x.mu.RUnlock()
	root := asciiLower(groupID)
	seen := map[string]bool{root: true}
	var list []Member
	for queue := []string{root}; len(queue) > 0; queue = queue[1:] {
		for _, m := range x.members[queue[0]] {
			if seen[m.ID] || !x.exists(m) {
				continue
			}
			seen[m.ID] = true
			list = append(list, m)
			if transitive && m.Type == MemberGroup {
				queue = append(queue, m.ID)
			}
		}
	}
	slices.SortFunc(list, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
	return list
}

func (x *Index) exists(m Member) bool {
	var ok bool
	switch m.Type {
	case MemberUser:
		_, ok = x.users.get(m.ID)
	case MemberGroup:
		_, ok = x.groups.get(m.ID)
	case MemberServicePrincipal:
		_, ok = x.sps.get(m.ID)
	}
	return ok
}

// HasMember reports whether the principal is a direct member of the group.
func (x *Index) HasMember(groupID, principalID string) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.parents[asciiLower(principalID)][asciiLower(groupID)]
}

// TypeOf says what an object id names; ok is false for an unknown one.
func (x *Index) TypeOf(id string) (MemberType, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	id = asciiLower(id)
	for _, t := range []MemberType{MemberUser, MemberGroup, MemberServicePrincipal} {
		if x.exists(Member{ID: id, Type: t}) {
			return t, true
		}
	}
	return "", false
}
