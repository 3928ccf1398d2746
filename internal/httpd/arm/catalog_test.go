package arm_test

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// What azure-cli 2.91.0 reads when it is given the address alone: `az cloud update
// --endpoint-resource-manager` asks for 2022-09-01, which is one cloud and no list.
func TestMetadata_EachVersionHasItsShape(t *testing.T) {
	server := newServer(t)
	for version, want := range map[string]string{
		"":           `{"authentication":{"audiences":["` + base + `/arm"],"loginEndpoint":"` + base + `/adfs"},"galleryEndpoint"`,
		"2015-01-01": `{"authentication":{"audiences":["` + base + `/arm"],"loginEndpoint":"` + base + `/adfs"},"galleryEndpoint"`,
		"2019-05-01": `[{"authentication":{"audiences":["` + base + `/arm"],"loginEndpoint":"` + base + `/adfs"},`,
		"2022-09-01": `{"authentication":{"audiences":["` + base + `/arm"],"identityProvider":"AAD","loginEndpoint":"` + base + `","tenant":"common"},`,
	} {
		out := httptest.NewRecorder()
		server.front.ServeHTTP(out, httptest.NewRequest("GET", "/metadata/endpoints?api-version="+version, nil))
		if !strings.HasPrefix(out.Body.String(), want) {
			t.Errorf("%s: %d: %s", version, out.Code, out.Body)
		}
	}
}
