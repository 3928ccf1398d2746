package machine

import "time"

// Presence is when a machine last spoke to one of several servers, and what it
// acknowledged there.
type Presence struct {
	MachineID             string
	SeenAt                time.Time
	Version, Acknowledged int64
	Current               int64 // position up to which it holds everything that concerns it
}

// Presences returns what this server has heard since the last call, of machines
// that it has not heard since a time; the zero time is of all. What is made for a
// machine comes after the word that asked for it, and is told again.
func (s *Service) Presences(since time.Time) []Presence {
	newest := s.newestAccounts()
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Presence
	for id, l := range s.live {
		if !l.lastSeen.IsZero() && (l.lastSeen.After(l.told) || l.version != l.toldVersion) && (since.IsZero() || l.lastSeen.Before(since)) {
			version, acknowledged := l.versions(newest)
			list = append(list, Presence{id, l.lastSeen, version, acknowledged, l.current})
			l.told, l.toldVersion = l.lastSeen, l.version
		}
	}
	return list
}

// Retell takes back that Presences has told.
func (s *Service) Retell(list []Presence) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range list {
		s.of(p.MachineID).told = time.Time{}
	}
}

// Heard takes in what other servers have heard. The latest word counts, and of
// what one server tells twice of the same word, the later.
func (s *Service) Heard(list []Presence) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range list {
		if l := s.of(p.MachineID); !p.SeenAt.Before(l.elsewhere.SeenAt) {
			l.elsewhere = p
		}
	}
}
