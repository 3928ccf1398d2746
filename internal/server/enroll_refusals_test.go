package server

import (
	"fmt"
	"strings"
	"testing"

	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/rbac"
)

// Tags are for a machine that joining makes, and not without an end.
func TestEnroll_TagsThatAreRefused(t *testing.T) {
	y := newYard(t)
	y.assign(y.rg, rbac.Contributor, y.person("alice"))
	_, err := y.join(protocol.JoinRequest{Token: y.joinToken("alice", y.rg), Name: "web"}, "key")
	y.must(err)
	many := map[string]string{}
	for i := range 51 {
		many[fmt.Sprint("t", i)] = "x"
	}
	for words, r := range map[string]protocol.JoinRequest{
		"a machine has at most 50 tags": {Token: y.joinToken("alice", y.rg), Name: "many", Tags: many},
		"the machine 'web' exists, and joining changes none of its tags. Leave --tags out": {Token: y.joinToken("alice", y.machine("web")), Name: "web", Tags: map[string]string{"role": "db"}},
	} {
		_, err := y.join(r, "another")
		if f := fault.As(err); err == nil || f.Code != "InvalidJoinRequest" || !strings.Contains(f.Public(), words) {
			t.Errorf("%v, want %s", err, words)
		}
	}
}
