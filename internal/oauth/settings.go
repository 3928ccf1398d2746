package oauth

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
)

// Settings are the tenant's switches: the ways to sign in, and how long that lasts.
type Settings struct {
	// AllowPasswordGrant lets programs send names and passwords: az login -u -p.
	AllowPasswordGrant bool `json:"allowPasswordGrant"`
	// AllowDeviceCode lets people confirm in one browser what another device
	// asks for: az login --use-device-code.
	AllowDeviceCode bool `json:"allowDeviceCode"`
	// AllowPreviewLogin lets machines take the preview version of the login
	// extension, which signs people in with device codes. It is off until somebody
	// allows it.
	AllowPreviewLogin bool `json:"allowPreviewLogin"`
	// LongestSession is after how many minutes machines end a session, whoever's
	// it is; 0: it has no end.
	LongestSession int `json:"longestSessionMinutes"`
	// OfflineUser and OfflineAdministrator are for how many seconds a machine that
	// does not hear from the server lets people log in, and use sudo.
	OfflineUser          int `json:"offlineUserSeconds"`
	OfflineAdministrator int `json:"offlineAdministratorSeconds"`
}

// The bounds of LongestSession: below the first nobody gets anything done, and
// above the second it is a promise that nobody checks.
const (
	leastSession = 5
	mostSession  = 30 * 24 * 60
)

// The bounds of the times without the server: below the first a restart of the
// server would lock people out, above the second nobody's removal is certain.
const (
	leastOffline = 30
	mostOffline  = 30 * 24 * 60 * 60

	usualOfflineUser          = 24 * 60 * 60
	usualOfflineAdministrator = 60 * 60
)

// DefaultSettings is what holds until somebody decides: az's commands work.
func DefaultSettings() Settings {
	return Settings{AllowPasswordGrant: true, AllowDeviceCode: true}.filled()
}

// filled is the settings with what was stored before somebody could decide it.
func (n Settings) filled() Settings {
	if n.OfflineUser == 0 {
		n.OfflineUser = usualOfflineUser
	}
	if n.OfflineAdministrator == 0 {
		n.OfflineAdministrator = usualOfflineAdministrator
	}
	return n
}

// SettingsTx stores the settings; a change is a change of kind "settings".
type SettingsTx interface {
	Settings() (s Settings, found bool, err error)
	PutSettings(Settings) error
}

// SettingsReader is what the index loads itself from.
type SettingsReader interface {
	Settings() (s Settings, found bool, err error)
}

// SettingsIndex holds the settings in memory. It is safe for concurrent use.
type SettingsIndex struct{ now atomic.Pointer[Settings] }

// NewSettingsIndex returns an index with the defaults.
func NewSettingsIndex() *SettingsIndex {
	x := &SettingsIndex{}
	s := DefaultSettings()
	x.now.Store(&s)
	return x
}

// Load reads the settings.
func (x *SettingsIndex) Load(r SettingsReader) error {
	s, found, err := r.Settings()
	if err != nil {
		return err
	}
	if !found {
		s = DefaultSettings()
	}
	s = s.filled()
	x.now.Store(&s)
	return nil
}

// Refresh follows one entry of the change feed; kinds other than "settings" are
// ignored.
func (x *SettingsIndex) Refresh(r SettingsReader, kind, _ string) error {
	if kind != "settings" {
		return nil
	}
	return x.Load(r)
}

// Longest returns how long a session on a machine may last; 0: it has no end.
func (x *SettingsIndex) Longest() time.Duration {
	return time.Duration(x.now.Load().LongestSession) * time.Minute
}

// Preview reports whether machines may take the preview version of the login
// extension.
func (x *SettingsIndex) Preview() bool { return x.now.Load().AllowPreviewLogin }

// Offline returns for how long grants hold on a machine without the server: for
// logins, and for what an administrator's role adds.
func (x *SettingsIndex) Offline() (user, administrator time.Duration) {
	s := x.now.Load()
	return time.Duration(s.OfflineUser) * time.Second, time.Duration(s.OfflineAdministrator) * time.Second
}

// Settings returns how people may sign in.
func (s *Service) Settings() Settings { return s.settings() }

func (s *Service) settings() Settings {
	if s.cfg.Settings == nil {
		return DefaultSettings()
	}
	return *s.cfg.Settings.now.Load()
}

// SettingsChange changes what is not nil.
type SettingsChange struct {
	AllowPasswordGrant *bool `json:"allowPasswordGrant"`
	AllowDeviceCode    *bool `json:"allowDeviceCode"`
	AllowPreviewLogin  *bool `json:"allowPreviewLogin"`
	LongestSession     *int  `json:"longestSessionMinutes"`

	OfflineUser          *int `json:"offlineUserSeconds"`
	OfflineAdministrator *int `json:"offlineAdministratorSeconds"`
}

// with is the settings after a change.
func (c SettingsChange) with(now Settings) (Settings, error) {
	if c.AllowPasswordGrant != nil {
		now.AllowPasswordGrant = *c.AllowPasswordGrant
	}
	if c.AllowDeviceCode != nil {
		now.AllowDeviceCode = *c.AllowDeviceCode
	}
	if c.AllowPreviewLogin != nil {
		now.AllowPreviewLogin = *c.AllowPreviewLogin
	}
	if c.LongestSession != nil {
		now.LongestSession = *c.LongestSession
		if n := now.LongestSession; n != 0 && (n < leastSession || n > mostSession) {
			return now, fault.New(fault.Invalid, "InvalidSessionAge", "a session ends after %d minutes to %d days, or never (0)", leastSession, mostSession/60/24).WithTarget("longestSessionMinutes")
		}
	}
	return c.offline(now)
}

// offline changes the times without the server. An administrator's is not the
// longer one: what it gives is more.
func (c SettingsChange) offline(now Settings) (Settings, error) {
	for _, m := range []struct {
		name string
		want *int
		is   *int
	}{{"offlineUserSeconds", c.OfflineUser, &now.OfflineUser}, {"offlineAdministratorSeconds", c.OfflineAdministrator, &now.OfflineAdministrator}} {
		if m.want == nil {
			continue
		}
		if *m.want < leastOffline || *m.want > mostOffline {
			return now, fault.New(fault.Invalid, "InvalidOfflineTime", "machines go on without the server for %d seconds to %d days", leastOffline, mostOffline/60/60/24).WithTarget(m.name)
		}
		*m.is = *m.want
	}
	if now.OfflineAdministrator > now.OfflineUser {
		return now, fault.New(fault.Invalid, "InvalidOfflineTime", "what an administrator's role adds cannot hold longer without the server than a login: %d and %d seconds", now.OfflineAdministrator, now.OfflineUser).
			WithTarget("offlineAdministratorSeconds").WithRemedy("Give both times, or a shorter one for administrators.")
	}
	return now, nil
}

// ChangeSettings changes the settings. Whether by may do that is the caller's
// question, and has been answered.
func (s *Service) ChangeSettings(ctx context.Context, by audit.By, c SettingsChange) (Settings, error) {
	var now Settings
	err := s.cfg.Write(ctx, func(tx Tx) error {
		old, found, err := tx.Settings()
		if err != nil {
			return err
		}
		if !found {
			old = DefaultSettings()
		}
		if now, err = c.with(old.filled()); err != nil || now == old {
			return err
		}
		if err := tx.PutSettings(now); err != nil {
			return err
		}
		return tx.Audit(by, audit.Event{Type: "tenant.update", Outcome: audit.Success, Target: s.TenantID(), Detail: map[string]string{
			"allowPasswordGrant": strconv.FormatBool(now.AllowPasswordGrant), "allowDeviceCode": strconv.FormatBool(now.AllowDeviceCode), "allowPreviewLogin": strconv.FormatBool(now.AllowPreviewLogin),
			"longestSessionMinutes": strconv.Itoa(now.LongestSession), "offlineUserSeconds": strconv.Itoa(now.OfflineUser), "offlineAdministratorSeconds": strconv.Itoa(now.OfflineAdministrator),
		}})
	})
	return now, err
}

func (n Settings) mayUsePassword() error {
	if n.AllowPasswordGrant {
		return nil
	}
	return refuse("unauthorized_client", 70003, "Programs may not send passwords in this tenant. Sign in with a browser: sally login. An administrator can allow it: sally tenant update --allow-password-grant true.")
}

func (n Settings) mayUseDeviceCode() error {
	if n.AllowDeviceCode {
		return nil
	}
	return refuse("unauthorized_client", 70003, "Signing in with a device code is switched off in this tenant. Sign in with a browser on this computer: sally login. An administrator can allow it: sally tenant update --allow-device-code true.")
}

// grants are those that discovery names.
func (n Settings) grants() []string {
	list := []string{"authorization_code", "refresh_token", "client_credentials"}
	if n.AllowPasswordGrant {
		list = append(list, "password")
	}
	if n.AllowDeviceCode {
		list = append(list, grantDevice)
	}
	return list
}

// switchedOff records who tried what the tenant does not allow.
func (s *Service) switchedOff(ctx context.Context, x *exchange, grant string, refusal error) error {
	event := audit.Event{Type: "token.issue", Outcome: audit.Denied, Target: x.by.Principal, Detail: map[string]string{"grant": grant, "code": "AADSTS70003"}}
	if err := s.recordRefusal(ctx, x.by, event); err != nil {
		return err
	}
	return refusal
}
