package credential

import (
	"crypto/hmac"
	"encoding/base64"
	"strconv"
	"strings"
	"time"
)

// A browser in which somebody signed in keeps a token that says so: whoever
// shows it is counted for himself in the lock-out, and nobody else can lock him
// out there. It proves no identity. The form is a nonce, the time and a MAC over
// both and the user; a browser keeps the newest few, for several people.
const (
	deviceLife  = 365 * 24 * time.Hour
	maxDevices  = 4
	deviceLimit = 1024 // bytes of all of them
)

// Remember returns what a browser shall show next time, given what it shows now.
func (s *Service) Remember(userID, shown string, at time.Time) (string, error) {
	nonce, err := s.random(16)
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString(nonce) + "." + strconv.FormatInt(at.Unix(), 10)
	list := []string{text + "." + s.deviceMAC(userID, text)}
	for _, old := range devices(shown) {
		if _, _, mine := s.device(userID, old, at); !mine && len(list) < maxDevices {
			list = append(list, old)
		}
	}
	return strings.Join(list, "~"), nil
}

func devices(shown string) []string {
	if len(shown) > deviceLimit {
		return nil
	}
	var list []string
	for _, d := range strings.Split(shown, "~") {
		if strings.Count(d, ".") == 2 && len(d) <= 128 && len(list) < maxDevices {
			list = append(list, d)
		}
	}
	return list
}

// device returns the nonce and time of one token that is the user's.
func (s *Service) device(userID, token string, at time.Time) (nonce string, since time.Time, ok bool) {
	nonce, rest, _ := strings.Cut(token, ".")
	when, mac, _ := strings.Cut(rest, ".")
	seconds, err := strconv.ParseInt(when, 10, 64)
	if err != nil || len(nonce) != 22 || userID == "" || !hmac.Equal([]byte(mac), []byte(s.deviceMAC(userID, nonce+"."+when))) {
		return "", time.Time{}, false
	}
	since = time.Unix(seconds, 0).UTC()
	return nonce, since, !at.Before(since) && at.Sub(since) < deviceLife
}

// deviceOf finds the user's token among those that a browser shows.
func (s *Service) deviceOf(userID, shown string, at time.Time) (nonce string, since time.Time, ok bool) {
	for _, d := range devices(shown) {
		if nonce, since, ok = s.device(userID, d, at); ok {
			return nonce, since, true
		}
	}
	return "", time.Time{}, false
}

func (s *Service) deviceMAC(userID, text string) string {
	return strings.NewReplacer("+", "-", "/", "_").Replace(s.keyed("device", userID+"\x00"+text))
}
