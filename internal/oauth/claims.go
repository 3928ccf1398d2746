package oauth

import (
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
)

// claimsRequest is the part of a claims parameter (OpenID Connect Core 5.5) that
// changes a token of ours: the client's capabilities.
type claimsRequest struct {
	capabilities []string
}

// parseClaims reads a claims parameter. It must be one JSON object; members that
// ask for claims which we do not give are no error, as the standard says.
func parseClaims(text string) (claimsRequest, error) {
	if text == "" {
		return claimsRequest{}, nil
	}
	bad := refuse("invalid_request", 90014, "The parameter 'claims' is not a JSON object.")
	if len(text) > 8<<10 {
		return claimsRequest{}, bad
	}
	var v struct {
		AccessToken map[string]json.RawMessage `json:"access_token"`
		IDToken     map[string]json.RawMessage `json:"id_token"`
	}
	d := json.NewDecoder(strings.NewReader(text))
	if d.Decode(&v) != nil {
		return claimsRequest{}, bad
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return claimsRequest{}, bad
	}
	var wanted struct {
		Values []string `json:"values"`
	}
	if raw, ok := v.AccessToken["xms_cc"]; ok && json.Unmarshal(raw, &wanted) != nil {
		return claimsRequest{}, bad
	}
	var out claimsRequest
	if slices.Contains(wanted.Values, "CP1") { // can handle claims challenges
		out.capabilities = []string{"CP1"}
	}
	return out, nil
}
