package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/cloud"
	"sallyport/internal/credential"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/keyring"
	"sallyport/internal/keystore"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/rbac"
	"sallyport/internal/resource"
	"sallyport/internal/resource/types"
	"sallyport/internal/store"
)

const (
	storeFile = "store.db"
	keysDir   = "keys"
	// tlsRootLife is how long the deployment's own TLS root lives.
	tlsRootLife = 10 * 365 * 24 * time.Hour
	writerName  = "server-1"
)

// InitConfig describes a new deployment.
type InitConfig struct {
	State       string // folder, private to the server's uid
	Database    Database
	Domain      string // verified domain of the directory, e.g. corp.example
	URL         string // https URL that people and machines use
	DisplayName string // of the tenant
	Cloud       string // of Azure's, which the deployment presents itself as; empty is the global one
	Admin       string // the part of the first administrator's UPN before '@'
	Passphrase  []byte // encrypts the keys at rest; may be empty
	Algorithms  map[keystore.Purpose]keystore.Algorithm
	Signers     map[keystore.Purpose][]keystore.External
	Now         func() time.Time
	Rand        io.Reader
}

// Deployment is what Init made.
type Deployment struct {
	Address  string // URL#THUMBPRINT: what people copy
	TenantID string
	AdminUPN string
	Password string // one-time, 24 hours
}

// Init makes a deployment in a folder: keys, store, directory, the first
// administrator, root management group and first subscription, and the first
// manifest. It refuses a folder that holds one, and leaves nothing behind when
// it fails.
func Init(ctx context.Context, cfg InitConfig) (d Deployment, err error) {
	if err := notRoot(); err != nil {
		return Deployment{}, err
	}
	address, err := checkURL(cfg.URL)
	if err != nil {
		return Deployment{}, err
	}
	if cfg.Cloud, err = checkCloud(cfg.Cloud); err != nil {
		return Deployment{}, err
	}
	if err := privateDir(cfg.State); err != nil {
		return Deployment{}, err
	}
	if err := cfg.Database.check(); err != nil {
		return Deployment{}, err
	}
	place, err := cfg.Database.place(cfg.State, "")
	if err != nil {
		return Deployment{}, err
	}
	place.Now = cfg.Now
	st, err := store.Create(ctx, place)
	if err != nil {
		return Deployment{}, err
	}
	keyDir := filepath.Join(cfg.State, keysDir)
	_, statErr := os.Lstat(keyDir)
	defer func() {
		err = errors.Join(err, st.Close())
		if err == nil {
			return
		}
		store.Remove(place)
		if place.URL != "" {
			_ = os.Remove(filepath.Join(cfg.State, databaseFile))
		}
		if os.IsNotExist(statErr) {
			_ = os.RemoveAll(keyDir)
		}
	}()
	keys, err := keystore.Create(keystore.Config{Dir: keyDir, Rand: cfg.Rand, Passphrase: cfg.Passphrase, Algorithms: cfg.Algorithms, External: cfg.Signers})
	if err != nil {
		return Deployment{}, operators(err)
	}
	cfg.URL = address
	if place.URL != "" {
		if err := cfg.Database.keep(cfg.State); err != nil {
			return Deployment{}, err
		}
	}
	return bootstrap(ctx, cfg, st, keys)
}

// notRoot holds the server to DESIGN's "never as root".
func notRoot() error {
	if os.Geteuid() == 0 {
		return fault.New(fault.Forbidden, "RunsAsRoot", "the server does not run as root").
			WithRemedy("Run it under a uid of its own, for example: setpriv --reuid 7701 --regid 7701 --clear-groups sally server ...")
	}
	return nil
}

// checkURL returns the server's URL without a trailing slash; it must be https
// and at the root of its host, because Azure's clients drop path prefixes.
func checkURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", fault.New(fault.Invalid, "InvalidURL", "%q is not an https URL of a host", text).WithRemedy("Give the address that people will use, for example: --url https://login.corp.example")
	}
	return "https://" + strings.ToLower(u.Host), nil
}

// checkCloud returns a cloud's name as the manifest has it: nothing for the global
// one.
func checkCloud(name string) (string, error) {
	c, ok := cloud.Named(name)
	switch {
	case !ok:
		return "", fault.New(fault.Invalid, "UnknownCloud", "%.40q is none of Azure's clouds", name).WithRemedy("Give one of: %s", strings.Join(cloud.Names(), ", "))
	case c.Name == cloud.Global:
		return "", nil
	}
	return c.Name, nil
}

// privateDir checks the state folder, and makes it where it is missing.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fault.Wrap(err, fault.Unavailable, "StateFolder", "cannot make the state folder %s: %s", dir, system(err))
	}
	return ownFolder(dir)
}

func errFolder(dir string, err error) error {
	return fault.Wrap(err, fault.Unavailable, "StateFolder", "cannot read the state folder %s: %s", dir, system(err))
}

// ownFolder checks that a folder is this uid's alone, and not a machine's: the agent
// keeps its files in the folder that the packaged server has.
func ownFolder(dir string) error {
	for _, file := range []string{"agent", "nss.db"} {
		if _, err := os.Lstat(filepath.Join(dir, file)); err == nil {
			return fault.New(fault.Conflict, "ComputerIsMachine", "%s is where this computer keeps what it is as a machine: a computer is a server or a machine, not both", dir).
				WithRemedy("Make the server on another computer, or run: sally machine disconnect. If the folder's owner or mode was changed for the server: chown root:root %s && chmod 0755 %s", dir, dir)
		}
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return errFolder(dir, err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || info.Mode().Perm() != 0o700 || int(st.Uid) != os.Geteuid() {
		return fault.New(fault.Forbidden, "StateFolder", "%s must be a folder of uid %d with mode 0700", dir, os.Geteuid())
	}
	return nil
}

func bootstrap(ctx context.Context, cfg InitConfig, st *store.Store, keys *keystore.Store) (Deployment, error) {
	by := audit.By{Type: audit.Task, Name: "server init", CorrelationID: zeroID, At: cfg.Now()}
	index := directory.NewIndex()
	dir := directory.NewService(directory.Config{Index: index, Authority: rbac.NewDirectoryAuthority(rbac.NewIndex(resource.NewTree()), index), Rand: cfg.Rand,
		Write: func(ctx context.Context, f func(directory.Tx) error) error {
			return st.Write(ctx, func(t *store.Tx) error { return f(t) })
		}})
	creds, err := credential.NewService(credential.Config{Directory: dir, Slots: credential.NewFairSlots(1), Rand: cfg.Rand, Key: keys.Hash("credential", ""), Cost: credential.DefaultCost()})
	if err != nil {
		return Deployment{}, err
	}
	once, err := creds.NewOneTime()
	if err != nil {
		return Deployment{}, err
	}
	var ids [3]string // the subscription, and the first two role assignments
	for i := range ids {
		if ids[i], err = guid.New(cfg.Rand); err != nil {
			return Deployment{}, err
		}
	}
	d := Deployment{AdminUPN: strings.ToLower(cfg.Admin + "@" + cfg.Domain), Password: once.Text}
	err = st.Write(ctx, func(t *store.Tx) error {
		tenant, admin, err := dir.Bootstrap(t, by, directory.Bootstrap{DisplayName: cfg.DisplayName, Domain: cfg.Domain, AdminUPN: d.AdminUPN, AdminName: "Administrator"})
		if err != nil {
			return err
		}
		d.TenantID = tenant.ID
		if err := creds.GiveOneTime(t, by, admin.ID, once); err != nil {
			return err
		}
		setup := types.Setup{TenantID: tenant.ID, AdministratorID: admin.ID, SubscriptionID: ids[0], SubscriptionName: cfg.DisplayName, Assignments: [2]string(ids[1:])}
		if err := types.Bootstrap(t, by, setup); err != nil {
			return err
		}
		signed, err := firstManifest(cfg, keys, tenant)
		if err != nil {
			return err
		}
		if d.Address, err = address(cfg.URL, signed); err != nil {
			return err
		}
		if err := t.PutManifest(signed); err != nil {
			return err
		}
		m, err := signed.Open(signed.Envelope.KeyID)
		if err != nil {
			return err
		}
		return t.PutKeyring(keyring.Of(m, 0)) // no certificate has been signed yet
	})
	return d, err
}

// zeroID is the correlation id of what no request caused.
const zeroID = "00000000-0000-0000-0000-000000000000"

func firstManifest(cfg InitConfig, keys *keystore.Store, tenant directory.Tenant) (protocol.SignedManifest, error) {
	now := cfg.Now().UTC().Truncate(time.Second)
	root, err := keys.TLSRoot(cfg.Domain, now.Add(-time.Hour), now.Add(tlsRootLife))
	if err != nil {
		return protocol.SignedManifest{}, err
	}
	return keys.SignManifest(protocol.Manifest{Tenant: tenant.ID, Domains: tenant.Domains, URL: cfg.URL, Cloud: cfg.Cloud, Epoch: 1, Version: 1, IssuedAt: now, TLSRoots: [][]byte{root}})
}

// address joins the URL and the manifest key's thumbprint.
func address(url string, m protocol.SignedManifest) (string, error) {
	pub, err := x509.ParsePKIXPublicKey(m.ManifestKey)
	if err != nil {
		return "", fmt.Errorf("manifest key: %w", err)
	}
	id, err := protocol.Thumbprint(pub)
	return url + "#" + id, err
}
