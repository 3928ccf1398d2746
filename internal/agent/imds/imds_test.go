package imds

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/internal/agent/caller"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

const vmID = "/subscriptions/22222222-2222-4222-8222-222222222222/resourceGroups/RG/providers/Microsoft.Compute/virtualMachines/vm1"

// rig is a Service whose server and clock are the test's.
type rig struct {
	t       *testing.T
	service *Service
	mu      sync.Mutex
	at      time.Time
	minted  int
	asked   []string
	fail    error
}

func (r *rig) now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at
}

func (r *rig) pass(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = r.at.Add(d)
}

func (r *rig) IdentityToken(_ context.Context, q protocol.IdentityTokenRequest) (protocol.IdentityToken, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, q.Resource+" for "+q.Caller)
	if r.fail != nil {
		return protocol.IdentityToken{}, r.fail
	}
	if q.ClientID != "" && q.ClientID != "client" && q.ClientID != "second" || q.ObjectID != "" && q.ObjectID != "object" || q.ResourceID != "" && !strings.EqualFold(q.ResourceID, vmID) {
		return protocol.IdentityToken{}, fault.New(fault.Invalid, "invalid_request", "Identity not found")
	}
	r.minted++
	return protocol.IdentityToken{TokenType: "Bearer", AccessToken: fmt.Sprint("token", r.minted), ExpiresIn: 3599, NotBefore: r.at.Unix(), ClientID: "client", ObjectID: "object"}, nil
}

func (r *rig) IdentityCertificate(_ context.Context, q protocol.IdentityCertificateRequest) (protocol.IdentityToken, error) {
	r.asked = append(r.asked, "certificate "+q.Confirmation+" "+q.Machine+" for "+q.Caller)
	return protocol.IdentityToken{TokenType: "ssh-cert", AccessToken: "cert", ExpiresIn: 60}, r.fail
}

func (r *rig) Instance(context.Context) (protocol.Instance, error) {
	return protocol.Instance{MachineID: "m", ResourceID: vmID, Location: "westeurope", Size: "B1s", Tags: map[string]string{"b": "2", "a": "1"}, Hostname: "vm1", AdminName: "azureuser", ClientID: "client", ObjectID: "object"}, r.fail
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, at: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	r.service = New(Config{Server: r, Tenant: "tenant", Now: r.now, Log: t.Logf, Interfaces: func() []Interface {
		return []Interface{{MAC: "000d3a", IPv4: []Prefix{{"10.0.0.4", "10.0.0.0", 24}}, IPv6: []string{"fd00::4"}}}
	}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); r.service.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return r
}

// root is the verdict about uid 0.
func root() caller.Verdict {
	return caller.Verdict{Name: "root", Allowed: true, CorrelationID: "corr", Revision: 1}
}

// send gives the service one connection with this text and returns the answer.
func (r *rig) send(v caller.Verdict, text string) (*http.Response, map[string]any) {
	r.t.Helper()
	here, there := net.Pipe()
	r.service.Take(caller.Taken{Conn: there, Verdict: v})
	go func() { _, _ = io.WriteString(here, text) }()
	resp, err := http.ReadResponse(bufio.NewReader(here), nil)
	if err != nil {
		r.t.Fatalf("%q: %v", text, err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	_ = here.Close()
	var body map[string]any
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") && json.Unmarshal(b, &body) != nil {
		r.t.Fatalf("%q", b)
	} else if body == nil {
		body = map[string]any{"text": string(b)}
	}
	return resp, body
}

func get(path string, headers ...string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: 169.254.169.254\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\n"
}

const (
	metadata = "Metadata: true"
	armToken = tokenPath + "?api-version=2018-02-01&resource=https%3A%2F%2Fmanagement.azure.com%2F"
)

// The answer is the recorded one's shape: azure-cli 2.45.0, az login --identity.
func TestToken_AsAzureAnswers(t *testing.T) {
	r := newRig(t)
	resp, body := r.send(root(), get(armToken, metadata, "Connection: keep-alive"))
	if resp.StatusCode != 200 || !resp.Close {
		t.Fatalf("%+v", resp)
	}
	want := map[string]any{"access_token": "token1", "client_id": "client", "expires_in": "3599", "ext_expires_in": "3599", "expires_on": "1795352399", "not_before": "1795348800", "resource": "https://management.azure.com/", "token_type": "Bearer"}
	for k, v := range want {
		if body[k] != v {
			t.Errorf("%s is %v, want %v", k, body[k], v)
		}
	}
	if len(body) != len(want) {
		t.Errorf("%v", body)
	}
	for _, selector := range []string{"client_id=CLIENT", "object_id=object", "principal_id=object", "mi_res_id=" + url.QueryEscape(strings.ToUpper(vmID)), "msi_res_id=" + url.QueryEscape(vmID)} {
		if resp, body := r.send(root(), get(armToken+"&"+selector, metadata)); resp.StatusCode != 200 {
			t.Errorf("%s: %v", selector, body)
		}
	}
	if resp, body := r.send(root(), get(strings.ToUpper(tokenPath)+armToken[len(tokenPath):], "metadata: TRUE")); resp.StatusCode != 200 {
		t.Errorf("in capitals: %v", body)
	}
}

func TestToken_Refusals(t *testing.T) {
	r := newRig(t)
	for name, c := range map[string]struct {
		request string
		status  int
		code    string
		says    string
	}{
		"no metadata header":      {get(armToken), 400, "invalid_request", "Required metadata header not specified"},
		"metadata false":          {get(armToken, "Metadata: false"), 400, "invalid_request", "metadata header"},
		"metadata twice":          {get(armToken, metadata, metadata), 400, "invalid_request", "metadata header"},
		"X-Forwarded-For":         {get(armToken, metadata, "X-Forwarded-For: "), 400, "invalid_request", "Forwarded"},
		"Forwarded":               {get(armToken, metadata, "Forwarded: for=10.0.0.1"), 400, "invalid_request", "Forwarded"},
		"Via":                     {get(armToken, metadata, "Via: 1.1 x"), 400, "invalid_request", "Forwarded"},
		"another host":            {strings.Replace(get(armToken, metadata), "169.254.169.254", "metadata.example", 1), 400, "invalid_request", "another host"},
		"another port":            {strings.Replace(get(armToken, metadata), "169.254.169.254", "169.254.169.254:8080", 1), 400, "invalid_request", "another host"},
		"a proxy's form":          {get("http://169.254.169.254.example"+armToken, metadata), 400, "invalid_request", "another host"},
		"no version":              {get(tokenPath+"?resource=x", metadata), 400, "invalid_request", "api-version"},
		"an old version":          {get(tokenPath+"?resource=x&api-version=2017-01-01", metadata), 400, "invalid_request", "api-version"},
		"no resource":             {get(tokenPath+"?api-version=2018-02-01", metadata), 400, "invalid_request", "'resource' is missing"},
		"two resources":           {get(armToken+"&resource=y", metadata), 400, "invalid_request", "'resource'"},
		"a resource with a line":  {get(tokenPath+"?api-version=2018-02-01&resource=a%0Ab", metadata), 400, "invalid_resource", ""},
		"an identity not of ours": {get(armToken+"&client_id=other", metadata), 400, "invalid_request", "Identity not found"},
		"two names of one":        {get(armToken+"&object_id=object&principal_id=other", metadata), 400, "invalid_request", "Identity not found"},
		"an empty name":           {get(armToken+"&client_id=", metadata), 400, "invalid_request", "Identity not found"},
		"two identities":          {get(armToken+"&client_id=client&client_id=client", metadata), 400, "invalid_request", "Identity not found"},
		"another method":          {strings.Replace(get(armToken, metadata), "GET", "POST", 1), 405, "method_not_allowed", ""},
		"another path":            {get("/metadata/identity/oauth2/tokens?api-version=2018-02-01", metadata), 404, "not_found", ""},
	} {
		resp, body := r.send(root(), c.request)
		if text := fmt.Sprint(body["error_description"]); resp.StatusCode != c.status || body["error"] != c.code || !strings.Contains(text, c.says) {
			t.Errorf("%s: %d %v", name, resp.StatusCode, body)
		}
	}
	if resp, _ := r.send(root(), strings.Replace(get(armToken, metadata), "GET", "DELETE", 1)); resp.Header.Get("Allow") != "GET" {
		t.Error("no Allow")
	}
}

// The verdict of the root part is what decides, before anything is read.
func TestCaller_WhoIsRefusedReadsWhy(t *testing.T) {
	r := newRig(t)
	for _, request := range []string{get(armToken, metadata), get("/metadata/instance?api-version=2021-02-01", metadata), "POST " + certificatePath + " HTTP/1.1\r\nHost: 169.254.169.254\r\nMetadata: true\r\nContent-Length: 0\r\n\r\n"} {
		resp, body := r.send(caller.Verdict{UID: 1000, Name: "bob", Code: caller.CodeNotMember, Text: "no, bob"}, request)
		if text := fmt.Sprint(body); resp.StatusCode != 403 || !strings.Contains(text, "no, bob") {
			t.Errorf("%q: %d %v", request, resp.StatusCode, body)
		}
	}
	if len(r.asked) != 0 {
		t.Fatalf("the server was asked: %v", r.asked)
	}
	if resp, body := r.send(root(), get(armToken, metadata)); resp.StatusCode != 200 || resp.Header.Get("X-Ms-Request-Id") != "corr" {
		t.Fatal(body)
	}
	resp, body := r.send(caller.Verdict{Code: caller.CodeNoIdentity, Text: "Identity not found."}, get(armToken, metadata))
	if resp.StatusCode != 400 || body["error"] != "invalid_request" {
		t.Fatalf("%d %v", resp.StatusCode, body)
	}
	// What was kept is forgotten with the identity.
	if _, body := r.send(root(), get(armToken, metadata)); body["access_token"] != "token2" {
		t.Fatalf("%v", body)
	}
}

// Tokens of one identity are not given out for another, and a wrong name costs
// nobody his.
func TestCache_KeepsIdentitiesApart(t *testing.T) {
	r := newRig(t)
	got := map[string]string{}
	for _, more := range []string{"", "&client_id=second", "&client_id=other", "", "&client_id=SECOND", "&object_id=object"} {
		_, body := r.send(root(), get(armToken+more, metadata))
		token, _ := body["access_token"].(string)
		if had, ok := got[strings.ToLower(more)]; ok && had != token {
			t.Errorf("%q: %s, then %s", more, had, token)
		}
		got[strings.ToLower(more)] = token
	}
	if got[""] == got["&client_id=second"] || got["&object_id=object"] == got["&client_id=second"] || got["&client_id=other"] != "" || r.minted != 3 {
		t.Errorf("%v, %d minted", got, r.minted)
	}
}

func TestCache_ServesWhileItMay(t *testing.T) {
	r := newRig(t)
	want := func(v caller.Verdict, token string) {
		t.Helper()
		if _, body := r.send(v, get(armToken, metadata)); body["access_token"] != token {
			t.Errorf("%v, want %s", body, token)
		}
	}
	want(root(), "token1")
	r.pass(49 * time.Minute)
	want(root(), "token1")
	changed := root()
	changed.Revision = 2 // the resource has changed: the identity may be another
	want(changed, "token2")
	r.pass(50 * time.Minute)
	r.fail = fault.New(fault.Unavailable, "ServerUnreachable", "away")
	want(changed, "token2") // the server is away, and the token still good
	r.pass(9 * time.Minute)
	if resp, body := r.send(changed, get(armToken, metadata)); resp.StatusCode != 503 || body["error"] != "temporarily_unavailable" {
		t.Errorf("%d %v", resp.StatusCode, body)
	}
	r.fail = nil
	want(changed, "token3")
	// A refusal by the server ends what is kept of everything.
	r.fail = fault.New(fault.Invalid, "invalid_request", "AADSTS700016: Identity not found.")
	r.pass(50 * time.Minute)
	if resp, body := r.send(changed, get(armToken, metadata)); resp.StatusCode != 400 || body["error"] != "invalid_request" {
		t.Errorf("%d %v", resp.StatusCode, body)
	}
	r.fail = nil
	want(changed, "token4")
}

func TestServer_RefusalsInAzuresWords(t *testing.T) {
	r := newRig(t)
	for want, err := range map[string]error{
		"400 invalid_resource": fault.New(fault.Invalid, "invalid_resource", "no"), "400 invalid_request": fault.New(fault.Invalid, "OtherCode", "no"),
		"403 access_denied": fault.New(fault.Unauthenticated, "MachineUnknown", "no"), "429 too_many_requests": fault.New(fault.Exhausted, "TooManyRequests", "no"),
		"503 temporarily_unavailable": fault.New(fault.Unavailable, "ServerUnreachable", "no"), "500 unknown": errors.New("private"),
	} {
		r.fail = err
		resp, body := r.send(root(), get(armToken, metadata))
		if got := fmt.Sprint(resp.StatusCode, " ", body["error"]); got != want || strings.Contains(fmt.Sprint(body), "private") {
			t.Errorf("%v: %s %v", err, got, body)
		}
	}
}

func TestRate_PerUser(t *testing.T) {
	r := newRig(t)
	bob := caller.Verdict{UID: 1000, Name: "bob", Allowed: true, Revision: 1}
	for i := range burst {
		if resp, body := r.send(bob, get(armToken, metadata)); resp.StatusCode != 200 {
			t.Fatalf("%d: %v", i, body)
		}
	}
	if resp, body := r.send(bob, get(armToken, metadata)); resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "1" {
		t.Fatalf("%d %v", resp.StatusCode, body)
	}
	if resp, _ := r.send(root(), get(armToken, metadata)); resp.StatusCode != 200 {
		t.Fatal("another user pays")
	}
	r.pass(time.Second)
	if resp, _ := r.send(bob, get(armToken, metadata)); resp.StatusCode != 200 {
		t.Fatal("for ever")
	}
}

// Refused callers who say nothing do not take the place of the others.
func TestSlots_OfRefusedCallersAreTheirOwn(t *testing.T) {
	r := newRig(t)
	for range allowedSlots + refusedSlots + 8 {
		here, there := net.Pipe()
		defer here.Close()
		r.service.Take(caller.Taken{Conn: there, Verdict: caller.Verdict{UID: 1000}})
	}
	if resp, body := r.send(root(), get(armToken, metadata)); resp.StatusCode != 200 {
		t.Fatalf("%v", body)
	}
}

func TestCertificate_OfTheIdentity(t *testing.T) {
	r := newRig(t)
	post := func(form url.Values, headers ...string) (*http.Response, map[string]any) {
		text := form.Encode()
		return r.send(root(), "POST "+certificatePath+" HTTP/1.1\r\nHost: 169.254.169.254\r\nMetadata: true\r\nContent-Type: application/x-www-form-urlencoded\r\n"+strings.Join(append(headers, ""), "\r\n")+fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(text), text))
	}
	resp, body := post(url.Values{"token_type": {"ssh-cert"}, "req_cnf": {"{}"}, "key_id": {"k"}, "machine": {"m"}})
	if resp.StatusCode != 200 || body["access_token"] != "cert" || body["token_type"] != "ssh-cert" || r.asked[0] != "certificate {} m for root" {
		t.Fatalf("%d %v %v", resp.StatusCode, body, r.asked)
	}
	for name, form := range map[string]url.Values{"no key": {}, "an unknown field": {"req_cnf": {"{}"}, "principal": {"root"}}, "a key twice": {"req_cnf": {"{}", "{}"}}} {
		if resp, body := post(form); resp.StatusCode != 400 {
			t.Errorf("%s: %d %v", name, resp.StatusCode, body)
		}
	}
	if resp, _ := post(url.Values{"req_cnf": {"{}"}}, "X-Forwarded-For: 10.0.0.1"); resp.StatusCode != 400 {
		t.Error("forwarded")
	}
	if resp, _ := r.send(root(), get(certificatePath, metadata)); resp.StatusCode != 405 {
		t.Error("GET")
	}
	if resp, body := post(url.Values{"req_cnf": {strings.Repeat("x", maxBody)}}); resp.StatusCode != 400 {
		t.Errorf("too long: %d %v", resp.StatusCode, body)
	}
}

func TestInstance_DocumentAndLeaves(t *testing.T) {
	r := newRig(t)
	text := func(path string) string {
		resp, body := r.send(root(), get(instancePath+path, metadata))
		return fmt.Sprint(resp.StatusCode, " ", body["text"])
	}
	const v = "?api-version=2021-02-01&format=text"
	for path, want := range map[string]string{
		v: "200 compute/\nnetwork/", "/compute/vmId" + v: "200 m", "/Compute/LOCATION" + v: "200 westeurope", "/compute/tags" + v: "200 a:1;b:2", "/compute/resourceGroupName" + v: "200 RG",
		"/network/interface/0/ipv4/ipAddress/0/privateIpAddress" + v: "200 10.0.0.4", "/network/interface" + v: "200 0/", "/compute/tagsList/1/name" + v: "200 b", "/compute/osProfile/adminUsername" + v: "200 azureuser",
		"/network/interface/0/macAddress" + v: "200 000D3A", "/network/interface/0/ipv4/subnet/0/prefix" + v: "200 24",
	} {
		if got := text(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if resp, body := r.send(root(), get(instancePath+"?api-version=2021-02-01", metadata)); resp.StatusCode != 200 || body["compute"] == nil || body["network"] == nil {
		t.Errorf("%v", body)
	}
	for path, want := range map[string]int{"/nothing?api-version=2021-02-01": 404, "/network/interface/1?api-version=2021-02-01": 404, "/compute/vmId/x?api-version=2021-02-01": 404, "": 400, "?api-version=2016-01-01": 400, "?api-version=2021-02-01&format=xml": 400} {
		if resp, body := r.send(root(), get(instancePath+path, metadata)); resp.StatusCode != want || fmt.Sprint(body["error"]) == "" {
			t.Errorf("%s: %d %v", path, resp.StatusCode, body)
		}
	}
	if _, body := r.send(root(), get(instancePath, metadata)); body["newest-versions"] == nil {
		t.Errorf("%v", body)
	}
	if resp, body := r.send(root(), get("/metadata/versions", metadata)); resp.StatusCode != 200 || body["apiVersions"] == nil {
		t.Errorf("%v", body)
	}
	if resp, body := r.send(root(), get(infoPath+"?api-version=2018-02-01", metadata)); resp.StatusCode != 200 || body["tenantId"] != "tenant" || body["clientId"] != "client" {
		t.Errorf("%v", body)
	}
}

// Whatever a caller sends, nobody who was refused makes the server work.
func FuzzRequest(f *testing.F) {
	f.Add(get(armToken, metadata))
	f.Add(get(instancePath+"/compute?api-version=2021-02-01", metadata))
	f.Add("POST " + certificatePath + " HTTP/1.1\r\nHost: 169.254.169.254\r\nMetadata: true\r\nContent-Length: 3\r\n\r\na=b")
	f.Fuzz(func(t *testing.T, text string) {
		req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			return
		}
		r := &rig{t: t, at: time.Unix(1, 0)}
		s := New(Config{Server: r, Now: r.now, Log: t.Logf, Interfaces: func() []Interface { return nil }})
		for _, v := range []caller.Verdict{{UID: 1000, Code: caller.CodeNotMember}, root()} {
			w := &answer{header: http.Header{}}
			s.ServeHTTP(w, req.WithContext(context.WithValue(t.Context(), verdictKey{}, &judged{Taken: caller.Taken{Verdict: v}})))
			if !v.Allowed && (w.status != http.StatusForbidden || len(r.asked) > 0) {
				t.Fatalf("%q: %d %v", text, w.status, r.asked)
			}
		}
	})
}

type answer struct {
	header http.Header
	status int
}

func (a *answer) Header() http.Header { return a.header }
func (a *answer) WriteHeader(s int)   { a.status = s }
func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = 200
	}
	return len(b), nil
}

// An instance of a scale set has Azure's name, and names its set.
func TestDocument_Instance(t *testing.T) {
	doc := document(protocol.Instance{ResourceID: "/subscriptions/22222222-2222-4222-8222-222222222222/resourceGroups/RG/providers/Microsoft.Compute/virtualMachineScaleSets/set1/virtualMachines/3"}, nil)
	compute, _ := doc["compute"].(map[string]any)
	if compute["azEnvironment"] != "AzurePublicCloud" {
		t.Errorf("azEnvironment %v", compute["azEnvironment"])
	}
	other, _ := document(protocol.Instance{Environment: "AzureChinaCloud"}, nil)["compute"].(map[string]any)
	if other["azEnvironment"] != "AzureChinaCloud" {
		t.Errorf("azEnvironment %v", other["azEnvironment"])
	}
	for _, taken := range []bool{false, true} { // Azure's words, "true" and "false"
		profile, _ := document(protocol.Instance{Passwords: taken}, nil)["compute"].(map[string]any)["osProfile"].(map[string]any)
		if got := profile["disablePasswordAuthentication"]; got != strconv.FormatBool(!taken) {
			t.Errorf("disablePasswordAuthentication: %v", got)
		}
	}
	if compute["name"] != "set1_3" || compute["vmScaleSetName"] != "set1" || compute["resourceGroupName"] != "RG" {
		t.Errorf("%v", compute)
	}
}
