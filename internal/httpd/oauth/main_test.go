package oauth_test

import (
	"os"
	"testing"

	"sallyport/internal/handbooktest"
)

// heard are the refusals that docs/troubleshooting.md explains: the tests of this
// package bring each of them about.
var heard = handbooktest.Expect("AADSTS65002.userinfo", "AADSTS50055", "AADSTS50055.policy", "AADSTS50057", "AADSTS500341", "AADSTS50173", "AADSTS50173.ended", "AADSTS50173.reuse", "AADSTS700003", "AADSTS700082",
	"AADSTS700082.certificate", "AADSTS50076", "AADSTS53003", "AADSTS53003.control", "AADSTS53000", "AADSTS70043", "AADSTS500011", "AADSTS7000112", "AADSTS90002", "AADSTS700016", "AADSTS7000215", "AADSTS7000222", "AADSTS7000229",
	"AADSTS700027", "AADSTS65001", "AADSTS65002", "AADSTS70003.password", "AADSTS70003.device", "AADSTS70003.preview", "AADSTS70017", "AADSTS70020", "AADSTS50105", "TooManyCodes",
	"page.SignedOut", "page.SignedOut.code", "page.Code", "page.Code.unknown", "page.Code.used", "page.Elsewhere", "page.Elsewhere.machine", "page.NotYours", "page.Passwords", "page.Consent", "page.Nobody", "page.Programs", "page.Stays")

func TestMain(m *testing.M) { os.Exit(heard.Main(m)) }
