package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/audit"
	"sallyport/internal/credential"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/rbac"
	"sallyport/internal/resource"
	"sallyport/internal/scope"
	"sallyport/internal/store"
)

// RecoverConfig names who becomes an administrator again.
type RecoverConfig struct {
	State string
	UPN   string // empty: admin@ the first domain
	Now   func() time.Time
	Rand  io.Reader
}

// Recovered is an administrator with a one-time password.
type Recovered struct {
	UPN      string
	Password string // one-time, 24 hours
	Created  bool   // there was nobody of that name
}

// RecoverAdministrator makes or re-enables an account that is Global
// Administrator and Owner of the root management group, with a one-time
// password. Everything that the account was given before is dead. It works on a
// deployment that no server serves, for whoever is the server's own user: he
// could change the store by hand, and this leaves a record.
func RecoverAdministrator(ctx context.Context, cfg RecoverConfig) (Recovered, error) {
	if err := notRoot(); err != nil {
		return Recovered{}, err
	}
	return recoverAdministrator(ctx, cfg)
}

func recoverAdministrator(ctx context.Context, cfg RecoverConfig) (out Recovered, err error) {
	place, err := Config{State: cfg.State, Now: cfg.Now}.located()
	if err != nil {
		return out, err
	}
	st, err := store.Open(ctx, place.storeConfig(newMeter()))
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	r, err := newRecovery(cfg, st)
	if err != nil {
		return out, err
	}
	err = st.Write(ctx, func(t *store.Tx) error {
		out = Recovered{Password: r.once.Text}
		return r.write(t, &out)
	})
	return out, err
}

// recovery is what one run needs.
type recovery struct {
	cfg    RecoverConfig
	by     audit.By
	people *directory.Service
	creds  *credential.Service
	once   credential.OneTime
	ids    [2]string // of role assignments
}

func newRecovery(cfg RecoverConfig, st *store.Store) (r recovery, err error) {
	r = recovery{cfg: cfg, by: audit.By{Type: audit.Task, Name: "server recover-admin", At: cfg.Now()}}
	if r.by.CorrelationID, err = guid.New(cfg.Rand); err != nil {
		return r, err
	}
	for i := range r.ids {
		if r.ids[i], err = guid.New(cfg.Rand); err != nil {
			return r, err
		}
	}
	x := directory.NewIndex()
	r.people = directory.NewService(directory.Config{Index: x, Authority: rbac.NewDirectoryAuthority(rbac.NewIndex(resource.NewTree()), x), Rand: cfg.Rand,
		Write: func(ctx context.Context, f func(directory.Tx) error) error {
			return st.Write(ctx, func(t *store.Tx) error { return f(t) })
		}})
	unused := make([]byte, 32) // keys the hashes of client secrets, of which none is made here
	if _, err := io.ReadFull(cfg.Rand, unused); err != nil {
		return r, err
	}
	if r.creds, err = credential.NewService(credential.Config{Directory: r.people, Slots: credential.NewFairSlots(1), Rand: cfg.Rand, Key: unused, Cost: credential.DefaultCost()}); err != nil {
		return r, err
	}
	r.once, err = r.creds.NewOneTime()
	return r, err
}

func (r recovery) write(t *store.Tx, out *Recovered) error {
	tenant, found, err := t.TenantRecord()
	if err != nil || !found {
		return errors.Join(err, fault.New(fault.NotFound, "ManifestMissing", "the store holds no deployment").WithRemedy("Make one with: sally server init"))
	}
	if out.UPN = strings.ToLower(r.cfg.UPN); out.UPN == "" {
		out.UPN = "admin@" + tenant.Domains[0]
	}
	u, found, err := t.UserByUPN(out.UPN)
	if err != nil {
		return err
	}
	if out.Created = !found; out.Created {
		if u, err = r.people.CreateUserIn(t, r.by, directory.NewUser{UPN: out.UPN, DisplayName: "Administrator", Enabled: true}); err != nil {
			return err
		}
	}
	u.Enabled, u.NotBefore = true, t.Now()
	for _, step := range []func() error{
		func() error { return t.PutUser(u) },
		func() error { return r.creds.GiveOneTime(t, r.by, u.ID, r.once) },
		func() error { return t.ForgetAttemptsAt(u.ID) },
		func() error { return r.lead(t, tenant, u) },
		func() error {
			return t.Audit(r.by, audit.Event{Type: "administrator.recover", Outcome: audit.Success, Target: u.ID,
				Detail: map[string]string{"userPrincipalName": u.UPN, "created": strconv.FormatBool(out.Created), "localUid": strconv.Itoa(os.Geteuid())}})
		},
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// lead gives the two roles where the user himself does not hold them.
func (r recovery) lead(t *store.Tx, tenant directory.Tenant, u directory.User) error {
	wanted := []rbac.Assignment{{Scope: scope.ManagementGroup(tenant.ID), RoleID: rbac.Owner}, {Scope: scope.Directory(), RoleID: rbac.GlobalAdministrator}}
	held := map[string]bool{}
	if err := t.EachRoleAssignment(func(a rbac.Assignment) error {
		if strings.EqualFold(a.PrincipalID, u.ID) {
			held[a.Scope.Key()+" "+strings.ToLower(a.RoleID)] = true
		}
		return nil
	}); err != nil {
		return err
	}
	for i, a := range wanted {
		if held[a.Scope.Key()+" "+strings.ToLower(a.RoleID)] {
			continue
		}
		a.ID, a.PrincipalID, a.PrincipalType, a.Description = r.ids[i], u.ID, "User", "sally server recover-admin"
		a.CreatedAt, a.UpdatedAt = t.Now(), t.Now()
		if err := t.PutRoleAssignment(a); err != nil {
			return err
		}
		if err := t.Audit(r.by, audit.Event{Type: "roleAssignment.write", Outcome: audit.Success, Target: a.Scope.String(), Detail: map[string]string{"role": a.RoleID, "principal": u.ID}}); err != nil {
			return err
		}
	}
	return nil
}

func recoverCommand() *cobra.Command {
	cfg := RecoverConfig{Now: time.Now, Rand: rand.Reader}
	var passwordFile string
	cmd := &cobra.Command{
		Use: "recover-admin", Short: "Make an administrator when none can sign in; no server may be running.", Args: cobra.NoArgs,
		Long: "Makes or re-enables an account that is Global Administrator and Owner of the root management group, and gives it a one-time password. Everything that was issued to the account\n" +
			"before is dead. It needs the server's own user and refuses a deployment that a server serves; the audit log has it.",
		Example: "  setpriv --reuid sallyport --regid sallyport --clear-groups sally server recover-admin --state /var/lib/sallyport --user admin@corp.example",
		RunE: func(cmd *cobra.Command, _ []string) error {
			files, err := reserve(passwordFile, "")
			if err != nil {
				return err
			}
			r, err := RecoverAdministrator(cmd.Context(), cfg)
			if err != nil {
				return errors.Join(err, files.discard())
			}
			return printRecovered(cmd.OutOrStdout(), r, files)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.State, "state", "", "Folder of the deployment.")
	f.StringVar(&cfg.UPN, "user", "", "User principal name; admin@ the first domain without it. Nobody of that name: he is created.")
	f.StringVar(&passwordFile, "password-file", "", "Write the one-time password to this new file (0600) instead of the terminal.")
	_ = cmd.MarkFlagRequired("state") // the flag exists above
	return cmd
}

func printRecovered(out io.Writer, r Recovered, f files) error {
	what := "was there, is enabled and"
	if r.Created {
		what = "is new and"
	}
	var failed error
	where := "One-time password: " + r.Password
	if f.password != nil {
		if failed = write(f.password, r.Password+"\n"); failed == nil {
			where = "The one-time password is in " + f.password.Name() + "."
		}
	}
	_, err := fmt.Fprintf(out, "%s %s holds Global Administrator and Owner of the root management group.\n%s\nIt works for 24 hours and must be changed at the first sign-in.\n\n"+
		"Next: sally server run, and then: sally account password change --server ADDRESS --username %s\n", r.UPN, what, where, r.UPN)
	return errors.Join(failed, err)
}
