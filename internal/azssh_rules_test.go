package internal_test

import (
	"strings"
	"testing"
)

// azSSHRules are the rules of azure reference sections 7, 11 and 12 (token caching
// and throttling, az ssh, Conditional Access and claims challenges), each with the
// tests that hold this server to it: replays of recorded traffic, or the rule's own
// text as a test. What only the client does is held by az itself in TestSSH.
func azSSHRules() []struct{ rule, tests string } {
	return []struct{ rule, tests string }{
		{"7 a token is found in the cache again while more than five minutes remain: scope echoes what was asked for, expires_in is an integer", "TestGolden_AzureCLIRequests TestAzSSH_EachCloud TestSSH"},
		{"7 a 400 is shown again for 60 s, a 401 is not: what is mended at once is a 401", "TestAzSSH_WhatMSALCaches TestClient_Secrets"},
		{"7 no Retry-After on an answer of the directory, whatever its status", "TestGolden_AzureCLIRequests TestThrottled_Shapes TestToken_PrincipalIsLimited TestRecorded_StepUp"},
		{"7 discovery is kept for a day: its addresses follow the authority that was asked for and nothing else", "TestGolden_AzureCLIRequests TestDiscovery_KeysManifestAndTenants"},
		{"7 of several refresh tokens the next is tried without the certificate's parameters: the same refusal, and never a bearer token", "TestRecorded_StepUp TestConditionalAccess_RefusedOnEveryGrant TestClause_I2_NoBearerForTheSSHResource TestClause_I5_PolicyDecides"},
		{"11.1 the request of a person: refresh grant with token_type, req_cnf, key_id", "TestGolden_AzureCLIRequests TestSSH"},
		{"11.1 of a service principal: client credentials with the same fields, scope alone", "TestGolden_AzureCLIRequests TestCertificate_EveryGrant TestAzSSH_WhatMSALCaches"},
		{"11.1 after a step-up: authorization code with the same fields", "TestGolden_AzureCLIRequests TestRecorded_StepUp TestSSH"},
		{"11.1 the resource's name in each cloud", "TestAzSSH_EachCloud TestRecorded_StepUp"},
		{"11.1 n and e with padding and the sign byte; small, even and odd keys are refused", "TestGolden_AzureCLIRequests FuzzParseConfirmation TestClause_I6_Refusals"},
		{"11.1 key_id is opaque", "TestClause_I1_ContentOfAUserCertificate TestGolden_AzureCLIRequests"},
		{"11.2 the certificate is standard base64 of the blob, ssh-rsa-cert-v01 for an RSA key, for exactly this key", "TestAzSSH_TheCertificateAsAzReadsIt TestGolden_AzureCLIRequests TestClause_I1_ContentOfAUserCertificate TestSSH"},
		{"11.2 the CA may be of any kind that sshd takes, and its RSA signature is no SHA-1", "TestClause_C2_EveryAuthorityAlgorithm TestClause_C2_Authority TestSSH"},
		{"11.2 validity is finite, and expires_in does not exceed it", "TestAzSSH_TheCertificateAsAzReadsIt TestClause_I3_NeverPastTheSession TestConditionalAccess_StepUp"},
		{"11.2 with a repeated key no request is made and the file is the same", "TestSSH"},
		{"11.2 an error is an OAuth error body", "TestClause_I6_Refusals TestRecorded_StepUp"},
		{"11.3 the first principal, lower-cased, is the login name; none has a colon", "TestAzSSH_TheCertificateAsAzReadsIt TestClause_C6_Principals TestSSH"},
		{"11.4 az ssh cert asks Resource Manager nothing", "TestGolden_AzureCLIRequests TestSSH"},
		{"11.5 az ssh vm --ip: the stock ssh with -l, -i and CertificateFile logs in", "TestSSH"},
		{"11.6 the machine is found by name in its group, once, with its kind; any case", "TestRecorded_AzSSHFindsTheMachine TestSSH"},
		{"11.6 osType, network interfaces, private and public address", "TestRecorded_AzSSHFindsTheMachine TestSSH"},
		{"11.7 az ssh config: a Host block with these files logs in", "TestSSH"},
		{"11.8 Cloud Shell asks the page with prompt=none", "TestAzSSH_CloudShell TestBrowser_PromptAndSession"},
		{"11.8 managed identities: az refuses by itself; ours get certificates through their machine", "TestIdentity_CertificateOfAMachine"},
		{"12.1 a refused silent request brings the page: no prompt, login_hint, and the person proves himself again", "TestRecorded_StepUp TestConditionalAccess_StepUp TestSSH"},
		{"12.1 the refresh token of the step-up carries it: the next silent request succeeds", "TestRecorded_StepUp TestConditionalAccess_StepUp TestSSH"},
		{"12.1 policy is enforced where the certificate is asked for, on every grant", "TestConditionalAccess_RefusedOnEveryGrant TestConditionalAccess_Device TestMachineDevice_Refusals"},
		{"12.1 az login --scope of the resource is a step-up, too, and gives no token for it", "TestClause_I2_NoBearerForTheSSHResource TestConditionalAccess_RefusedOnEveryGrant"},
		{"12.1 service principals have no step-up: one refusal, no claims", "TestConditionalAccess_RefusedOnEveryGrant TestAzSSH_WhatMSALCaches"},
		{"12.2 for other resources the sentence says with which scope to sign in", "TestConditionalAccess_EveryResource"},
		{"12.3 Resource Manager's challenge: one claims=, base64, no comma; the token that is fetched with it works", "TestClaimsChallenge"},
		{"12.3 a client that has not said CP1 is not challenged", "TestClaimsChallenge"},
	}
}

// TestAzSSHRules_HaveTheirTests: no rule is without a test that exists.
func TestAzSSHRules_HaveTheirTests(t *testing.T) {
	known, sections := testNames(t), map[string]bool{}
	for _, r := range azSSHRules() {
		section, _, _ := strings.Cut(r.rule, " ")
		sections[section] = true
		if r.tests == "" {
			t.Errorf("no test: %s", r.rule)
		}
		for _, name := range strings.Fields(r.tests) {
			if known[name] == nil {
				t.Errorf("%s: %s does not exist", r.rule, name)
			}
		}
	}
	for _, want := range strings.Fields("7 11.1 11.2 11.3 11.4 11.5 11.6 11.7 11.8 12.1 12.2 12.3") {
		if !sections[want] {
			t.Errorf("section %s has no rule", want)
		}
	}
}
