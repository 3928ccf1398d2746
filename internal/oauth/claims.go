package oauth

import (
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/internal/oauth/token"
)

// challenge is a refusal of an access token that a client can mend by itself: it
// asks for a new one with these claims.
type challenge struct {
	error
	claims string
}

// Unwrap returns the refusal.
func (c challenge) Unwrap() error { return c.error }

// ClaimsChallenge returns the claims, a JSON object.
func (c challenge) ClaimsChallenge() string { return c.claims }

// challenged adds to a refusal that the client's next token has to be of a later
// time, for clients that have said they understand it (xms_cc CP1, Entra's
// "Continuous access evaluation"). Others would go on with the token in their
// cache, and those that understand would, too, without it.
func challenged(c token.Claims, notBefore time.Time, refusal error) error {
	if !slices.Contains(c.Capabilities, "CP1") {
		return refusal
	}
	claims, err := json.Marshal(map[string]any{"access_token": map[string]any{"nbf": map[string]any{"essential": true, "value": strconv.FormatInt(notBefore.Unix(), 10)}}})
	if err != nil {
		return refusal
	}
	return challenge{refusal, string(claims)}
}

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
