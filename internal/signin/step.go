package signin

import (
	"crypto/hmac"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"sallyport/internal/fault"
)

// Step is the name of something a person did for one request. The names are a
// closed set, so that no other text can be taken for one.
type Step string

// The steps.
const (
	StepPassword Step = "password" // gave the password just now
	StepAccount  Step = "account"  // chose to go on with the account that is signed in
	StepConsent  Step = "consent"  // agreed to what the client asks for
	StepDeclined Step = "declined" // did not
)

// stepLife is how long a step counts, and how long a page may stay open.
const (
	stepLife = 10 * time.Minute
	flowLife = time.Hour
)

// Flow is the request that a sign-in serves: where to go back to, and what the
// page needs. It travels sealed through the browser.
type Flow struct {
	Return string `json:"r"` // path and query on this server
	Origin string `json:"o"` // origin that the browser will be sent on to, for the page's policy
	Client string `json:"c"` // the client's display name
	Hint   string `json:"h"` // name to fill in
	Pick   bool   `json:"p"` // offer the account that is signed in
	// Foreign says that somebody registered the client in this directory, and so
	// that the page must say where the answer goes.
	Foreign bool `json:"f,omitempty"`
	// Ask is what the client wants to be allowed; nil for pages without consent.
	Ask *Ask `json:"a,omitempty"`
	// Browser, where set, is the token of the one browser that may go on with the
	// flow: a device code that was typed elsewhere must not travel in a link.
	Browser string    `json:"b,omitempty"`
	Ends    time.Time `json:"e"`
}

// Ask names permissions of a resource that a client has not been given.
type Ask struct {
	AppID    string   `json:"c"` // of the client
	Resource string   `json:"r"` // its application id
	Values   []string `json:"v"`
}

// Seal makes the flow's text, good for an hour.
func (s *Service) Seal(f Flow, at time.Time) (string, error) {
	f.Ends = at.Add(flowLife)
	b, err := json.Marshal(f)
	if err != nil {
		return "", err
	}
	body := base64.RawURLEncoding.EncodeToString(b)
	return body + "." + s.mac("sign-in flow", body), nil
}

// Open reads a sealed flow.
func (s *Service) Open(text string, at time.Time) (Flow, error) {
	bad := fault.New(fault.Invalid, "SignInExpired", "This sign-in page is out of date.").WithRemedy("Go back to the program that sent you here and start again.")
	body, mac, ok := strings.Cut(text, ".")
	if !ok || len(text) > 16<<10 || !hmac.Equal([]byte(mac), []byte(s.mac("sign-in flow", body))) {
		return Flow{}, bad
	}
	b, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		return Flow{}, bad
	}
	var f Flow
	if json.Unmarshal(b, &f) != nil || !at.Before(f.Ends) || !strings.HasPrefix(f.Return, "/") || strings.HasPrefix(f.Return, "//") || strings.Contains(f.Return, "\\") {
		return Flow{}, bad
	}
	return f, nil
}

// Prove makes the proof that a step was taken: for this request, in this
// session, at this time.
func (s *Service) Prove(step Step, request, session string, at time.Time) string {
	when := strconv.FormatInt(at.Unix(), 10)
	return string(step) + "." + when + "." + s.mac("sign-in step", joined(string(step), when, request, session))
}

// Proven returns the step that a proof shows, and when; ok is false for every
// proof that is forged, too old, or of another request or session.
func (s *Service) Proven(proof, request, session string, at time.Time) (step Step, when time.Time, ok bool) {
	name, rest, _ := strings.Cut(proof, ".")
	stamp, mac, _ := strings.Cut(rest, ".")
	switch Step(name) {
	case StepPassword, StepAccount, StepConsent, StepDeclined:
	default:
		return "", time.Time{}, false
	}
	unix, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || !hmac.Equal([]byte(mac), []byte(s.mac("sign-in step", joined(name, stamp, request, session)))) {
		return "", time.Time{}, false
	}
	when = time.Unix(unix, 0).UTC()
	if at.Sub(when) > stepLife || when.After(at.Add(time.Second)) {
		return "", time.Time{}, false
	}
	return Step(name), when, true
}

// CSRF binds a form to the browser that got it: nonce is the value of a cookie
// that only our pages set.
func (s *Service) CSRF(nonce, form string) string { return s.mac("form", joined(nonce, form)) }

// CheckCSRF compares in constant time.
func (s *Service) CheckCSRF(nonce, form, token string) bool {
	return len(nonce) >= 22 && hmac.Equal([]byte(token), []byte(s.CSRF(nonce, form)))
}

func (s *Service) mac(label, text string) string {
	return base64.RawURLEncoding.EncodeToString(s.cfg.Hash(label, text))
}

// joined puts texts together so that none can run into the next.
func joined(texts ...string) string {
	var b []byte
	for _, t := range texts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(t)))
		b = append(b, t...)
	}
	return string(b)
}
