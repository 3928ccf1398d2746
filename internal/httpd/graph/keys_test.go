package graph_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/rbac"
)

// certificates makes client certificates of one key, as Graph carries them.
func (w *world) certificates() func(serial int64) string {
	w.t.Helper()
	priv, err := rsa.GenerateKey(rand.Reader, 2048)
	w.must(err)
	return func(serial int64) string {
		c := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: w.now, NotAfter: w.now.Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, c, c, &priv.PublicKey, priv)
		w.must(err)
		return base64.StdEncoding.EncodeToString(der)
	}
}

// As az ad sp create-for-rbac --create-cert goes, and a PATCH that keeps one
// certificate by its keyId.
func TestGraph_KeyCredentials(t *testing.T) {
	w := newWorld(t)
	cert := w.certificates()
	app := w.do(w.admin, "POST", "/v1.0/applications", `{"displayName":"ci","keyCredentials":[{"type":"AsymmetricX509Cert","usage":"Verify","key":"`+cert(1)+`","displayName":"CN=ci","startDateTime":"2027-01-15T08:00:00Z"}]}`, 201)
	id := str(app, "id")
	keyIDs := func() []string {
		list, _ := w.do(w.admin, "GET", "/v1.0/applications/"+id, "", 200)["keyCredentials"].([]any)
		var ids []string
		for _, k := range list {
			m, _ := k.(map[string]any)
			ids = append(ids, str(m, "keyId"))
		}
		return ids
	}
	first := keyIDs()
	if len(first) != 1 {
		t.Fatal(first)
	}
	w.do(w.admin, "PATCH", "/v1.0/applications/"+id, `{"keyCredentials":[{"keyId":"99999999-9999-4999-8999-999999999999"}]}`, 400)
	w.do(w.admin, "PATCH", "/v1.0/applications/"+id, `{"keyCredentials":[{"keyId":"`+first[0]+`"},{"key":"`+cert(2)+`"}]}`, 204)
	if got := keyIDs(); len(got) != 2 || !slices.Contains(got, first[0]) {
		t.Errorf("%v, kept %v", got, first)
	}
	keyInputs(w, "/v1.0/applications/"+id, first[0], cert(3))
	keysAreKept(w, "/v1.0/applications/"+id, cert(4))
	w.do(w.admin, "PATCH", "/v1.0/applications/"+id, `{"keyCredentials":[]}`, 204)
	if got := keyIDs(); len(got) != 0 {
		t.Error(got)
	}
}

// As az ad sp credential reset --cert goes: the certificate is the service principal's,
// and not one of its application's.
func TestGraph_PrincipalKeyCredentials(t *testing.T) {
	w := newWorld(t)
	cert := w.certificates()
	_, id, appID := w.principal("ci")
	at := "/v1.0/servicePrincipals/" + id
	shown := func() []any {
		list, _ := w.do(w.admin, "GET", at, "", 200)["keyCredentials"].([]any)
		return list
	}
	w.do(w.admin, "PATCH", at, `{"keyCredentials":[{"key":"`+cert(1)+`","displayName":"one"}]}`, 204)
	first, _ := shown()[0].(map[string]any)
	w.do(w.admin, "PATCH", at, `{"keyCredentials":[{"keyId":"`+str(first, "keyId")+`"},{"key":"`+cert(2)+`"}]}`, 204)
	if list := shown(); len(list) != 2 {
		t.Error(list)
	}
	app := values(w.do(w.admin, "GET", "/v1.0/applications?$filter=appId eq '"+appID+"'", "", 200))[0]
	if list, _ := app["keyCredentials"].([]any); len(list) != 0 {
		t.Errorf("its application has %v", list)
	}
	keyInputs(w, at, str(first, "keyId"), cert(3))
	somebody, maker := w.user("somebody"), w.user("maker")
	w.role("00000000-0000-4000-8000-0000000000a1", rbac.ApplicationAdministrator, maker)
	before := w.picture()
	for _, who := range []string{somebody, maker + "|Directory.ReadWrite.All"} {
		w.do(who, "PATCH", at, `{"keyCredentials":[]}`, 403)
		w.do(who, "PATCH", at, `{"accountEnabled":false,"keyCredentials":[{"key":"`+cert(4)+`"}]}`, 403)
	}
	if w.picture() != before {
		t.Errorf("refused changes made %s of %s", w.picture(), before)
	}
	for range 20 - len(shown()) { // no more fit
		w.do(w.admin, "POST", at+"/addPassword", `{"passwordCredential":{"displayName":"s"}}`, 200)
	}
	here, err := json.Marshal(shown())
	w.must(err)
	w.do(w.admin, "PATCH", at, `{"accountEnabled":false,"keyCredentials":[`+strings.Trim(string(here), "[]")+`,{"key":"`+cert(5)+`"}]}`, 400)
	if still, _ := json.Marshal(shown()); string(still) != string(here) || w.do(w.admin, "GET", at, "", 200)["accountEnabled"] != true {
		t.Error("a refused change was made in part")
	}
	w.do(w.admin, "PATCH", at, `{}`, 400)
	w.do(w.admin, "PATCH", "/v1.0/servicePrincipals/99999999-9999-4999-8999-999999999999", `{"keyCredentials":[]}`, 404)
	w.do(w.admin, "PATCH", at, `{"keyCredentials":[]}`, 204)
	if list := shown(); len(list) != 0 {
		t.Error(list)
	}
}

// keyInputs: what an entry of keyCredentials says is shown, or is refused.
func keyInputs(w *world, at, there, cert string) {
	w.t.Helper()
	shown := func() []any {
		list, _ := w.do(w.admin, "GET", at, "", 200)["keyCredentials"].([]any)
		return list
	}
	is, err := json.Marshal(shown())
	w.must(err)
	w.do(w.admin, "PATCH", at, `{"keyCredentials":`+string(is)+`}`, 204) // as az sends them back
	fresh := `"type":"AsymmetricX509Cert","usage":"Verify","key":"` + cert + `"`
	for _, entry := range []string{
		`{"keyId":"` + there + `","displayName":"another"}`, `{"keyId":"` + there + `","endDateTime":"2027-02-01T00:00:00Z"}`, `{"keyId":"` + there + `","startDateTime":"2027-02-01T00:00:00Z"}`,
		`{"keyId":"` + there + `","customKeyIdentifier":"00"}`, `{"keyId":"` + there + `","usage":"Sign"}`, `{"keyId":"` + there + `","nosuch":1}`, `null`, `{}`,
		`{` + fresh + `,"nosuch":1}`, `{` + fresh + `,"endDateTime":"2999-01-01T00:00:00Z"}`, `{` + fresh + `,"startDateTime":"1999-01-01T00:00:00Z"}`, `{` + fresh + `,"startDateTime":"2027-01-15T09:00:00Z","endDateTime":"2027-01-15T08:30:00Z"}`,
		`{` + fresh + `,"endDateTime":"tomorrow"}`, `{` + fresh + `,"customKeyIdentifier":"QUJD"}`, `{` + fresh + `,"displayName":7}`,
	} {
		w.do(w.admin, "PATCH", at, `{"keyCredentials":[`+entry+`]}`, 400)
	}
	w.do(w.admin, "PATCH", at, `{"keyCredentials":null}`, 400)
	if still, _ := json.Marshal(shown()); string(still) != string(is) {
		w.t.Errorf("a refused change made %s of %s", still, is)
	}
	// One that is good for less than its certificate ends when it was said.
	w.do(w.admin, "PATCH", at, `{"keyCredentials":[{`+fresh+`,"displayName":"short","startDateTime":"2027-01-15T08:00:00Z","endDateTime":"2027-01-15T08:20:00Z"}]}`, 204)
	list := shown()
	one, _ := list[0].(map[string]any)
	if len(list) != 1 || str(one, "endDateTime") != "2027-01-15T08:20:00Z" || str(one, "startDateTime") != "2027-01-15T08:00:00Z" || str(one, "displayName") != "short" {
		w.t.Errorf("%v", list)
	}
}

// keysAreKept: whoever sends a new certificate that is refused has the old one still,
// and no application is made of which a certificate is refused.
func keysAreKept(w *world, at, cert string) {
	w.t.Helper()
	shown := func(path, member string) string {
		text, err := json.Marshal(w.do(w.admin, "GET", path, "", 200)[member])
		w.must(err)
		return string(text)
	}
	is, all := shown(at, "keyCredentials"), shown("/v1.0/applications", "value")
	w.now = w.now.Add(30 * time.Minute)
	fresh := `{"type":"AsymmetricX509Cert","usage":"Verify","key":"` + cert + `"`
	for _, keys := range []string{fresh + `,"endDateTime":"2027-01-15T08:20:00Z"}`, fresh + `,"displayName":"CN=a:b"}`, fresh + `},` + fresh + `}`, `{"keyId":"99999999-9999-4999-8999-999999999999"}`} {
		w.do(w.admin, "PATCH", at, `{"displayName":"other","keyCredentials":[`+keys+`]}`, 400)
		w.do(w.admin, "POST", "/v1.0/applications", `{"displayName":"half","keyCredentials":[`+keys+`]}`, 400)
	}
	w.do(w.admin, "PATCH", at, `{"web":{"redirectUris":["javascript:x"]},"keyCredentials":[`+fresh+`}]}`, 400)
	if still, now := shown(at, "keyCredentials"), shown("/v1.0/applications", "value"); still != is || now != all {
		w.t.Errorf("refused changes made %s of %s\n%s of\n%s", still, is, now, all)
	}
}

// An owner's client may do with certificates what it was given, and no more: with
// them it could sign in as the application by itself.
func TestGraph_KeyCredentialsAskTheClient(t *testing.T) {
	w := newWorld(t)
	maker := w.user("maker")
	w.role("00000000-0000-4000-8000-0000000000a1", rbac.ApplicationAdministrator, maker)
	app := w.do(maker, "POST", "/v1.0/applications", `{"displayName":"mine"}`, 201)
	at, keys := "/v1.0/applications/"+str(app, "id"), `{"displayName":"x","keyCredentials":[{"key":"`+w.certificates()(1)+`"}]}`
	before := w.picture()
	for _, body := range []string{keys, `{"keyCredentials":[]}`} {
		w.do(maker+"|Directory.ReadWrite.All", "PATCH", at, body, 403)
	}
	w.do(maker+"|Directory.ReadWrite.All", "POST", "/v1.0/applications", keys, 403)
	if list, _ := w.do(maker, "GET", at, "", 200)["keyCredentials"].([]any); len(list) != 0 || w.picture() != before {
		t.Errorf("certificates: %v\n%s", list, w.picture())
	}
	w.do(maker+"|Directory.ReadWrite.All", "PATCH", at, `{"displayName":"y"}`, 204)
	w.do(maker+"|Application.ReadWrite.All", "PATCH", at, keys, 204)
}
