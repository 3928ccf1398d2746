package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"sallyport/internal/cloud"
	"sallyport/internal/collector"
	"sallyport/internal/conditional"
	"sallyport/internal/credential"
	"sallyport/internal/directory"
	"sallyport/internal/httpd"
	"sallyport/internal/keystore"
	"sallyport/internal/labwire"
	"sallyport/internal/machine"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/oauth"
	"sallyport/internal/rbac"
	"sallyport/internal/repeat"
	"sallyport/internal/repository"
	"sallyport/internal/resource"
	"sallyport/internal/resource/types"
	"sallyport/internal/rollout"
	"sallyport/internal/scope"
	"sallyport/internal/signin"
	"sallyport/internal/sshca"
	"sallyport/internal/store"
)

// Config is what a running server is made of.
type Config struct {
	Build      string // version of the program, for its status
	State      string // folder that Init made
	Database   Database
	at         store.Config
	Replica    string // this server's name among those of one database; "" is server-1
	Listen     string // host:port
	Packages   string // folder of packages to hand out; empty for none
	LabSocket  string // of `sally lab serve`; empty for a server that makes no machines
	Metrics    string // loopback host:port to serve Prometheus's text on; empty for none
	Passphrase []byte
	Signers    map[keystore.Purpose][]keystore.External // authorities' keys in other processes
	Abuse      Abuse
	Collectors Collectors
	TLS        TLSConfig
	// Sockets, where there are some, are listened on instead of Listen; a
	// service manager keeps them over a restart.
	Sockets []net.Listener
	// Reload means: look at the files now.
	Reload <-chan struct{}
	Now    func() time.Time
	Rand   io.Reader
	Log    *slog.Logger
	// LongestCertificate bounds the life of user certificates, whatever policies
	// say; 0 means 24 hours. A key that is replaced retires that much later.
	LongestCertificate time.Duration
	// Notify tells a service manager "READY=1" and "STOPPING=1"; nil for none.
	Notify func(state string) error
}

// hashSlots is how many passwords are hashed at a time.
const hashSlots = 2

// deployment is everything that the doors stand on.
type deployment struct {
	cfg      Config
	store    *store.Store
	keys     *keystore.Store
	trust    *authority
	manifest protocol.Manifest // as the server was opened: tenant, URL and TLS roots stay
	follow   *follower
	lag      *lagMeter
	replica  *replica
	tls      *certificates
	waiting  *httpd.Waiting         // polls over HTTP/1.1; nil before it serves
	packages *repository.Repository // nil without a folder of packages
	meter    *meter
	started  time.Time

	directory   *directory.Index
	roles       *rbac.Index
	gate        gate
	tree        *resource.Tree
	machineKeys *machine.Index
	wanted      *types.Machines

	repeats     *repeat.Counter
	revoked     *sshca.Revocations
	settings    *oauth.SettingsIndex
	policies    *conditional.Index
	policy      *conditional.Service
	people      *directory.Service
	credentials *credential.Service
	dirRoles    *rbac.DirectoryRoles
	engine      *resource.Engine
	collectors  map[string]*collector.Deliverer
	accounts    types.Accounts
	machines    *machine.Service
	upgrades    *rollout.Service
	documents   *machineKeys
	sessions    *signin.Service
	oauth       *oauth.Service
}

// open opens a deployment's store and keys, loads the indexes and connects the
// services.
func open(ctx context.Context, cfg Config) (*deployment, error) {
	if err := notRoot(); err != nil {
		return nil, err
	}
	if err := privateDir(cfg.State); err != nil {
		return nil, err
	}
	meter := newMeter()
	cfg, err := cfg.located()
	if err != nil {
		return nil, err
	}
	st, err := openStore(ctx, cfg, meter, databaseWait)
	if err != nil {
		return nil, err
	}
	d := &deployment{cfg: cfg, store: st, meter: meter, started: cfg.Now()}
	if err := d.connect(ctx); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return d, nil
}

// storeConfig says where a deployment's store is.
func (c Config) storeConfig(m *meter) store.Config {
	place := c.at
	if place.URL == "" {
		place = filePlace(c.State, c.Replica)
	}
	place.Now, place.Committed = c.Now, m.committed
	if c.LabSocket != "" {
		place.Ability = abilityMachines
	}
	return place
}

// located finds out whether the data is in a database.
func (c Config) located() (_ Config, err error) {
	c.at, err = c.Database.place(c.State, c.Replica)
	return c, err
}

func (d *deployment) connect(ctx context.Context) error {
	d.replica = newReplica(d.store.Shared(), d.cfg.Now)
	var err error
	if d.keys, err = keystore.Open(d.cfg.keyConfig()); err != nil {
		return err
	}
	if err := d.openTrust(ctx); err != nil {
		return err
	}
	if err := d.completeDirectory(ctx); err != nil {
		return err
	}
	if err := d.loadIndexes(ctx); err != nil {
		return err
	}
	if err := d.connectDirectory(); err != nil {
		return err
	}
	if err := d.connectMachines(); err != nil {
		return err
	}
	if err := d.loadPresences(ctx); err != nil {
		return err
	}
	if err := d.openCollectors(); err != nil {
		return err
	}
	return d.connectOAuth()
}

// loadIndexes loads every index and starts the follower at the position that
// the store had before.
func (d *deployment) loadIndexes(ctx context.Context) error {
	d.directory, d.tree, d.wanted = directory.NewIndex(), resource.NewTree(), types.NewMachines()
	d.roles = rbac.NewIndex(d.tree)
	d.revoked, d.settings, d.policies = sshca.NewRevocations(), oauth.NewSettingsIndex(), conditional.NewIndex()
	d.upgrades = d.newRollout()
	at := d.store.Position() // nothing writes before the follower runs
	// Two views of the store are as good as one: what is newer than the position
	// is read again by the follower.
	load, ctx := errgroup.WithContext(ctx)
	load.Go(func() error { return d.store.Read(ctx, func(t *store.Tx) error { return d.roles.Load(t) }) })
	load.Go(func() error {
		return d.store.Read(ctx, func(t *store.Tx) error {
			return errors.Join(d.tree.Load(t), d.directory.Load(t), d.machineKeys.Load(t), d.wanted.Load(t), d.revoked.Load(t), d.settings.Load(t), d.policies.Load(t), d.upgrades.Load(t), d.gate.load(t))
		})
	})
	err := load.Wait()
	d.follow = newFollower(d.store, at, d.cfg.Log, indexes{d})
	d.lag = &lagMeter{at: positions{stored: d.store.Position, indexed: d.follow.Position}}
	return err
}

// indexes brings all of them up to date with one change.
type indexes struct{ *deployment }

func (d indexes) refresh(t *store.Tx, c store.Change) error {
	touch := machine.Touch{Position: c.Position}
	d.concern(c, &touch)
	told := d.upgrades.Told()
	err := errors.Join(d.trust.refresh(t, c.Kind, c.Key), d.directory.Refresh(t, c.Kind, c.Key), d.tree.Refresh(t, c.Kind, c.Key), d.roles.Refresh(t, c.Kind, c.Key),
		d.machineKeys.Refresh(t, c.Kind, c.Key), d.wanted.Refresh(t, c.Kind, c.Key),
		d.revoked.Refresh(t, c.Kind, c.Key), d.settings.Refresh(t, c.Kind, c.Key), d.policies.Refresh(t, c.Kind, c.Key), d.upgrades.Refresh(t, c.Kind, c.Key), d.gate.refresh(t, c.Kind))
	d.concern(c, &touch)
	touch.All = touch.All || told != d.upgrades.Told()
	d.machines.Touch(touch)
	return err
}

func (d *deployment) connectDirectory() error {
	d.repeats = d.newRepeats()
	d.people = directory.NewService(directory.Config{Write: writes[directory.Tx](d), Index: d.directory, Authority: rbac.NewDirectoryAuthority(d.roles, d.directory), Rand: d.cfg.Rand, Repeats: d.repeats})
	d.dirRoles = rbac.NewDirectoryRoles(rbac.DirectoryRolesConfig{Write: writes[rbac.DirectoryTx](d), Index: d.roles, Directory: d.directory, Rand: d.cfg.Rand})
	d.policy = d.newPolicy()
	var err error
	d.credentials, err = credential.NewService(credential.Config{Write: writes[credential.Tx](d), Read: reads[credential.Tx](d), Directory: d.people,
		Slots: credential.NewFairSlots(hashSlots), Rand: d.cfg.Rand, Key: d.keys.Hash("credential", ""), Cost: credential.DefaultCost(), Repeats: d.repeats})
	return err
}

func (d *deployment) connectMachines() (err error) {
	d.documents = &machineKeys{authority: d.trust, keys: d.keys, rand: d.cfg.Rand, store: d.store, now: d.cfg.Now}
	d.machines = machine.New(machine.Config{Write: writes[machine.Tx](d), Read: reads[machine.Tx](d), Machines: d.machineKeys, Feed: d.follow, Directory: d.directory, Roles: d.roles,
		Resources: desired{d.wanted}, Keys: d.documents, Issuer: hostIssuer{d.trust}, Enroller: enroller{d}, HashKey: d.keys.Hash("machine", ""), Revoked: d.revokedSerials, LongestSession: d.settings.Longest, Upgrade: d.upgrades.Wish, Offline: d.settings.Offline, GroupsOf: d.directory.GroupsOf, Rand: d.cfg.Rand, Now: d.cfg.Now, Held: d.machineGate, Behind: d.behind()})
	d.engine, err = resource.New(resource.Config{Types: types.All(types.Config{Backend: d.backend(), Agents: agents{d.machines}, Rand: d.cfg.Rand, Server: d.manifest.URL, LoggedIn: d.loggedIn, PreviewAllowed: d.settings.Preview, Now: d.cfg.Now, Retire: d.retire, Stored: d.stored}),
		Write: writes[resource.Tx](d), Read: reads[resource.Tx](d), Rights: d.roles, Tenant: d.directory.Tenant, Rand: d.cfg.Rand, Repeats: d.repeats,
		Covers: d.people.Covers})
	d.accounts = types.Accounts{Engine: d.engine, Tenant: d.directory.Tenant, Write: writes[types.AccountsTx](d), Read: reads[types.AccountsTx](d)}
	return err
}

func (d *deployment) backend() types.Backend {
	if d.cfg.LabSocket == "" {
		return otherBackend{others: d.replica.othersMake, made: d.replica.othersMade}
	}
	return labBackend{lab: labwire.New(labwire.Config{Socket: d.cfg.LabSocket}), tokens: d.machines, now: d.cfg.Now, located: func(machineID string) (scope.ID, bool) {
		w, ok := d.wanted.Want(machineID)
		return w.ResourceID, ok
	}}
}

func (d *deployment) connectOAuth() error {
	d.sessions = signin.New(signin.Config{Write: writes[signin.Tx](d), Read: reads[signin.Tx](d), Rand: d.cfg.Rand, Hash: d.keys.Hash, Passwords: gatedPasswords{d.credentials, d}, Directory: d.directory})
	d.oauth = oauth.New(oauth.Config{URL: d.manifest.URL, Cloud: cloud.Of(d.manifest.Cloud), Write: writes[oauth.Tx](d), Read: reads[oauth.Tx](d), Rand: d.cfg.Rand, Hash: d.keys.Hash, Directory: d.directory, Principals: d.directory, Consents: d.directory,
		People: d.sessions, Clients: d.credentials, Tokens: d.trust.tokens, Issuer: d.trust, Longest: d.cfg.longest(),
		Settings: d.settings, Policies: d.policies.Policies, Roles: d.rolesOf, Rights: d.people, Repeats: d.repeats, Allow: newTokenLimit().Allow, Gate: d.principalGate})
	return nil
}

// writes hands a domain the store's Write with the transaction that it declared.
func writes[T any](d *deployment) func(context.Context, func(T) error) error {
	return func(ctx context.Context, f func(T) error) error {
		return d.follow.Write(ctx, func(t *store.Tx) error { return f(any(t).(T)) })
	}
}

// reads is the same for reading.
func reads[T any](d *deployment) func(context.Context, func(T) error) error {
	return func(ctx context.Context, f func(T) error) error {
		return d.store.Read(ctx, func(t *store.Tx) error { return f(any(t).(T)) })
	}
}

// The compiler checks here what writes and reads assert.
var (
	_ directory.Tx     = (*store.Tx)(nil)
	_ credential.Tx    = (*store.Tx)(nil)
	_ rbac.DirectoryTx = (*store.Tx)(nil)
	_ machine.Tx       = (*store.Tx)(nil)
	_ resource.Tx      = (*store.Tx)(nil)
	_ signin.Tx        = (*store.Tx)(nil)
	_ oauth.Tx         = (*store.Tx)(nil)
	_ conditional.Tx   = (*store.Tx)(nil)
	_ repeat.Tx        = (*store.Tx)(nil)
)
