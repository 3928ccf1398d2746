package root

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sallyport/internal/agent/caller"
	"sallyport/internal/agent/linklocal"
	"sallyport/internal/agent/shim"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

const (
	// identityRetry is how long after a failure the address is tried again.
	identityRetry = 30 * time.Second
	// judging is how many callers are looked at at a time.
	judging = 32
	// denialEvery is how often one uid's refusals make an event.
	denialEvery = 10 * time.Minute
	maxDenied   = 1024
)

// identity is this part's side of the identity service: it holds the address,
// judges who asks, and hands the connection with the verdict to the network part.
type identity struct {
	hand caller.Hand
	wake chan struct{}

	mu     sync.Mutex
	state  string // for people
	denied map[uint32]time.Time

	change sync.Mutex // of the list of members
}

func newIdentity() *identity {
	return &identity{wake: make(chan struct{}, 1), denied: map[uint32]time.Time{}}
}

func (i *identity) poke() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

func (i *identity) tell(text string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.state = text
}

func (i *identity) told() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.state
}

// serveIdentity has the address exactly while the machine has a managed identity.
// A failure is told in the status and harms nothing else.
func (s *Service) serveIdentity(ctx context.Context) {
	var open *net.TCPListener
	retry := time.NewTicker(identityRetry)
	defer retry.Stop()
	for {
		v := s.now()
		want := v.doc != nil && acts(v.doc)
		switch {
		case want && open == nil:
			l, err := s.cfg.Identity.Open(ctx)
			if err != nil {
				s.ident.tell("off: " + fault.As(err).Public())
				s.cfg.Log("identity service: %v", err)
				break
			}
			open = l
			s.ident.tell("answers at " + linklocal.Address)
			go s.callers(ctx, l)
		case !want && v.doc != nil:
			if open != nil {
				_ = open.Close()
				open = nil
			}
			s.ident.tell("off: the machine has no managed identity")
			if err := s.cfg.Identity.Close(ctx); err != nil {
				s.cfg.Log("identity service: %v", err)
			}
		}
		select {
		case <-ctx.Done():
			if open != nil {
				_ = open.Close()
			}
			return
		case <-s.ident.wake:
		case <-retry.C:
		}
	}
}

// acts reports whether the machine has a managed identity, its own or an assigned one.
func acts(d *protocol.SnapshotDocument) bool { return d.Identity || d.Assigned }

// callers accepts until the listener closes.
func (s *Service) callers(ctx context.Context, l *net.TCPListener) {
	slots := make(chan struct{}, judging)
	loud := s.quietly()
	for {
		conn, err := l.AcceptTCP()
		if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
			return
		}
		if err != nil {
			s.cfg.Log("identity service: %v", err)
			time.Sleep(100 * time.Millisecond) // out of descriptors, say
			continue
		}
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			verdict, err := s.judge(conn)
			if err != nil {
				loud("identity service: a connection from %s is closed: %v", conn.RemoteAddr(), err)
				_ = conn.Close()
				return
			}
			if err := s.ident.hand.Give(conn, verdict); err != nil {
				loud("identity service: %v", err)
			}
		}()
	}
}

// judge says who asks and whether they may. Who cannot be known gets no answer.
func (s *Service) judge(conn *net.TCPConn) (caller.Verdict, error) {
	local, err := netip.ParseAddrPort(conn.LocalAddr().String())
	remote, err2 := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err := errors.Join(err, err2); err != nil {
		return caller.Verdict{}, err
	}
	uid, err := s.cfg.Callers.Owner(local, remote)
	if err != nil {
		return caller.Verdict{}, err
	}
	verdict, err := s.verdict(s.now(), uid)
	if err == nil && !verdict.Allowed && verdict.Code == caller.CodeNotMember {
		s.denyIdentity(verdict)
	}
	return verdict, err
}

// verdict decides about one uid: root, and who is in the group. A person of the
// directory must also still have access to this machine.
func (s *Service) verdict(v view, uid uint32) (caller.Verdict, error) {
	id, err := s.guid()
	if err != nil {
		return caller.Verdict{}, err
	}
	out := caller.Verdict{UID: uid, CorrelationID: id}
	names, err := s.namesOf(v, uid)
	if err != nil {
		return caller.Verdict{}, err
	}
	if out.Name = "uid " + strconv.FormatUint(uint64(uid), 10); len(names) > 0 {
		out.Name = printable(names[0])
	}
	if v.doc == nil || !acts(v.doc) {
		out.Code, out.Text = caller.CodeNoIdentity, "Identity not found. This machine has no managed identity. Assign one: sally vm identity assign."
		return out, nil
	}
	out.Revision = v.doc.Revision
	if uid == 0 {
		out.Allowed = true
		return out, nil
	}
	if out.Allowed, err = s.inIdentityGroup(names, uid); err != nil {
		return caller.Verdict{}, err
	}
	if !out.Allowed {
		out.Code = caller.CodeNotMember
		out.Text = "Sallyport: " + out.Name + " may not use the managed identity of this machine: only root and members of the group " + shim.GroupIdentity + " may. " +
			"Ask an administrator of the machine to run: sally agent identity allow " + out.Name + " (Correlation id: " + id + ")"
	}
	return out, nil
}

// namesOf returns the names of a uid: the person's of the directory who has
// access here, or those of /etc/passwd. Nothing is asked through NSS.
func (s *Service) namesOf(v view, uid uint32) ([]string, error) {
	var names []string
	if uid >= shim.IDMin && uid <= shim.UIDMax {
		for name, p := range v.people {
			if p.UID == uid && (p.Access == protocol.Login || p.Access == protocol.Admin) && !v.local[name] {
				names = append(names, name)
			}
		}
		return names, nil
	}
	err := s.lines("/etc/passwd", func(f []string) {
		if len(f) == 7 && f[2] == strconv.FormatUint(uint64(uid), 10) && f[0] != "" {
			names = append(names, f[0])
		}
	})
	return names, err
}

// inIdentityGroup reads the members that were allowed here, and the local group of
// the same name: its list of members, and whose first group it is.
func (s *Service) inIdentityGroup(names []string, uid uint32) (bool, error) {
	own, err := s.members()
	if err != nil {
		return false, err
	}
	in, gid := slices.ContainsFunc(names, func(n string) bool { return slices.Contains(own, n) }), ""
	err = s.lines("/etc/group", func(f []string) {
		if len(f) == 4 && f[0] == shim.GroupIdentity {
			gid = f[2]
			in = in || slices.ContainsFunc(strings.Split(f[3], ","), func(m string) bool { return m != "" && slices.Contains(names, m) })
		}
	})
	if err != nil || in || gid == "" {
		return in, err
	}
	err = s.lines("/etc/passwd", func(f []string) {
		in = in || len(f) == 7 && f[2] == strconv.FormatUint(uint64(uid), 10) && f[3] == gid
	})
	return in, err
}

// lines calls f with the fields of each line of a file of /etc.
func (s *Service) lines(path string, f func(fields []string)) error {
	b, err := os.ReadFile(s.at(path))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		f(strings.Split(strings.TrimRight(line, "\n"), ":"))
	}
	return nil
}

// denyIdentity reports a refusal; one uid's that come again within ten minutes
// are one event.
func (s *Service) denyIdentity(v caller.Verdict) {
	now := s.cfg.Now()
	s.ident.mu.Lock()
	at, seen := s.ident.denied[v.UID]
	fresh := !seen || now.Sub(at) >= denialEvery || now.Before(at)
	if fresh {
		if len(s.ident.denied) >= maxDenied {
			clear(s.ident.denied)
		}
		s.ident.denied[v.UID] = now
	}
	s.ident.mu.Unlock()
	if !fresh {
		return
	}
	objectID := ""
	if p := s.now().people[v.Name]; p != nil {
		objectID = p.ObjectID
	}
	s.event("identity.deny", v.CorrelationID, objectID, v.Name, map[string]string{"uid": strconv.FormatUint(uint64(v.UID), 10), "reason": v.Code})
}
