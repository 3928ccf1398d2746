package server

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
	"sallyport/internal/resource"
	"sallyport/internal/scope"
	"sallyport/internal/store"
)

// said checks that an error of Resource Manager or Graph is in the words of
// docs/troubleshooting.md.
func said(t *testing.T, answer map[string]any, id string) {
	t.Helper()
	e, _ := answer["error"].(map[string]any)
	text, _ := e["message"].(string)
	handbooktest.Said(t, text, id)
}

// What a whole deployment answers, asked over HTTP.
func TestSentences_OfTheDoors(t *testing.T) {
	c := newCastle(t)
	c.person("alice")
	sub := c.subscription()
	const nobody = "00000000-0000-4000-8000-00000000dead"
	images := sub + "/providers/Microsoft.Compute/locations/westeurope/publishers/Debian/artifacttypes/vmimage/offers/debian-12/skus/"
	for _, one := range []struct {
		id, who, method, path, body string
		status                      int
	}{
		{"arm.AuthorizationFailed", "alice", "GET", sub + "?api-version=2022-12-01", "", 403},
		{"arm.VMImage", "admin", "GET", images + "13/versions?api-version=2024-03-01", "", 404},
		{"arm.VMImage.version", "admin", "GET", images + "12-gen2/versions/1?api-version=2024-03-01", "", 404},
		{"arm.SessionNotFound", "alice", "GET", "/providers/Sallyport.Access/machineSessions/" + nobody + "?api-version=2026-11-01", "", 404},
		{"arm.CertificateNotFound", "alice", "GET", "/providers/Sallyport.Access/certificates/17?api-version=2026-11-01", "", 404},
		{"arm.RevocationNotFound", "admin", "GET", "/providers/Sallyport.Access/revocations/" + nobody + "?api-version=2026-11-01", "", 404},
		{"arm.UpgradeNotFound", "admin", "GET", "/providers/Sallyport.Access/agentUpgrades/spring?api-version=2026-11-01", "", 404},
	} {
		said(t, c.want(one.status, one.who, one.method, one.path, one.body), one.id)
	}
	anonymous := func(path string) string {
		w := httptest.NewRecorder()
		c.doors.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w.Body.String()
	}
	handbooktest.Said(t, anonymous(sub+"?api-version=2022-12-01"), "arm.AuthenticationFailed")
	handbooktest.Said(t, anonymous("/repository/apt/dists/stable/InRelease"), "arm.NoRepository")
	text := ""
	for range 5_000 {
		if text = anonymous("/nothing"); strings.Contains(text, "too many") {
			break
		}
	}
	handbooktest.Said(t, text, "arm.TooManyRequests")
}

// A server that has nothing to make machines with says so in the operation.
func TestSentences_NoMachineBackEnd(t *testing.T) {
	y := newYard(t)
	network := y.rg + "/providers/Microsoft.Network/"
	y.want(201, "admin", "PUT", network+"virtualNetworks/v?api-version=2022-01-01", `{"location":"westeurope","properties":{"addressSpace":{"addressPrefixes":["10.0.0.0/16"]},"subnets":[{"name":"s","properties":{"addressPrefix":"10.0.0.0/24"}}]}}`)
	y.want(201, "admin", "PUT", network+"networkInterfaces/n?api-version=2022-01-01", `{"location":"westeurope","properties":{"ipConfigurations":[{"name":"c","properties":{"subnet":{"id":"`+network+`virtualNetworks/v/subnets/s"}}}]}}`)
	id, err := scope.Parse(y.rg + "/providers/Microsoft.Compute/virtualMachines/m")
	y.must(err)
	by := audit.By{Principal: y.ids["admin"], Type: audit.User, CorrelationID: zeroID, At: time.Now()}
	made, err := y.d.engine.Put(t.Context(), by, resource.Request{ID: id, Body: []byte(`{"location":"westeurope","properties":{"storageProfile":{"imageReference":{"publisher":"Debian","offer":"debian-12","sku":"12-gen2","version":"latest"}},
"networkProfile":{"networkInterfaces":[{"id":"` + network + `networkInterfaces/n"}]}}}`)})
	y.must(err)
	y.work()
	status, err := y.d.engine.Operation(t.Context(), by, made.Operation.ID)
	if err != nil || status.Error == nil {
		t.Fatalf("%+v %v", status, err)
	}
	handbooktest.Said(t, status.Error.Message, "arm.NoMachineBackEnd")
}

// Rules of the directory that no address of Graph leads to.
func TestSentences_OfTheDirectory(t *testing.T) {
	y := newYard(t)
	alice := y.person("alice")
	_, sp := y.application("reports")
	p, _ := y.d.directory.ServicePrincipal(sp)
	by := audit.By{Principal: alice, Type: audit.User, Client: directory.AzureCLI, Permissions: []string{directory.AccessAsUser}, CorrelationID: zeroID, At: time.Now()}
	err := y.d.people.Agree(t.Context(), by, directory.Consent{AppID: p.AppID, ResourceID: directory.GraphAppID, Values: []string{"User.Read.All"}})
	handbooktest.Said(t, fault.As(err).Public(), "graph.Consent")
	err = y.d.credentials.ChangePassword(t.Context(), by, "alice@corp.example", castlePassword, castlePassword)
	handbooktest.Said(t, fault.As(err).Public(), "graph.Password.old")
	y.must(y.d.follow.Write(t.Context(), func(tx *store.Tx) error {
		return tx.SkipPOSIXIDs(directory.LastMachinePOSIXID - directory.FirstPOSIXID)
	}))
	said(t, y.want(429, "admin", "PUT", y.machine("web")+hybridVersion, `{"location":"westeurope","identity":{"type":"SystemAssigned"},"properties":{}}`), "graph.PosixIds")
	y.must(y.d.follow.Write(t.Context(), func(tx *store.Tx) error {
		next, err := tx.NextPOSIXID()
		if err != nil {
			return err
		}
		return tx.SkipPOSIXIDs(directory.LastPOSIXID - int64(next))
	}))
	said(t, y.want(429, "admin", "POST", "/v1.0/users", `{"accountEnabled":true,"displayName":"x","mailNickname":"x","userPrincipalName":"last@corp.example","passwordProfile":{"password":"`+castlePassword+`"}}`), "trouble.PosixIds")
}
