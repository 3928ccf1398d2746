package arm_test

import (
	"crypto/rand"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sallyport/internal/cloud"
	"sallyport/internal/httpd"
	"sallyport/internal/httpd/arm"
)

// What azure-cli 2.91.0 reads when it is given the address alone: `az cloud update
// --endpoint-resource-manager` asks for 2022-09-01, which is one cloud and no list.
func TestMetadata_EachVersionHasItsShape(t *testing.T) {
	server := newServer(t)
	for version, want := range map[string]string{
		"":           `{"authentication":{"audiences":["` + base + `/arm"],"loginEndpoint":"` + base + `/adfs"},"galleryEndpoint"`,
		"2015-01-01": `{"authentication":{"audiences":["` + base + `/arm"],"loginEndpoint":"` + base + `/adfs"},"galleryEndpoint"`,
		"2019-05-01": `[{"authentication":{"audiences":["` + base + `/arm"],"loginEndpoint":"` + base + `/adfs"},`,
		"2022-09-01": `{"authentication":{"audiences":["` + base + `/arm","https://management.azure.com","https://management.core.windows.net"],"identityProvider":"AAD","loginEndpoint":"` + base + `","tenant":"common"},`,
	} {
		out := httptest.NewRecorder()
		server.front.ServeHTTP(out, httptest.NewRequest("GET", "/metadata/endpoints?api-version="+version, nil))
		if !strings.HasPrefix(out.Body.String(), want) {
			t.Errorf("%s: %d: %s", version, out.Code, out.Body)
		}
	}
}

// Each cloud under its own name. az 2.45.0 gives whoever it reads of as AzureCloud
// the login page of Microsoft's own, so the list has another name for that one.
func TestMetadata_OfEachCloud(t *testing.T) {
	limit := httpd.Limit{PerSecond: 1e6, Burst: 1e6}
	for _, c := range cloud.All() {
		mux := httpd.NewMux()
		arm.New(arm.Config{URL: base, Cloud: c}).Mount(mux)
		front, err := httpd.New(httpd.Config{Rows: rows(), Mux: mux, Authenticator: doors{}, Authority: base, Now: time.Now, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler), Limits: map[string]httpd.Limit{"read": limit, "write": limit, "login": limit, "token": limit}})
		if err != nil {
			t.Fatal(err)
		}
		listed := c.Name
		if listed == cloud.Global {
			listed = "AzureUSGovernment"
		}
		for version, name := range map[string]string{"2019-05-01": listed, "2022-09-01": c.Name} {
			out := httptest.NewRecorder()
			front.ServeHTTP(out, httptest.NewRequest("GET", "/metadata/endpoints?api-version="+version, nil))
			if !strings.Contains(out.Body.String(), `"name":"`+name+`"`) || version == "2022-09-01" && !strings.Contains(out.Body.String(), c.Management[0]) {
				t.Errorf("%s %s: %s", c.Name, version, out.Body)
			}
		}
	}
}
