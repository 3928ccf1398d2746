package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/crowdtest"
	"sallyport/internal/directory"
	"sallyport/internal/guid"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/oauth"
	"sallyport/internal/oauth/token"
	"sallyport/internal/rbac"
	"sallyport/internal/resource"
	"sallyport/internal/scope"
	"sallyport/internal/store"
	"sallyport/internal/store/postgrestest"
)

// childServer tells the re-run test binary to be a server.
const childServer = "SALLYPORT_TEST_SERVER"

// TestMain turns the test binary into a server, or its command, when a test asks for
// one.
func TestMain(m *testing.M) {
	if text := os.Getenv(childServer); text != "" {
		if err := child(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if text := os.Getenv(childCommand); text != "" {
		if err := command(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

type childConfig struct{ State, Replica, Listen string }

// child is `sally server run` without its refusal of root, under which tests may
// run.
func child(text string) error {
	var c childConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	cfg, err := Config{State: c.State, Replica: c.Replica, Listen: c.Listen, Now: time.Now, Rand: rand.Reader, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Notify: func(state string) error { fmt.Println(state); return nil }}.located()
	if err != nil {
		return err
	}
	meter := newMeter()
	st, err := store.Open(context.Background(), cfg.storeConfig(meter))
	if err != nil {
		return err
	}
	d := &deployment{cfg: cfg, store: st, meter: meter, started: time.Now()}
	if err := d.connect(context.Background()); err != nil {
		return err
	}
	return d.serve(context.Background())
}

// process is one server process.
type process struct {
	*exec.Cmd
	url string
}

func startServer(t *testing.T, state, replica string) process {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := l.Addr().String()
	_ = l.Close()
	text, err := json.Marshal(childConfig{state, replica, listen})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childServer+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	ready := make([]byte, len("READY=1\n"))
	if _, err := io.ReadFull(out, ready); err != nil {
		t.Fatalf("server %s: %v", replica, err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return process{cmd, "https://" + listen}
}

// client is somebody whose load balancer knows both servers: it goes to the next
// one when a connection breaks, and repeats.
type client struct {
	t      *testing.T
	http   *http.Client
	bearer string
	urls   []string
	at     atomic.Int64
	moved  atomic.Int64
}

func (c *client) do(method, path, body string) int {
	for end := time.Now().Add(crowdtest.Limit(20 * time.Second)); time.Now().Before(end); {
		n := c.at.Load()
		req, err := http.NewRequest(method, c.urls[n%int64(len(c.urls))]+path, bytes.NewReader([]byte(body)))
		if err != nil {
			c.t.Error(err)
			return 0
		}
		req.Header.Set("Authorization", "Bearer "+c.bearer)
		req.Header.Set("Content-Type", "application/json")
		res, err := c.http.Do(req)
		if err != nil {
			c.at.CompareAndSwap(n, n+1)
			c.moved.Add(1)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		answer, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode == http.StatusServiceUnavailable {
			c.at.CompareAndSwap(n, n+1)
			c.moved.Add(1)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if res.StatusCode >= 400 && res.StatusCode != http.StatusNotFound {
			c.t.Errorf("%s %s: %d %s", method, path, res.StatusCode, answer)
		}
		return res.StatusCode
	}
	c.t.Errorf("%s %s: no server answers", method, path)
	return 0
}

// adminToken is an access token for Resource Manager, as the token endpoint
// would give it to the first administrator.
func adminToken(t *testing.T, d *deployment) (bearer, admin string) {
	t.Helper()
	if err := d.store.Read(t.Context(), func(tx *store.Tx) error {
		return tx.EachUser(func(u directory.User) error { admin = u.ID; return nil })
	}); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	bearer, err := d.trust.tokens.Mint(token.Claims{Audience: d.oauth.Audiences(oauth.ARM)[0], Issuer: d.oauth.Issuers()[0], IssuedAt: now.Unix(), NotBefore: now.Unix(), Expires: now.Add(time.Hour).Unix(),
		Subject: admin, ObjectID: admin, TenantID: d.directory.Tenant().ID, Version: "2.0", IDType: "user", AppID: "04b07795-8ddb-461a-bbee-02f9e1bf7b46", Scope: "user_impersonation", IssuedMicros: now.UnixMicro()})
	if err != nil {
		t.Fatal(err)
	}
	return bearer, admin
}

// TestReplicas_OneIsKilled: two server processes on one database under load, one
// of them killed. Every acknowledged write is there, every answer is right, and
// clients that go to the other server continue.
func TestReplicas_OneIsKilled(t *testing.T) {
	server := postgrestest.New(t)
	cfg := moved(t, server)
	here := replicaOf(t, cfg, "server-here")
	a, b := startServer(t, cfg.State, "server-a"), startServer(t, cfg.State, "server-b")
	c := &client{t: t, urls: []string{a.url, b.url}, http: &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 32}}}
	var admin string
	c.bearer, admin = adminToken(t, here)
	var subscription string
	if err := here.store.Read(t.Context(), func(tx *store.Tx) error {
		list, err := tx.ListResources(resource.Range{Type: resource.TypeSubscription, Limit: 1})
		if err == nil {
			subscription = list[0].ID.Name()
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var acked []string
	var count atomic.Int64
	var wg sync.WaitGroup
	put := func(path, body string) {
		if code := c.do("PUT", path, body); code == 200 || code == 201 {
			count.Add(1)
			mu.Lock()
			acked = append(acked, path)
			mu.Unlock()
		}
	}
	const writers, each = 8, 25
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				group := fmt.Sprintf("/subscriptions/%s/resourcegroups/g%d-%d", subscription, w, i)
				put(group+"?api-version=2021-04-01", `{"location":"southcentralus"}`)
				id, err := guid.New(rand.Reader)
				if err != nil {
					t.Error(err)
				}
				put(group+"/providers/Microsoft.Authorization/roleAssignments/"+id+"?api-version=2022-04-01",
					fmt.Sprintf(`{"properties":{"roleDefinitionId":"/subscriptions/%s/providers/Microsoft.Authorization/roleDefinitions/acdd72a7-3385-48ef-bd42-f606fba81ae7","principalId":"%s","principalType":"User"}}`, subscription, admin))
			}
		})
	}
	until(t, time.Minute, "half of the load", func() bool { return count.Load() > writers*each/2 })
	if err := a.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if c.moved.Load() == 0 || len(acked) != 2*writers*each {
		t.Errorf("%d of %d writes acknowledged, %d requests went to the other server", len(acked), 2*writers*each, c.moved.Load())
	}
	for _, path := range acked {
		if code := c.do("GET", path, ""); code != 200 {
			t.Errorf("%s was acknowledged and is gone: %d", path, code)
		}
	}
	if err := here.store.Read(t.Context(), func(tx *store.Tx) error {
		_, heads, err := tx.VerifyAudit()
		t.Logf("%d chains verify", len(heads))
		return err
	}); err != nil {
		t.Error(err)
	}
	revoked(t, here, c, subscription)
}

// revoked: a role that is taken away at one server process reaches a machine
// that waits at another within a second.
func revoked(t *testing.T, here *deployment, c *client, subscription string) {
	const id, grant = "0000000b-0000-4000-8000-000000000002", "0000000d-0000-4000-8000-000000000002"
	m := joined(t, id)
	var err error
	if m.ResourceID, err = scope.Parse("/subscriptions/" + subscription + "/resourceGroups/g0-0/providers/Microsoft.Compute/virtualMachines/vm"); err != nil {
		t.Fatal(err)
	}
	if err := here.follow.Write(t.Context(), func(tx *store.Tx) error {
		if err := tx.PutMachine(m); err != nil {
			return err
		}
		if err := tx.PutResource(resource.Resource{ID: m.ResourceID, State: resource.Succeeded, Revision: 1, Observed: 1, Properties: json.RawMessage(`{}`), Private: json.RawMessage(`{"machineId":"` + id + `"}`), ETag: "1"}); err != nil {
			return err
		}
		u := directory.User{ID: "0000000c-0000-4000-8000-000000000002", UPN: "p@corp.example", UID: 70002, Enabled: true}
		if err := tx.PutUser(u); err != nil {
			return err
		}
		return tx.PutRoleAssignment(rbac.Assignment{ID: grant, Scope: m.ResourceID, RoleID: "fb879df8-f326-4884-b1cf-06f3ad86be52", PrincipalID: u.ID, PrincipalType: "User"})
	}); err != nil {
		t.Fatal(err)
	}
	by := audit.By{Principal: id, Type: audit.Machine}
	_, manifest := here.trust.Manifest()
	held := protocol.PollRequest{Capability: protocol.Capability, Manifest: manifest.Version, ManifestEpoch: manifest.Epoch, AppliedManifest: manifest.Version, AppliedEpoch: manifest.Epoch}
	var next func(wait time.Duration) bool
	next = func(wait time.Duration) bool {
		held.WaitMillis = wait.Milliseconds()
		answer, err := here.machines.Poll(t.Context(), by, held)
		if err != nil {
			t.Error(err)
		}
		if answer.Accounts != nil {
			var doc struct{ Epoch, Version int64 }
			if err := json.Unmarshal(answer.Accounts.Payload, &doc); err != nil {
				t.Error(err)
			}
			held.AccountsEpoch, held.Accounts = doc.Epoch, doc.Version
			if answer.Snapshot == nil {
				return next(wait)
			}
		}
		if answer.Snapshot == nil {
			return false
		}
		var doc protocol.SnapshotDocument
		if err := json.Unmarshal(answer.Snapshot.Payload, &doc); err != nil {
			t.Error(err)
		}
		held.Epoch, held.Version, held.IssuedAt = doc.Epoch, doc.Version, doc.IssuedAt
		return true
	}
	for next(0) { // until there is nothing new
	}
	answered := make(chan bool, 1)
	go func() { answered <- next(30 * time.Second) }()
	began := time.Now()
	if code := c.do("DELETE", m.ResourceID.String()+"/providers/Microsoft.Authorization/roleAssignments/"+grant+"?api-version=2022-04-01", ""); code != 200 {
		t.Errorf("DELETE: %d", code)
	}
	if !<-answered || time.Since(began) > crowdtest.Limit(time.Second) {
		t.Errorf("the revocation took %s", time.Since(began))
	}
	t.Logf("revoked at one process, answered to a poll at another after %s", time.Since(began))
}
