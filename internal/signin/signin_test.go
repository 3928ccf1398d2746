package signin

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/credential"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
)

const aliceID = "33333333-3333-3333-3333-333333333333"

type world struct {
	users    map[string]directory.User
	sessions map[string]Session
	events   []audit.Event
	state    credential.Status
	asked    []string
}

func (w *world) User(id string) (directory.User, bool) { u, ok := w.users[id]; return u, ok }
func (w *world) VerifyUPN(_ context.Context, _ audit.By, upn, _, _ string) (credential.Result, error) {
	w.asked = append(w.asked, upn)
	if upn != "alice@contoso.test" || w.state == credential.Wrong || w.state == credential.Locked {
		if w.state == credential.Locked {
			return credential.Result{Status: credential.Locked}, nil
		}
		return credential.Result{}, nil
	}
	return credential.Result{Status: w.state, UserID: aliceID}, nil
}
func (w *world) Remember(string, string, time.Time) (string, error)                     { return "shown", nil }
func (w *world) ChangePassword(context.Context, audit.By, string, string, string) error { return nil }
func (w *world) PutSignInSession(s Session) error                                       { w.sessions[s.ID] = s; return nil }
func (w *world) SignInSession(h []byte) (Session, bool, error) {
	for _, s := range w.sessions {
		if hmac.Equal(h, s.KeyHash) {
			return s, true, nil
		}
	}
	return Session{}, false, nil
}
func (w *world) TouchSignInSession(id string, at time.Time, tries int) error {
	s := w.sessions[id]
	s.SeenAt, s.Tries = at, tries
	w.sessions[id] = s
	return nil
}
func (w *world) EndSignInSession(id string) error              { delete(w.sessions, id); return nil }
func (w *world) Audit(_ audit.By, e audit.Event) error         { w.events = append(w.events, e); return nil }
func (w *world) run(_ context.Context, f func(Tx) error) error { return f(w) }

func at() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

func newService(t *testing.T) (*Service, *world) {
	t.Helper()
	w := &world{users: map[string]directory.User{aliceID: {ID: aliceID, UPN: "alice@contoso.test", Enabled: true}}, sessions: map[string]Session{}, state: credential.OK}
	hash := func(label, secret string) []byte {
		m := hmac.New(sha256.New, []byte("key "+label))
		m.Write([]byte(secret))
		return m.Sum(nil)
	}
	return New(Config{Write: w.run, Read: w.run, Rand: rand.Reader, Hash: hash, Passwords: w, Directory: w}), w
}

func by(t time.Time) audit.By { return audit.By{CorrelationID: "c", At: t} }

func TestCheck_Answers(t *testing.T) {
	cases := []struct {
		name    string
		upn     string
		state   credential.Status
		enabled bool
		code    string
	}{
		{"right", "alice@contoso.test", credential.OK, true, ""},
		{"upper case", "ALICE@Contoso.Test ", credential.OK, true, ""},
		{"wrong", "alice@contoso.test", credential.Wrong, true, "AADSTS50126"},
		{"locked", "alice@contoso.test", credential.Locked, true, "AADSTS50126"},
		{"unknown name", "nobody@contoso.test", credential.OK, true, "AADSTS50126"},
		{"no name", "", credential.OK, true, "AADSTS50126"},
		{"a state nobody knows", "alice@contoso.test", 77, true, "AADSTS50126"},
		{"must change", "alice@contoso.test", credential.MustChange, true, "AADSTS50055"},
		{"expired", "alice@contoso.test", credential.Expired, true, "AADSTS50055"},
		{"disabled", "alice@contoso.test", credential.OK, false, "AADSTS50057"},
		{"disabled and wrong", "alice@contoso.test", credential.Wrong, false, "AADSTS50126"},
	}
	for _, c := range cases {
		s, w := newService(t)
		w.state = c.state
		u := w.users[aliceID]
		u.Enabled = c.enabled
		w.users[aliceID] = u
		_, err := s.Check(t.Context(), by(at()), c.upn, "pw")
		code := ""
		if err != nil {
			code = fault.As(err).Code
		}
		if code != c.code {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil {
			id := code // as it is on the page
			if c.state == credential.Expired {
				id = "AADSTS50055.expired"
			}
			handbooktest.Said(t, code+": "+fault.As(err).Public(), id)
		}
		if len(w.asked) != 1 {
			t.Errorf("%s: the password was checked %d times; every path must cost the same", c.name, len(w.asked))
		}
	}
}

func TestChangePassword_NeedsBoth(t *testing.T) {
	s, _ := newService(t)
	for _, c := range [][2]string{{"", "new"}, {"old", ""}} {
		if err := s.ChangePassword(t.Context(), by(at()), "alice@contoso.test", c[0], c[1]); fault.As(err).Code != "PasswordMissing" {
			t.Errorf("%q: %v", c, err)
		}
	}
}

func TestCheck_NoEnumeration(t *testing.T) {
	s, w := newService(t)
	w.state = credential.Wrong
	_, unknown := s.Check(t.Context(), by(at()), "nobody@contoso.test", "x")
	_, wrong := s.Check(t.Context(), by(at()), "alice@contoso.test", "x")
	w.state = credential.Locked
	_, locked := s.Check(t.Context(), by(at()), "alice@contoso.test", "x")
	if unknown.Error() != wrong.Error() || wrong.Error() != locked.Error() {
		t.Fatalf("three answers: %v / %v / %v", unknown, wrong, locked)
	}
}

func TestSession_EndsForEveryReason(t *testing.T) {
	cases := map[string]struct {
		after time.Duration
		alter func(*Service, *world, string)
		alive bool
	}{
		"fresh":        {time.Minute, func(*Service, *world, string) {}, true},
		"idle":         {IdleLife + time.Second, func(*Service, *world, string) {}, false},
		"absolute":     {AbsoluteLife, func(_ *Service, w *world, _ string) { touchAll(w, at().Add(AbsoluteLife-time.Minute)) }, false},
		"deleted user": {time.Minute, func(_ *Service, w *world, _ string) { delete(w.users, aliceID) }, false},
		"disabled":     {time.Minute, func(_ *Service, w *world, _ string) { setUser(w, func(u *directory.User) { u.Enabled = false }) }, false},
		"not before": {time.Minute, func(_ *Service, w *world, _ string) {
			setUser(w, func(u *directory.User) { u.NotBefore = at().Add(1) })
		}, false},
		"not before equal": {time.Minute, func(_ *Service, w *world, _ string) { setUser(w, func(u *directory.User) { u.NotBefore = at() }) }, true},
		"signed out": {time.Minute, func(s *Service, _ *world, cookie string) {
			if err := s.End(context.Background(), by(at()), cookie); err != nil {
				panic(err)
			}
		}, false},
	}
	for name, c := range cases {
		s, w := newService(t)
		cookie, _, err := s.Begin(t.Context(), by(at()), w.users[aliceID], Password)
		if err != nil {
			t.Fatal(err)
		}
		c.alter(s, w, cookie)
		n, _, ok, err := s.Current(t.Context(), by(at().Add(c.after)), cookie)
		if err != nil || ok != c.alive {
			t.Errorf("%s: %v %v", name, ok, err)
		}
		if ok && !n.Factors[Password].Equal(at()) {
			t.Errorf("%s: factors %v", name, n.Factors)
		}
	}
}

func touchAll(w *world, seen time.Time) {
	for id := range w.sessions {
		_ = w.TouchSignInSession(id, seen, 0)
	}
}

func setUser(w *world, f func(*directory.User)) {
	u := w.users[aliceID]
	f(&u)
	w.users[aliceID] = u
}

func TestSession_CookieIsNotStored(t *testing.T) {
	s, w := newService(t)
	cookie, n, err := s.Begin(t.Context(), by(at()), w.users[aliceID], Password)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(w.sessions[n.ID].KeyHash), cookie) || len(w.events) != 1 {
		t.Fatal("cookie in the store, or no audit event")
	}
	for _, bad := range []string{"", cookie + "x", cookie[:42], strings.Repeat("A", 43)} {
		if _, _, ok, _ := s.Current(t.Context(), by(at()), bad); ok {
			t.Errorf("%q opened a session", bad)
		}
	}
}

func TestMiss_TenWrongCodesEndTheSession(t *testing.T) {
	s, w := newService(t)
	cookie, _, err := s.Begin(t.Context(), by(at()), w.users[aliceID], Password)
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; ; i++ {
		n, _, ok, err := s.Current(t.Context(), by(at()), cookie)
		if err != nil || !ok {
			t.Fatal(i, err)
		}
		over, err := s.Miss(t.Context(), by(at()), n)
		if err != nil {
			t.Fatal(err)
		}
		if over != (i == MaxTries) {
			t.Fatal(i, over)
		}
		if over {
			break
		}
	}
	if _, _, ok, _ := s.Current(t.Context(), by(at()), cookie); ok {
		t.Fatal("the session lives on")
	}
}

// Codes that are tried in parallel all hold the session as it was before.
func TestMiss_ParallelTriesCountEach(t *testing.T) {
	s, w := newService(t)
	cookie, _, err := s.Begin(t.Context(), by(at()), w.users[aliceID], Password)
	if err != nil {
		t.Fatal(err)
	}
	stale, _, _, err := s.Current(t.Context(), by(at()), cookie)
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= MaxTries+2; i++ {
		over, err := s.Miss(t.Context(), by(at()), stale)
		if err != nil || over != (i >= MaxTries) {
			t.Fatal(i, over, err)
		}
	}
	if _, _, ok, _ := s.Current(t.Context(), by(at()), cookie); ok {
		t.Fatal("the session lives on")
	}
}

func TestStep_ProofIsBound(t *testing.T) {
	s, _ := newService(t)
	p := s.Prove(StepPassword, "request", "session", at())
	if step, _, ok := s.Proven(p, "request", "session", at().Add(time.Minute)); !ok || step != StepPassword {
		t.Fatal("good proof refused")
	}
	parts := strings.Split(p, ".")
	cases := map[string][3]string{
		"another request": {p, "other", "session"}, "another session": {p, "request", "other"}, "shifted": {p, "requestses", "sion"},
		"another step": {"account." + parts[1] + "." + parts[2], "request", "session"}, "unknown step": {"mfa." + parts[1] + "." + parts[2], "request", "session"},
		"later time": {"password.1795349000." + parts[2], "request", "session"}, "empty": {"", "request", "session"}, "no mac": {parts[0] + "." + parts[1] + ".", "request", "session"},
	}
	for name, c := range cases {
		if _, _, ok := s.Proven(c[0], c[1], c[2], at()); ok {
			t.Errorf("%s passed", name)
		}
	}
	if _, _, ok := s.Proven(p, "request", "session", at().Add(stepLife+time.Second)); ok {
		t.Error("old proof passed")
	}
}

func TestFlow_SealedAndLocal(t *testing.T) {
	s, _ := newService(t)
	text, err := s.Seal(Flow{Return: "/adfs/oauth2/authorize?x=1", Client: "az"}, at())
	if err != nil {
		t.Fatal(err)
	}
	if f, err := s.Open(text, at()); err != nil || f.Client != "az" {
		t.Fatal(err)
	}
	if _, err := s.Open(text, at().Add(flowLife)); err == nil {
		t.Error("an old page works")
	}
	for _, to := range []string{"https://evil.test/", "//evil.test/", "/\\evil.test", ""} {
		bad, err := s.Seal(Flow{Return: to}, at())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Open(bad, at()); err == nil {
			t.Errorf("return to %q", to)
		}
	}
	for _, bad := range []string{"", ".", text + "x", "x" + text, strings.Replace(text, ".", "", 1)} {
		if _, err := s.Open(bad, at()); err == nil {
			t.Errorf("forged flow %q", bad)
		}
	}
}

func TestCSRF_BoundToBrowserAndForm(t *testing.T) {
	s, _ := newService(t)
	nonce := strings.Repeat("n", 22)
	token := s.CSRF(nonce, "form")
	if !s.CheckCSRF(nonce, "form", token) || s.CheckCSRF(nonce, "other", token) || s.CheckCSRF(strings.Repeat("m", 22), "form", token) || s.CheckCSRF("", "form", s.CSRF("", "form")) {
		t.Fatal("CSRF token is not bound")
	}
}

func FuzzOpenAndProven(f *testing.F) {
	f.Add("e30.x", "password.1.x")
	f.Fuzz(func(t *testing.T, flow, proof string) {
		s, _ := newService(t)
		if _, err := s.Open(flow, at()); err == nil {
			t.Fatal("forged flow")
		}
		if _, _, ok := s.Proven(proof, "r", "s", at()); ok {
			t.Fatal("forged proof")
		}
	})
}
