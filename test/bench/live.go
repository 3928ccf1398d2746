package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/test/bench/agents"
	"sallyport/test/bench/many"
)

const (
	vmAdministrator = "1c0163c0-47e6-4577-8991-ea5c82e286e4" // Virtual Machine Administrator Login
	theAssignment   = "7c1b7c2e-52d7-4c2a-9d55-0b6f3f7e1ee0"
)

// fleetWorld is a server with machines: simulated ones, and some of the lab.
type fleetWorld struct {
	*world
	config   fleetConfig
	fleet    *agents.Fleet
	machines []host
	scope    string // resource group of all of them
	objectID string // of the person whose role comes and goes
	token    string
	client   *http.Client
	stop     func()
}

// live is the time from a request that takes a role away until the sessions of
// its person on real machines have ended, and until every connected agent has
// been told.
func (b *bench) live(ctx context.Context) ([]Row, error) {
	w, err := b.fleetWorld(ctx, fleetConfig{name: "live", agents: b.agents, machines: b.machines, verify: true})
	if w != nil {
		defer w.close()
	}
	if err != nil {
		return nil, err
	}
	var ended, told, answered, processor []float64
	for range b.lives {
		r, err := w.revoke(ctx)
		if err != nil {
			return nil, err
		}
		ended, told, answered, processor = append(ended, r.ended...), append(told, r.told...), append(answered, r.answered), append(processor, r.processor)
	}
	p99 := quantile(ended, 0.99)
	bar, verdict := "p99 <= 1 s", atMost(p99, 1000)
	if b.agents < 1000 || b.machines < 10 {
		bar, verdict = "", "-"
	}
	rows := []Row{
		{Name: "role removed to session ended, next login refused", Measured: fmt.Sprintf("p99 %.0f ms", p99), Bar: bar, Verdict: verdict,
			Note: fmt.Sprintf("from the request sent to the end of ssh; p50 %.0f, p90 %.0f, max %.0f ms, n=%d: %d rounds on %d lab machines, terminals and commands in turn, with %d connected agents; the answer to the request came after p50 %.0f, max %.0f ms; after each end the next login was refused with its sentence",
				median(ended), quantile(ended, 0.9), quantile(ended, 1), len(ended), b.lives, b.machines, b.agents, median(answered), quantile(answered, 1))},
	}
	if len(told) > 0 {
		rows = append(rows, Row{Name: "role removed to signed grants at every agent", Measured: fmt.Sprintf("p99 %.0f ms", quantile(told, 0.99)), Verdict: "-",
			Note: fmt.Sprintf("p50 %.0f, p90 %.0f, max %.0f ms, n=%d; each agent with its own key and TLS connection, each verifies what it gets; server, agents and machines share the cores; %.0f ms of processor time of the server for all (median)", median(told), quantile(told, 0.9), quantile(told, 1), len(told), median(processor))})
	}
	return rows, nil
}

// spareDescriptors are for all but the agents' connections.
const spareDescriptors = 1000

// descriptors reports whether a process may have so many connections, and lets
// this one and its children have them.
func descriptors(agents int) (bool, error) {
	want := uint64(agents) + spareDescriptors
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: want, Max: want}) == nil {
		return true, nil
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return false, err
	}
	// Set by ourselves, or our children would have the limit from before Go raised it.
	limit.Cur = limit.Max
	return limit.Max >= want, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
}

// settle is how long a server may take to give back what connecting has left:
// more than one of its looks, less than one poll.
const settle = 40 * time.Second

// crowdBar is the bar's number of connected machines, crowdMemory what the
// server may hold with them.
const (
	crowdBar    = 10_000
	crowdMemory = 500
)

// crowd is how many agents one server carries: the bar's number over TCP, and
// all that were asked for, over TCP where a process may have the descriptors.
func (b *bench) crowd(ctx context.Context) ([]Row, error) {
	sizes := []int{b.crowdSize}
	if b.crowdSize > crowdBar {
		sizes = []int{crowdBar, b.crowdSize}
	}
	var rows []Row
	for _, size := range sizes {
		more, err := b.crowdOf(ctx, size)
		rows = append(rows, more...)
		if err != nil {
			return rows, fmt.Errorf("%d agents: %w", size, err)
		}
	}
	return rows, nil
}

func (b *bench) crowdOf(ctx context.Context, size int) ([]Row, error) {
	tcp, err := descriptors(size)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	w, err := b.fleetWorld(ctx, fleetConfig{name: fmt.Sprintf("crowd%d", size), agents: size, many: !tcp})
	if w != nil {
		defer w.close()
	}
	if err != nil {
		return nil, err
	}
	connected := time.Since(begin)
	var at [3]memory // at once, settled, after the change
	if at[0], err = memoryOf(w.server.Process.Pid); err != nil {
		return nil, err
	}
	rest(ctx, settle)
	if at[1], err = memoryOf(w.server.Process.Pid); err != nil {
		return nil, err
	}
	r, err := w.revoke(ctx)
	if err != nil {
		return nil, err
	}
	if at[2], err = memoryOf(w.server.Process.Pid); err != nil {
		return nil, err
	}
	over := "a TCP connection"
	if !tcp {
		over = fmt.Sprintf("a stream of %d unix connections, because no process may have so many descriptors here", links)
	}
	row := Row{Name: fmt.Sprintf("server memory with %d connected agents", size), Measured: at[1].String(), Verdict: "-",
		Note: fmt.Sprintf("resident %s after the last connection, %.1f KiB for each agent; %s (%.1f KiB) at once, with the garbage of the handshakes; each with its own key, TLS session over %s, and a waiting poll; filled and connected in %.0f s; %s after the change below; %d connections ended", settle, at[1].rss*1024/float64(size), at[0], at[0].rss*1024/float64(size), over, connected.Seconds(), at[2], w.fleet.Broken())}
	if size == crowdBar {
		row.Bar, row.Verdict = fmt.Sprintf("<= %d MiB", crowdMemory), atMost(at[1].rss, crowdMemory)
	}
	return []Row{row,
		{Name: fmt.Sprintf("a role that all %d have is removed", size), Measured: fmt.Sprintf("%.1f s", quantile(r.told, 1)/1000), Verdict: "-",
			Note: fmt.Sprintf("from the request sent until the last of %d agents has the signed change; p50 %.1f, p99 %.1f s; the answer to the request came after %.0f ms; %.1f s of processor time of the server; generator and server share the cores", len(r.told), median(r.told)/1000, quantile(r.told, 0.99)/1000, r.answered, r.processor/1000)},
	}, nil
}

// links are the unix connections that carry the agents of a crowd without TCP.
const links = 8

// fleetConfig says what a world has.
type fleetConfig struct {
	name     string // of its folder
	agents   int
	machines int  // of the lab
	verify   bool // each agent checks each signature
	many     bool // agents come over few unix connections
}

// fleetWorld makes the world and returns when every agent is connected.
func (b *bench) fleetWorld(ctx context.Context, c fleetConfig) (*fleetWorld, error) {
	w := &fleetWorld{world: &world{dir: b.path(c.name), top: b.top, cache: b.cache}, config: c, stop: func() {}}
	if err := errors.Join(os.Mkdir(w.dir, 0o711), w.startServer(ctx), w.people()); err != nil {
		return w, err
	}
	var err error
	if w.scope, err = w.run("group", "show", "--resource-group", group, "--query", "id", "-o", "tsv"); err != nil {
		return w, err
	}
	if w.objectID, err = w.run("ad", "user", "show", "--id", upn, "--query", "id", "-o", "tsv"); err != nil {
		return w, err
	}
	stop(w.server)
	fill, err := b.program(ctx, w, "fill")
	if err != nil {
		return w, err
	}
	if _, err := output(daemon(serverUID, fill, w.path("server"), strconv.Itoa(c.agents), w.scope)); err != nil {
		return w, err
	}
	if err := b.serveFleet(ctx, w); err != nil {
		return w, err
	}
	if err := w.connect(ctx); err != nil {
		return w, said(err, w.path("server.log"))
	}
	if c.machines > 0 {
		if err := w.realMachines(ctx, c.machines); err != nil {
			return w, err
		}
	}
	w.token, err = w.run("account", "get-access-token", "--query", "accessToken", "-o", "tsv")
	return w, err
}

// program builds one of the commands beside this one into the world's folder.
func (b *bench) program(ctx context.Context, w *fleetWorld, name string) (string, error) {
	to := w.path(name)
	build := exec.CommandContext(ctx, "go", "build", "-C", b.top, "-o", to, "./test/bench/"+name)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	_, err := output(build)
	return to, err
}

// serveFleet starts the server again, which knows the agents now.
func (b *bench) serveFleet(ctx context.Context, w *fleetWorld) error {
	listen := fmt.Sprintf("127.0.0.1:%d", w.port)
	w.server = daemon(serverUID, w.sally, "server", "run", "--state", w.path("server"), "--listen", listen, "--lab-socket", w.path("lab.sock"))
	if w.config.many {
		program, err := b.program(ctx, w, "crowdserver")
		if err != nil {
			return err
		}
		w.server = daemon(serverUID, program, w.path("server"), listen, w.path("server/many"))
	}
	if err := errors.Join(logTo(w.server, w.path("server.log")), w.server.Start()); err != nil {
		return err
	}
	return said(until(ctx, 2*time.Minute, func() error { _, err := w.manifest(); return err }), w.path("server.log"))
}

// connect starts the fleet and waits for all of it.
func (w *fleetWorld) connect(ctx context.Context) error {
	manifest, err := w.manifest()
	if err != nil {
		return err
	}
	conf, err := w.trust()
	if err != nil {
		return err
	}
	count := w.config.agents
	w.client = &http.Client{Timeout: 5 * time.Minute, Transport: &http.Transport{TLSClientConfig: conf.Clone()}}
	fleet := agents.Config{Address: fmt.Sprintf("127.0.0.1:%d", w.port), Manifest: manifest, TLS: conf, Agents: count, Watched: w.objectID, Verify: w.config.verify, Together: 32, Now: time.Now,
		Log: func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }}
	if w.config.many {
		dialer, err := many.Connect(w.path("server/many"), links)
		if err != nil {
			return err
		}
		fleet.Dial = dialer.Dial
	}
	if w.fleet, err = agents.New(fleet); err != nil {
		return err
	}
	running, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { w.fleet.Run(running); close(done) }()
	w.stop = func() { cancel(); <-done }
	return until(ctx, time.Duration(count)*20*time.Millisecond+time.Minute, func() error {
		if n := w.fleet.Ready(); n < count {
			return fmt.Errorf("%d of %d agents are connected, %d connections ended", n, count, w.fleet.Broken())
		}
		return nil
	})
}

func (w *fleetWorld) close() {
	w.stop()
	w.world.close()
}

// realMachines makes lab machines with the extension, a few at a time.
func (w *fleetWorld) realMachines(ctx context.Context, n int) error {
	if err := w.startLab(ctx); err != nil {
		return err
	}
	if _, err := output(exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", w.path("static"))); err != nil {
		return err
	}
	w.machines = make([]host, n)
	failed := make([]error, n)
	slots := make(chan struct{}, 3)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			name := fmt.Sprintf("real%d", i)
			for _, args := range [][]string{
				{"vm", "create", "--resource-group", group, "--name", name, "--image", "UbuntuLTS", "--assign-identity", "--admin-username", "azureuser", "--ssh-key-values", w.path("static.pub")},
				{"vm", "extension", "set", "--publisher", "Microsoft.Azure.ActiveDirectory", "--name", "AADSSHLoginForLinux", "--resource-group", group, "--vm-name", name},
			} {
				if _, failed[i] = w.run(args...); failed[i] != nil {
					return
				}
			}
			var out string
			if out, failed[i] = w.run("machine", "show", "-g", group, "-n", name, "--query", "properties", "-o", "json"); failed[i] == nil {
				failed[i] = json.Unmarshal([]byte(out), &w.machines[i])
			}
		})
	}
	all.Wait()
	return errors.Join(append(failed, w.certificate())...)
}

// revocation is what one round measured, in milliseconds after the request was sent.
type revocation struct {
	answered    float64
	ended, told []float64
	processor   float64 // of the server, until everybody had heard
}

// revoke gives the role, opens a session on each real machine, takes the role
// away, and waits until everybody has heard and every session has ended.
func (w *fleetWorld) revoke(ctx context.Context) (revocation, error) {
	var r revocation
	if err := w.assign(ctx, http.MethodPut); err != nil {
		return r, err
	}
	count := w.fleet.Size()
	patience := time.Minute + time.Duration(count)*5*time.Millisecond
	if err := until(ctx, patience, func() error {
		if n := w.fleet.Granted(); n < count {
			return fmt.Errorf("%d of %d agents have heard of the role", n, count)
		}
		return nil
	}); err != nil {
		return r, err
	}
	sessions, err := w.sessions(ctx)
	if err != nil {
		return r, err
	}
	before, err := ticksOf(w.server.Process.Pid)
	if err != nil {
		return r, err
	}
	since := time.Now()
	if err := w.assign(ctx, http.MethodDelete); err != nil {
		return r, err
	}
	r.answered = float64(time.Since(since).Microseconds()) / 1000
	for i, s := range sessions {
		select {
		case at := <-s.ended:
			r.ended = append(r.ended, float64(at.Sub(since).Microseconds())/1000)
		case <-time.After(time.Minute):
			return r, fmt.Errorf("the session on machine %d goes on", i)
		}
		if err := s.refused(ctx); err != nil {
			return r, fmt.Errorf("machine %d: %w", i, err)
		}
	}
	err = until(ctx, patience, func() error {
		if n := w.fleet.Granted(); n > 0 {
			return fmt.Errorf("%d of %d agents have not heard that the role is gone", n, count)
		}
		return nil
	})
	after, ticksErr := ticksOf(w.server.Process.Pid)
	r.processor = float64(after-before) * 1000 / ticksPerSecond
	for _, d := range w.fleet.Told(since) {
		r.told = append(r.told, float64(d.Microseconds())/1000)
	}
	return r, errors.Join(err, ticksErr)
}

// assign puts or deletes the role assignment at the resource group.
func (w *fleetWorld) assign(ctx context.Context, method string) error {
	url := w.url + w.scope + "/providers/Microsoft.Authorization/roleAssignments/" + theAssignment + "?api-version=2022-04-01"
	body := fmt.Sprintf(`{"properties":{"roleDefinitionId":"/providers/Microsoft.Authorization/roleDefinitions/%s","principalId":%q,"principalType":"User"}}`, vmAdministrator, w.objectID)
	if method == http.MethodDelete {
		body = ""
	}
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+w.token)
	request.Header.Set("Content-Type", "application/json")
	answer, err := w.client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err == nil && answer.StatusCode/100 != 2 {
		err = fmt.Errorf("%s of the role assignment: %s: %.300s", method, answer.Status, text)
	}
	return err
}

// shell is one session on a real machine.
type shell struct {
	args  []string
	ended chan time.Time
}

// sessions opens one on each machine and returns when all have said a word.
func (w *fleetWorld) sessions(ctx context.Context) ([]*shell, error) {
	list := make([]*shell, len(w.machines))
	failed := make([]error, len(w.machines))
	var all sync.WaitGroup
	for i, h := range w.machines {
		all.Go(func() {
			args := []string{"-F", "none", "-p", strconv.Itoa(h.Port), "-l", upn, "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "ConnectTimeout=20", "-o", "StrictHostKeyChecking=no",
				"-o", "UserKnownHostsFile=/dev/null", "-o", "CertificateFile=" + w.path("certificate/ours.pub"), "-i", w.path("ours")}
			if i%2 == 0 {
				args = append(args, "-tt")
			}
			list[i] = &shell{args: append(args, h.Address), ended: make(chan time.Time, 1)}
			// The machine may not have heard of the role yet.
			failed[i] = until(ctx, 30*time.Second, func() error { return list[i].begin(ctx) })
		})
	}
	all.Wait()
	return list, errors.Join(failed...)
}

// begin starts the session and waits for its first word.
func (s *shell) begin(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "ssh", append(s.args, "echo began; exec sleep 600")...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if _, err := cmd.StdinPipe(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	word := make([]byte, 5)
	if _, err := io.ReadFull(out, word); err != nil {
		return fmt.Errorf("no session: %w", errors.Join(err, cmd.Wait()))
	}
	go func() {
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
		s.ended <- time.Now()
	}()
	return nil
}

// refused asks once more, and must read why not.
func (s *shell) refused(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "ssh", append(s.args, "true")...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "Azure role not assigned") {
		return fmt.Errorf("the next login was not refused with its sentence (%v): %s", err, out)
	}
	return nil
}
