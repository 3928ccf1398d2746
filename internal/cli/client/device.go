package client

import (
	"context"
	"errors"
	"net/url"
	"time"

	"sallyport/internal/directory"
	"sallyport/internal/fault"
)

const (
	deviceInterval = 5 * time.Second
	deviceSlower   = 5 * time.Second
)

// Device signs in with a code that the person types on any device (RFC 8628).
func (s *Server) Device(ctx context.Context, r Interactive) (Grant, Identity, error) {
	e, err := s.Endpoints(ctx, r.Tenant, true)
	if err != nil {
		return Grant{}, Identity{}, err
	}
	if e.Device == "" {
		return Grant{}, Identity{}, fault.New(fault.Unavailable, "NoDeviceFlow", "%s offers no device code flow", s.URL())
	}
	var d struct {
		DeviceCode string `json:"device_code"`
		Message    string `json:"message"`
		Interval   int64  `json:"interval"`
		ExpiresIn  int64  `json:"expires_in"`
	}
	form := url.Values{"client_id": {directory.SallyCLI}, "scope": {r.Scope + " " + userScopes}}
	if err := s.post(ctx, e.Device, form, &d); err != nil {
		return Grant{}, Identity{}, err
	}
	if d.DeviceCode == "" || d.Message == "" {
		return Grant{}, Identity{}, fault.New(fault.Unavailable, "BadDeviceCode", "%s sent no device code", s.URL())
	}
	r.Show(d.Message)
	interval := time.Duration(d.Interval) * time.Second
	if interval <= 0 {
		interval = deviceInterval
	}
	form = userForm(grantDevice, "", r.Extra)
	form.Set("device_code", d.DeviceCode)
	g, err := s.pollDevice(ctx, r.Tenant, form, interval, s.cfg.Now().Add(time.Duration(d.ExpiresIn)*time.Second))
	if err != nil {
		return Grant{}, Identity{}, err
	}
	id, err := s.identify(g, "")
	return g, id, err
}

func (s *Server) pollDevice(ctx context.Context, tenant string, form url.Values, interval time.Duration, end time.Time) (Grant, error) {
	for {
		if err := s.cfg.Wait(ctx, interval); err != nil {
			return Grant{}, err
		}
		g, err := s.token(ctx, tenant, form)
		var oe *OAuthError
		switch {
		case err == nil:
			return g, nil
		case !errors.As(err, &oe):
			return Grant{}, err
		case oe.Code == "slow_down":
			interval += deviceSlower
		case oe.Code != "authorization_pending":
			return Grant{}, err
		}
		if s.cfg.Now().After(end) {
			return Grant{}, fault.New(fault.Unauthenticated, "CodeExpired", "nobody used the code in time").WithRemedy("Run the command again for a new code.")
		}
	}
}
