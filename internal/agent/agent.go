package agent

import (
	"context"
	"crypto"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"sallyport/internal/agent/caller"
	"sallyport/internal/agent/control"
	"sallyport/internal/agent/imds"
	"sallyport/internal/agent/pin"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// Root is the root part. control.Client satisfies it.
type Root interface {
	Ask(ctx context.Context, r control.Request) (control.Answer, error)
}

// Config is what an Agent stands on.
type Config struct {
	Pins      pin.Machine
	Key       crypto.Signer
	Root      Root
	Version   string
	Addresses func() []string
	Now       func() time.Time
	Wait      func(ctx context.Context, d time.Duration)
	Rand      io.Reader // for jitter
	Log       func(format string, args ...any)
	// Callers, where set, is where the root part hands over who asks for the
	// machine's identity.
	Callers    func(ctx context.Context, f func(caller.Taken)) error
	Interfaces func() []imds.Interface
	Inventory  bool // tell the server what the root part reads of the machine
}

// Agent is the network part.
type Agent struct {
	cfg Config

	mu      sync.Mutex
	client  *client
	trusted [2]int64      // epoch and version of the manifest that the client trusts
	turned  chan struct{} // a new manifest came: the host certificate may be due
	// Until then the server counts as one of the first protocol version: for polls,
	// and for reports. What it refuses in a report says nothing about its snapshots.
	olderPolls, olderReports time.Time
}

// New makes an Agent.
func New(cfg Config) *Agent { return &Agent{cfg: cfg, turned: make(chan struct{}, 1)} }

const (
	pollWait   = 55 * time.Second
	callTime   = 30 * time.Second
	forceWait  = 10 * time.Second // for a new manifest to be in force
	firstPause = 200 * time.Millisecond
	lastPause  = 30 * time.Second
	reportTime = 5 * time.Minute // between reports that say nothing new
	certRetry  = time.Minute
	certLook   = time.Hour
	// olderTime is how long a server is not asked again whether it speaks the
	// newest version of the protocol.
	olderTime = 10 * time.Minute
)

// Run works until ctx ends.
func (a *Agent) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, loop := range []func(context.Context, *pause){a.polls, a.reports, a.certificates, a.identity, a.devices, a.inventories, a.upgrades} {
		all.Go(func() { loop(ctx, &pause{agent: a}) })
	}
	all.Wait()
}

// pause is the time between attempts: doubled by every failure, with jitter so
// that ten thousand machines do not come back at once.
type pause struct {
	agent *Agent
	next  time.Duration
}

func (p *pause) failed(ctx context.Context, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	p.agent.cfg.Log("%s: %v", what, err)
	p.next = min(max(2*p.next, firstPause), lastPause)
	var b [4]byte
	_, _ = io.ReadFull(p.agent.cfg.Rand, b[:])
	spread := time.Duration(uint64(p.next) * uint64(binary.BigEndian.Uint32(b[:])) >> 32)
	p.agent.cfg.Wait(ctx, p.next/2+spread)
}

// server returns a client that trusts what the root part's manifest trusts.
func (a *Agent) server(m *protocol.SignedManifest) (*client, protocol.Manifest, error) {
	if m == nil {
		return nil, protocol.Manifest{}, fault.New(fault.Unavailable, "NoManifest", "the root part holds no manifest")
	}
	manifest, err := a.cfg.Pins.OpenManifest(*m)
	if err != nil {
		return nil, manifest, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	version := [2]int64{manifest.Epoch, manifest.Version}
	if a.client != nil && a.trusted == version {
		return a.client, manifest, nil
	}
	c, err := newClient(clientConfig{URL: a.cfg.Pins.URL, Address: a.cfg.Pins.Address, Trust: manifest, Key: a.cfg.Key, Pinned: true})
	if err != nil {
		return nil, manifest, err
	}
	a.client, a.trusted = c, version
	return c, manifest, nil
}

func (a *Agent) status(ctx context.Context) (*control.Status, *client, protocol.Manifest, error) {
	answer, err := a.cfg.Root.Ask(ctx, control.Request{Op: control.OpStatus})
	if err != nil {
		return nil, nil, protocol.Manifest{}, err
	}
	c, m, err := a.server(answer.Status.Manifest)
	return answer.Status, c, m, err
}

// polls keeps one long poll open and carries what it brings to the root part.
func (a *Agent) polls(ctx context.Context, p *pause) {
	for ctx.Err() == nil {
		if err := a.poll(ctx); err != nil {
			p.failed(ctx, "poll", err)
			continue
		}
		p.next = 0
	}
}

func (a *Agent) poll(ctx context.Context) error {
	st, c, m, err := a.status(ctx)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, pollWait+callTime)
	defer cancel()
	var answer protocol.PollAnswer
	request := protocol.PollRequest{Capability: protocol.Unchanged, Epoch: st.Epoch, Version: st.Version, IssuedAt: st.IssuedAt, Manifest: m.Version, WaitMillis: pollWait.Milliseconds()}
	newest := a.speaksNewest(&a.olderPolls)
	if newest {
		request.Capability, request.ManifestEpoch, request.AppliedEpoch, request.AppliedManifest = speaks(st), m.Epoch, st.AppliedEpoch, st.AppliedManifest
		request.AccountsEpoch, request.Accounts = st.AccountsEpoch, st.Accounts
	}
	err = c.call(limited, "POST", "/machine/v1/poll", request, &answer)
	if newest && fault.Is(err, fault.Invalid) {
		a.speakFirst(&a.olderPolls)
		return nil
	}
	if err != nil {
		return err
	}
	return a.carry(ctx, answer)
}

// carry brings the documents of one answer to the root part. One that it does not
// take holds no other up: a manifest that finds no room on the disk must not keep
// anybody in whom the snapshot takes away.
func (a *Agent) carry(ctx context.Context, answer protocol.PollAnswer) error {
	var failed []error
	deliver := func(r control.Request) bool {
		_, err := a.cfg.Root.Ask(ctx, r)
		failed = append(failed, err)
		return err == nil
	}
	turned := answer.Manifest != nil && deliver(control.Request{Op: control.OpManifest, Manifest: answer.Manifest})
	if answer.Accounts != nil {
		deliver(control.Request{Op: control.OpAccounts, Accounts: answer.Accounts})
	}
	if answer.Snapshot != nil {
		deliver(control.Request{Op: control.OpSnapshot, Snapshot: answer.Snapshot})
	}
	if !turned {
		return errors.Join(failed...)
	}
	select {
	case a.turned <- struct{}{}:
	default:
	}
	// The next poll is to acknowledge the manifest. Where this fails, a later one does.
	_, _ = a.cfg.Root.Ask(ctx, control.Request{Op: control.OpStatus, WaitMillis: forceWait.Milliseconds()})
	return errors.Join(failed...)
}

// reports tells the server what the root part has reached, as soon as it has.
func (a *Agent) reports(ctx context.Context, p *pause) {
	last := sent{generation: -1}
	for ctx.Err() == nil {
		if err := a.report(ctx, &last); err != nil {
			p.failed(ctx, "report", err)
			last.generation = -1
			continue
		}
		p.next = 0
	}
}

// sent is what the server was told last.
type sent struct {
	generation int64
	addresses  []string
	at         time.Time
	events     []string // ids that the server has and the root part may forget
	limit      int      // of the next batch: halved until the event that the server refuses is alone
}

func (a *Agent) report(ctx context.Context, last *sent) error {
	answer, err := a.cfg.Root.Ask(ctx, control.Request{Op: control.OpEvents, Acknowledge: last.events, Generation: last.generation, WaitMillis: pollWait.Milliseconds(), Limit: last.limit})
	if err != nil {
		return err
	}
	last.events = nil
	st, addresses := answer.Status, a.cfg.Addresses()
	now := a.cfg.Now()
	if len(answer.Events) == 0 && st.Generation == last.generation && slices.Equal(addresses, last.addresses) && now.Sub(last.at) < reportTime {
		return nil
	}
	c, _, err := a.server(st.Manifest)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	last.limit = 0
	report := protocol.Report{Capability: protocol.Unchanged, Agent: a.cfg.Version, Revision: st.Revision, Provisioned: st.Provisioned,
		ExitCode: st.ExitCode, Message: st.Message, Addresses: addresses, HostKeys: st.HostKeys, Events: unnumbered(answer.Events)}
	full := a.speaksNewest(&a.olderReports)
	if full {
		report.Capability, report.Witnessed, report.Sessions, report.MoreSessions = speaks(st), newest(st.Witnessed), st.Sessions, st.MoreSessions
		if report.Events = answer.Events; answer.Batch != nil {
			report.Events, report.Batch = nil, answer.Batch
		}
		if report.Capability >= protocol.UpgradeCapability {
			report.Upgrade = st.Upgrade
		}
	}
	err = c.call(limited, "POST", "/machine/v1/report", report, nil)
	switch event := err != nil && fault.As(err).Code == protocol.CodeEvent; {
	case full && fault.Is(err, fault.Invalid) && !event:
		a.speakFirst(&a.olderReports)
		last.generation = -1 // the same again in the first version's form
		return nil
	case fault.Is(err, fault.Invalid) && len(answer.Events) > 1:
		// Half of them next, so that one event costs no other.
		last.limit, last.generation = len(answer.Events)/2, -1
		return nil
	case fault.Is(err, fault.Invalid) && len(answer.Events) == 1:
		a.cfg.Log("the server refuses the event %s, which is dropped: %v", answer.Events[0].ID, err)
		last.events, last.generation = []string{answer.Events[0].ID}, -1 // the rest of the report, without it
		return nil
	}
	if err != nil {
		return err
	}
	*last = sent{generation: st.Generation, addresses: addresses, at: now}
	for _, e := range answer.Events {
		last.events = append(last.events, e.ID)
	}
	return nil
}

// speaksNewest says whether the server is taken to speak the newest version of
// the protocol; speakFirst notes that it refused it.
func (a *Agent) speaksNewest(older *time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.cfg.Now().Before(*older)
}

func (a *Agent) speakFirst(older *time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	*older = a.cfg.Now().Add(olderTime)
}

// unnumbered is events in the first version's form.
func unnumbered(events []protocol.MachineEvent) []protocol.MachineEvent {
	out := slices.Clone(events)
	for i := range out {
		out[i].Sequence = 0
	}
	return out
}

// newest returns the newest head of each writer: the root part keeps the others.
func newest(heads []protocol.Witnessed) []protocol.Witnessed {
	var out []protocol.Witnessed
	for _, h := range slices.Backward(heads) {
		if len(out) < protocol.MaxWitnessed && !slices.ContainsFunc(out, func(o protocol.Witnessed) bool { return o.Head.Writer == h.Head.Writer }) {
			out = append(out, h)
		}
	}
	return out
}

// certificates renews the host certificate at half of its life.
func (a *Agent) certificates(ctx context.Context, p *pause) {
	for ctx.Err() == nil {
		wait, err := a.certificate(ctx)
		if err != nil {
			p.failed(ctx, "host certificate", err)
			continue
		}
		p.next = 0
		a.rest(ctx, wait)
	}
}

// rest waits until the host certificate has to be looked at again: later, or
// when a manifest has come.
func (a *Agent) rest(ctx context.Context, d time.Duration) {
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-a.turned:
			stop()
		case <-waiting.Done():
		}
	}()
	a.cfg.Wait(waiting, d)
}

func (a *Agent) certificate(ctx context.Context) (time.Duration, error) {
	st, c, _, err := a.status(ctx)
	if err != nil {
		return 0, err
	}
	if due := st.HostRenew.Sub(a.cfg.Now()); !st.HostRenew.IsZero() && due > 0 {
		return min(due, certLook), nil
	}
	proof, err := a.cfg.Root.Ask(ctx, control.Request{Op: control.OpHostProof})
	if err != nil {
		return 0, err
	}
	limited, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	var answer protocol.HostCertificateAnswer
	if err := c.call(limited, "POST", "/machine/v1/hostcertificate", protocol.HostCertificateRequest{Proof: *proof.Proof}, &answer); err != nil {
		return 0, err
	}
	if _, err := a.cfg.Root.Ask(ctx, control.Request{Op: control.OpHostCertificate, Certificate: answer.Certificate}); err != nil {
		return 0, err
	}
	return certRetry, nil
}
