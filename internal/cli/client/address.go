package client

import (
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strings"

	"sallyport/internal/fault"
)

// ParseAddress reads what people copy: https://HOST[:PORT][#THUMBPRINT]. The
// URL comes back without a trailing slash, its host in lower case.
func ParseAddress(text string) (serverURL, pin string, err error) {
	bad := func(why string) (string, string, error) {
		return "", "", fault.New(fault.Invalid, "ServerAddress", "%q is not a server address: %s", text, why).
			WithRemedy("It looks like https://sallyport.example.com#THUMBPRINT; the server prints it when it starts.")
	}
	u, perr := url.Parse(strings.TrimSpace(text))
	if perr != nil {
		return bad("it is not a URL")
	}
	switch {
	case u.Scheme != "https":
		return bad("it must begin with https://")
	case u.Host == "" || u.Hostname() == "":
		return bad("it has no host")
	case u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "":
		return bad("it may hold a host, a port and a thumbprint only")
	}
	if pin = u.Fragment; pin != "" {
		raw, derr := base64.RawURLEncoding.Strict().DecodeString(pin)
		if derr != nil || len(raw) != sha256.Size {
			return bad("the text after # is not a thumbprint")
		}
	}
	host := strings.TrimSuffix(strings.ToLower(u.Host), ":443")
	return "https://" + host, pin, nil
}

// sameOrigin reports whether link has the scheme, host and port of base.
func sameOrigin(base, link string) bool {
	b, err1 := url.Parse(base)
	l, err2 := url.Parse(link)
	if err1 != nil || err2 != nil || l.User != nil {
		return false
	}
	return l.Scheme == "https" && strings.EqualFold(strings.TrimSuffix(l.Host, ":443"), strings.TrimSuffix(b.Host, ":443"))
}
