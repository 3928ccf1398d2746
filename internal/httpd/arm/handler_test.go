package arm_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/httpd"
	"sallyport/internal/httpd/arm"
	"sallyport/internal/oauth"
	"sallyport/internal/rbac"
	"sallyport/internal/resource"
	"sallyport/internal/resource/types"
	"sallyport/internal/route"
	"sallyport/internal/scope"
	"sallyport/internal/store"
	"sallyport/internal/store/storetest"
)

const (
	admin    = "33333333-3333-3333-3333-333333333333" // az's own user in the recording
	nobody   = "44444444-4444-4444-4444-444444444444"
	program  = "66666666-6666-4666-8666-666666666666" // a service principal without any right
	tenantID = "11111111-1111-1111-1111-111111111111"
	subID    = "22222222-2222-2222-2222-222222222222"
	group    = "/subscriptions/" + subID + "/resourceGroups/AzureADLinuxVM"
	machine  = group + "/providers/Microsoft.Compute/virtualMachines/myVM"
	base     = "https://sallyport.test"
)

// ready is a back end whose machines run at once and whose agents have reached
// everything.
type ready struct{}

func (ready) Ensure(ctx context.Context, m types.NewMachine) (types.MachineState, error) {
	return ready{}.State(ctx, m.ID)
}
func (ready) Power(context.Context, string, string) error { return nil }
func (ready) Remove(context.Context, string) error        { return nil }
func (ready) State(context.Context, string) (types.MachineState, error) {
	return types.MachineState{Power: types.Running, PrivateAddress: "10.77.0.2", Loopback: "127.77.0.2", SSHPort: 22}, nil
}
func (ready) Agent(string) (types.AgentState, bool) {
	return types.AgentState{LastSeen: time.Unix(1, 0), Version: "1", OS: "Debian", Reached: 1 << 40, Provisioned: "Succeeded"}, true
}

type people struct{}

func (people) Tenant() directory.Tenant {
	return directory.Tenant{ID: tenantID, DisplayName: "Example", Domains: []string{"example.test"}}
}
func (people) User(id string) (directory.User, bool) {
	return directory.User{ID: id}, id == admin || id == nobody
}
func (people) Group(string) (directory.Group, bool) { return directory.Group{}, false }
func (people) GroupsOf(string) []string             { return nil }
func (people) ServicePrincipal(string) (directory.ServicePrincipal, bool) {
	return directory.ServicePrincipal{}, false
}

// doors takes the object id for a token.
type doors struct{}

func (doors) Bearer(_ context.Context, token string, surface route.Surface, _ time.Time) (audit.By, error) {
	if surface != route.ARM || (token != admin && token != nobody && token != program) {
		return audit.By{}, fault.New(fault.Unauthenticated, "InvalidAuthenticationToken", "the token is not one of ours")
	}
	if token == program {
		return audit.By{Principal: token, Type: audit.ServicePrincipal, Name: "p"}, nil
	}
	return audit.By{Principal: token, Type: audit.User, Name: "u@example.test"}, nil
}
func (doors) Machine(context.Context, string) (audit.By, error) {
	return audit.By{}, errors.New("no machines here")
}

type server struct {
	keys     fakeKeys
	t        *testing.T
	front    *httpd.Server
	engine   *resource.Engine
	restores restores
	sessions openSessions
	revoked  revoked
	searched []string
	helpdesk bool
	ended    []string
	ahead    atomic.Int64 // nanoseconds that the clock was moved forward
}

func (s *server) now() time.Time { return time.Unix(1_800_000_000, s.ahead.Add(1000)) }

func rows() []route.Row {
	var out []route.Row
	for _, r := range route.All() {
		if strings.HasPrefix(r.ID, "arm.") {
			out = append(out, r)
		}
	}
	return out
}

func newServer(t *testing.T) *server {
	t.Helper()
	self := &server{t: t}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := store.Open(t.Context(), storePlace(t, self.now))
	must(err)
	t.Cleanup(func() { _ = s.Close() })
	tree, machines := resource.NewTree(), types.NewMachines()
	rights := rbac.NewIndex(tree)
	write := func(ctx context.Context, f func(*store.Tx) error) error {
		err := s.Write(ctx, f)
		must(s.Read(ctx, func(tx *store.Tx) error {
			return errors.Join(tree.Load(tx), rights.Load(tx), machines.Load(tx))
		}))
		return err
	}
	engine, err := resource.New(resource.Config{Types: types.All(types.Config{Backend: ready{}, Agents: ready{}, Rand: rand.Reader}), Rights: rights, Tenant: people{}.Tenant, Rand: rand.Reader,
		Write: func(ctx context.Context, f func(resource.Tx) error) error {
			return write(ctx, func(tx *store.Tx) error { return f(tx) })
		},
		Read: func(ctx context.Context, f func(resource.Tx) error) error {
			return s.Read(ctx, func(tx *store.Tx) error { return f(tx) })
		}})
	must(err)
	must(write(t.Context(), func(tx *store.Tx) error {
		return types.Bootstrap(tx, audit.By{}, types.Setup{TenantID: tenantID, AdministratorID: admin, SubscriptionID: subID, SubscriptionName: "Main",
			Assignments: [2]string{"00000000-0000-4000-8000-0000000000f1", "00000000-0000-4000-8000-0000000000f2"}})
	}))
	accounts := types.Accounts{Engine: engine, Tenant: people{}.Tenant,
		Write: func(ctx context.Context, f func(types.AccountsTx) error) error {
			return write(ctx, func(tx *store.Tx) error { return f(tx) })
		},
		Read: func(ctx context.Context, f func(types.AccountsTx) error) error {
			return s.Read(ctx, func(tx *store.Tx) error { return f(tx) })
		}}
	mux := httpd.NewMux()
	arm.New(arm.Config{URL: base + "/", Engine: engine, Accounts: accounts, Backend: ready{}, Agents: ready{}, Machines: machines, Access: access{}, Keys: &self.keys, Sessions: &self.sessions, Certificates: issued{&self.searched, &self.helpdesk}, Principals: revoker{&self.ended}, IdentityOf: identityOf, Revocations: &self.revoked, SignIns: &signIns{switches: oauth.DefaultSettings()}, People: func(upn string) (string, bool) { return admin, upn == "admin@corp.example" }, Audit: auditor{s}, Retention: auditor{s}, Restores: &self.restores, Tenant: people{}.Tenant,
		Authorization: types.Authorization{Engine: engine, Roles: rights, People: people{}, Write: func(ctx context.Context, f func(types.AuthorizationTx) error) error {
			return write(ctx, func(tx *store.Tx) error { return f(tx) })
		}}}).Mount(mux)
	limit := httpd.Limit{PerSecond: 1e6, Burst: 1e6}
	front, err := httpd.New(httpd.Config{Rows: rows(), Mux: mux, Nothing: arm.Nothing(), Authenticator: doors{}, Now: self.now, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler), Authority: base + "/adfs",
		Limits: map[string]httpd.Limit{"read": limit, "write": limit, "login": limit, "token": limit}})
	must(err)
	self.front, self.engine = front, engine
	return self
}

// call sends one request and returns the answer with its JSON.
func (s *server) call(who, method, path, body string) (*http.Response, any) {
	s.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if who != "" {
		r.Header.Set("Authorization", "Bearer "+who)
	}
	w := httptest.NewRecorder()
	s.front.ServeHTTP(w, r)
	answer := w.Result()
	answer.Request = r
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	var v any
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &v); err != nil {
			s.t.Fatalf("%s %s: %s", method, path, raw)
		}
	}
	return answer, v
}

// work lets the engine finish everything that is due.
func (s *server) work() {
	s.t.Helper()
	for range 1000 {
		worked, next, err := s.engine.Step(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		if !worked {
			if next >= time.Second {
				return
			}
			s.ahead.Add(int64(next))
		}
	}
	s.t.Fatal("the work does not end")
}

func dig(v any, path ...any) any {
	for _, p := range path {
		switch k := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[k]
		case int:
			l, _ := v.([]any)
			if k >= len(l) {
				return nil
			}
			v = l[k]
		}
	}
	return v
}

type recorded struct{ Method, Path, Body, From string }

// TestRecorded_AzGetsWhatItReads replays what azure-cli 2.45.0 sent to a
// recording server (testdata names the line of the recording) and checks the
// status codes that it accepts and the fields that it reads.
func TestRecorded_AzGetsWhatItReads(t *testing.T) {
	s := newServer(t)
	f, err := os.Open("testdata/az-2.45.0.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	type check struct {
		path []any
		want any
	}
	is := func(want any, path ...any) check { return check{path, want} }
	expected := []struct {
		match  string // end of "METHOD path"
		status int
		checks []check
	}{
		{"GET /metadata/endpoints", 200, []check{is(base+"/adfs", "authentication", "loginEndpoint"), is(base+"/arm", "authentication", "audiences", 0), is(base+"/", "graphEndpoint")}},
		{"GET /tenants", 200, []check{is(tenantID, "value", 0, "tenantId")}},
		{"GET /subscriptions", 200, []check{is(subID, "value", 0, "subscriptionId"), is("Enabled", "value", 0, "state"), is("Main", "value", 0, "displayName")}},
		{"PUT " + group, 201, []check{is(group, "id"), is("Microsoft.Resources/resourceGroups", "type"), is("southcentralus", "location")}},
		{"GET " + group, 200, []check{is(group, "id"), is("Succeeded", "properties", "provisioningState")}},
		{"GET /aliases.json", 200, []check{is("x64", "outputs", "aliases", "value", "Linux", "UbuntuLTS", "architecture")}},
		{"18.04-LTS/versions", 200, []check{is("18.04.202301010", 0, "name")}},
		{"versions/18.04.202301010", 200, []check{is("Linux", "properties", "osDiskImage", "operatingSystem"), is("V1", "properties", "hyperVGeneration")}},
		{"GET " + group + "/providers/Microsoft.Network/virtualNetworks", 200, []check{is(nil, "value", 0)}},
		{"virtualNetworks/myVMVNET", 201, nil},
		{"networkSecurityGroups/myVMNSG", 201, nil},
		{"publicIPAddresses/myVMPublicIP", 201, nil},
		{"networkInterfaces/myVMVMNic", 201, nil},
		{"PUT " + machine, 201, []check{is("SystemAssigned", "identity", "type"), is(tenantID, "identity", "tenantId")}},
		{"GET /subscriptions/" + subID + "/providers/Microsoft.Compute/virtualMachines", 200, []check{is(machine, "value", 0, "id")}},
		{"GET " + group + "/resources", 200, []check{is("Microsoft.Compute/virtualMachines", "value", 0, "type"), is(nil, "value", 1)}},
		{"PATCH " + machine, 200, []check{is("SystemAssigned", "identity", "type")}},
		{"/publishers", 200, nil},
		{"vmextension/types", 200, []check{is("AADSSHLoginForLinux", 0, "name")}},
		{"AADSSHLoginForLinux/versions", 200, []check{is(types.ExtensionVersion, 0, "name")}},
		{"versions/1.0.1588.3", 404, []check{is("ArtifactNotFound", "error", "code")}},
		{"PUT " + machine + "/extensions/AADSSHLoginForLinux", 201, []check{is("Microsoft.Compute/virtualMachines/extensions", "type")}},
		{"vm2/extensions/AADSSHLoginForLinux", 404, []check{is("ResourceNotFound", "error", "code")}},
		{"roleDefinitions", 200, []check{is("BuiltInRole", "value", 0, "properties", "type")}},
		{"GET " + group + "/providers/Microsoft.Authorization/roleDefinitions", 200, []check{is(rbac.VMAdministratorLogin, "value", 0, "name"), is(nil, "value", 1)}},
		{"roleAssignments/e252a5b9-8566-4e23-996a-5927e25bf037", 201, []check{is(group, "properties", "scope"), is("User", "properties", "principalType")}},
		{"GET " + group + "/providers/Microsoft.Authorization/roleAssignments", 200, []check{is("e252a5b9-8566-4e23-996a-5927e25bf037", "value", 1, "name")}},
		{"Microsoft.Network/publicIPAddresses", 200, []check{is("127.77.0.2", "value", 0, "properties", "ipAddress")}},
		{"Microsoft.Network/networkInterfaces", 200, []check{is("10.77.0.2", "value", 0, "properties", "ipConfigurations", 0, "properties", "privateIPAddress")}},
		{"DELETE " + group + "/providers/Microsoft.Compute/virtualMachines/vm2/extensions/AADSSHLoginForLinux", 204, nil},
		{"DELETE " + machine + "/extensions/AADSSHLoginForLinux", 202, nil},
		{"DELETE " + group, 202, nil},
	}
	i := 0
	for lines := bufio.NewScanner(f); lines.Scan(); i++ {
		var r recorded
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if i >= len(expected) {
			t.Fatalf("%s has no expectation", r.Path)
		}
		path, _, _ := strings.Cut(r.Path, "?")
		if e := expected[i]; !strings.HasSuffix(strings.ToLower(r.Method+" "+path), strings.ToLower(e.match)) {
			t.Fatalf("line %d is %s %s, not %s", i, r.Method, r.Path, e.match)
		}
		answer, v := s.call(admin, r.Method, strings.ReplaceAll(r.Path, " ", "%20"), r.Body)
		if answer.StatusCode != expected[i].status {
			t.Fatalf("%s %s (%s): %d %v", r.Method, r.Path, r.From, answer.StatusCode, v)
		}
		for _, c := range expected[i].checks {
			if got := dig(v, c.path...); got != c.want {
				t.Errorf("%s %s: %v is %v, want %v", r.Method, r.Path, c.path, got, c.want)
			}
		}
		s.follow(answer)
		s.expands(expected[i].match == "PUT "+machine)
	}
	if i != len(expected) {
		t.Errorf("%d lines, %d expectations", i, len(expected))
	}
}

// expands looks at a machine that is there in all the ways in which Azure shows one.
func (s *server) expands(there bool) {
	s.t.Helper()
	if !there {
		return
	}
	for option, status := range map[string]int{"": 200, "userData": 200, "instanceView": 200, "nosuch": 400, "userData,instanceView": 400} {
		answer, v := s.call(admin, http.MethodGet, machine+"?$expand="+option, "")
		if view := dig(v, "properties", "instanceView") != nil; answer.StatusCode != status || view != (option == "instanceView") || dig(v, "properties", "userData") != nil {
			s.t.Errorf("$expand=%s: %d %v", option, answer.StatusCode, v)
		}
	}
}

// TestRows_NameTheActionThatTheEngineEnforces compares each row with its type.
func TestRows_NameTheActionThatTheEngineEnforces(t *testing.T) {
	s := newServer(t)
	for _, r := range rows() {
		kind, verb, ok := cutLast(r.Action, "/")
		switch {
		case !ok:
			continue
		case verb == "action":
			kind, _, _ = cutLast(kind, "/")
		}
		if strings.HasPrefix(kind, "Microsoft.Authorization/") || strings.HasPrefix(kind, "Sallyport.Access/") || strings.HasSuffix(kind, "/managementGroups/subscriptions") || kind == "Microsoft.Resources/tags" || strings.HasSuffix(kind, "/tagNames") || kind == "Microsoft.Resources/subscriptions/resourceGroups" { // Azure's name for the moves
			continue
		}
		if _, err := s.engine.Type(kind); err != nil {
			t.Errorf("row %s names %s: %v", r.ID, r.Action, err)
		}
	}
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// TestRows_NobodyGetsNothing knocks at every row as a person without any role:
// whatever names an action is refused, and lists are empty or refused.
func TestRows_NobodyGetsNothing(t *testing.T) {
	s := newServer(t)
	s.call(admin, http.MethodPut, group, `{"location":"southcentralus"}`)
	s.work()
	fill := strings.NewReplacer("{subscription}", subID, "{group}", "AzureADLinuxVM", "{name}", "00000000-0000-4000-8000-0000000000f1", "{child}", "x", "{extension}", "x", "{interface}", "x", "{scope...}", strings.TrimPrefix(group, "/"), "{operation}", "x",
		"{location}", "eastus", "{namespace}", "Microsoft.Compute", "{publisher}", types.LoginPublisher, "{type}", types.LoginExtension, "{version}", types.ExtensionVersion, "{offer}", "x", "{sku}", "x")
	for _, r := range rows() {
		body := ""
		if (r.Method == http.MethodPut || r.Method == http.MethodPatch) && !r.Bodyless() {
			body = `{"properties":{}}`
		}
		answer, v := s.call(nobody, r.Method, fill.Replace(r.Pattern), body)
		if r.Action != "" && answer.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %d %v", r.ID, answer.StatusCode, v)
		}
		if list, _ := dig(v, "value").([]any); r.Action == "" && len(list) > 0 && r.ID != "arm.tenants.list" && r.ID != "arm.providers.list" {
			t.Errorf("%s shows %v", r.ID, list)
		}
		if r.Door == route.Caller {
			if answer, _ := s.call("", r.Method, fill.Replace(r.Pattern), body); answer.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s without a token: %d", r.ID, answer.StatusCode)
			}
		}
	}
}

func TestHandler_ListsPagesAndFilters(t *testing.T) {
	s := newServer(t)
	s.call(admin, http.MethodPut, group, `{"location":"southcentralus"}`)
	for _, n := range []string{"a", "b", "c"} {
		s.call(admin, http.MethodPut, group+"/providers/Microsoft.Network/publicIPAddresses/"+n, `{"location":"southcentralus"}`)
	}
	path, names := group+"/providers/Microsoft.Network/publicIPAddresses?$top=2&api-version=2022-01-01", ""
	for path != "" {
		_, v := s.call(admin, http.MethodGet, path, "")
		list, _ := dig(v, "value").([]any)
		for _, x := range list {
			names += dig(x, "name").(string)
		}
		next, _ := dig(v, "nextLink").(string)
		if next != "" && !strings.HasPrefix(next, base+group) {
			t.Fatalf("nextLink %s", next)
		}
		path = strings.TrimPrefix(next, base)
	}
	if names != "abc" {
		t.Errorf("pages: %s", names)
	}
	for query, code := range map[string]string{"?$filter=tagValue%20eq%20'x'": "InvalidFilter", "?$filter=color%20eq%20'x'": "InvalidFilter", "?$filter=name%20eq%20''": "InvalidFilter",
		"?$filter=name%20eq%20'x'%20and%20name%20eq%20'y'": "InvalidFilter", "?$filter=name%20ne%20'x'": "InvalidFilter", "?$top=0": "InvalidParameter", "?$skipToken=!": "InvalidParameter"} {
		if answer, v := s.call(admin, http.MethodGet, group+"/resources"+query, ""); answer.StatusCode != http.StatusBadRequest || dig(v, "error", "code") != code {
			t.Errorf("%s: %d %v", query, answer.StatusCode, v)
		}
	}
	if answer, v := s.call(admin, http.MethodGet, group+"/resources?$filter=resourceType%20eq%20'Microsoft.Network/publicIPAddresses'%20and%20name%20eq%20'B'", ""); answer.StatusCode != 200 || dig(v, "value", 0, "name") != "b" || dig(v, "value", 1) != nil {
		t.Errorf("%v", v)
	}
	if answer, _ := s.call(admin, http.MethodHead, group, ""); answer.StatusCode != http.StatusNoContent {
		t.Errorf("HEAD: %d", answer.StatusCode)
	}
	if answer, _ := s.call(admin, http.MethodHead, group+"x", ""); answer.StatusCode != http.StatusNotFound {
		t.Errorf("HEAD of nothing: %d", answer.StatusCode)
	}
}

func TestAccess_MachinesAndAudit(t *testing.T) {
	s := newServer(t)
	f, err := os.ReadFile("testdata/az-2.45.0.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(f)), "\n") {
		var r recorded
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if r.Method == http.MethodPut {
			s.call(admin, r.Method, r.Path, r.Body)
			s.work()
		}
	}
	_, v := s.call(admin, http.MethodGet, machine+"/providers/Sallyport.Access/machines/default", "")
	id, _ := dig(v, "properties", "machineId").(string)
	for want, path := range map[string]string{"10.77.0.2": "addresses", "127.77.0.2": "loopbackAddress", "running": "state", id + ".machine.example.test": "hostPrincipal", machine: "resourceId"} {
		got := dig(v, "properties", path)
		if list, ok := got.([]any); ok && len(list) == 1 {
			got = list[0]
		}
		if id == "" || got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
	if dig(v, "properties", "snapshot", "loginEnabled") != true {
		t.Errorf("%v", v)
	}
	for _, at := range []string{group, "/subscriptions/" + subID, scope.ManagementGroup(tenantID).String()} {
		if _, v := s.call(admin, http.MethodGet, at+"/providers/Sallyport.Access/machines", ""); dig(v, "value", 0, "properties", "machineId") != id {
			t.Errorf("machines at %s: %v", at, v)
		}
	}
	answer, v := s.call(admin, http.MethodPost, "/providers/Sallyport.Access/verifyAudit", "")
	if answer.StatusCode != 200 || dig(v, "ok") != true {
		t.Errorf("verify: %v", v)
	}
	_, v = s.call(admin, http.MethodGet, "/providers/Sallyport.Access/auditRecords?$filter=type%20eq%20'resource.write'&$top=2", "")
	if dig(v, "value", 0, "type") != "resource.write" || dig(v, "value", 1, "principalId") != admin {
		t.Errorf("audit: %v", v)
	}
	correlation, _ := dig(v, "value", 0, "correlationId").(string)
	next, _ := dig(v, "nextLink").(string)
	if _, v = s.call(admin, http.MethodGet, strings.TrimPrefix(next, base), ""); dig(v, "value", 0, "correlationId") == correlation {
		t.Error("the second page is the first")
	}
	if _, v = s.call(admin, http.MethodGet, "/providers/Sallyport.Access/auditRecords?$filter=correlationId%20eq%20'"+correlation+"'", ""); dig(v, "value", 0, "correlationId") != correlation || dig(v, "value", 1) != nil {
		t.Errorf("by correlation id: %v", v)
	}
	for call, code := range map[string]int{
		"?$filter=outcome%20eq%20'maybe'": 400, "?$filter=secret%20eq%20'x'": 400, "?$skipToken=5": 400, "?startTime=yesterday": 400, "?$top=0": 400,
		"?$filter=target%20eq%20'" + strings.ToUpper(machine) + "'&startTime=2020-01-01T00:00:00Z": 200, "/follow?$skipToken=e30": 200, "/follow?wait=x": 400, "/follow?$skipToken=bnVsbA": 400,
	} {
		if answer, v := s.call(admin, http.MethodGet, "/providers/Sallyport.Access/auditRecords"+call, ""); answer.StatusCode != code || code == 200 && dig(v, "value", 0) == nil {
			t.Errorf("%s: %d %v", call, answer.StatusCode, v)
		}
	}
	for path, method := range map[string]string{"auditRecords": "GET", "auditRecords/follow": "GET", "auditProof": "GET", "verifyAudit": "POST"} {
		if answer, _ = s.call(nobody, method, "/providers/Sallyport.Access/"+path, ""); answer.StatusCode != http.StatusForbidden {
			t.Errorf("%s to nobody: %d", path, answer.StatusCode)
		}
	}
}

// storePlace is where this test's store goes.
func storePlace(t testing.TB, now func() time.Time) store.Config {
	cfg := storetest.Place(t)
	cfg.Now, cfg.Writer = now, "w"
	return cfg
}
