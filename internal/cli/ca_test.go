package cli

import (
	"strings"
	"testing"
)

const keysAnswer = `{"manifest":{"epoch":1,"version":2,"keyOnServer":true,"unsigned":false},"value":[{"purpose":"user-ca","id":"new","state":"STATE","waitsFor":"1 machines"},{"purpose":"user-ca","id":"old","state":"active"}],
"machinesBehind":1,"machines":[{"machineId":"m","resourceId":"/subscriptions/s/vm1","version":1,"lastSeen":null}]}`

func TestCA_ShowNamesWhoIsBehind(t *testing.T) {
	f, p := signedIn(t)
	f.routes["GET /providers/Sallyport.Access/keys"] = strings.Replace(keysAnswer, "STATE", "next", 1)
	r := p.run("ca", "show", "-o", "table")
	if r.code != 0 || !strings.Contains(r.out, "next") || !strings.Contains(r.out, "1 machines") {
		t.Errorf("%s%s", r.out, r.err)
	}
	if !strings.Contains(r.err, "/subscriptions/s/vm1 (not seen since the server started)") {
		t.Errorf("%s", r.err)
	}
}

// A rotation waits until the new key signs, asks before it withdraws, and sends
// what was said.
func TestCA_Rotate(t *testing.T) {
	f, p := signedIn(t)
	next, done := strings.Replace(keysAnswer, "STATE", "next", 1), strings.Replace(keysAnswer, "STATE", "active", 1)
	f.routes["POST /providers/Sallyport.Access/rotateKey"] = next
	f.queue = map[string][]string{"GET /providers/Sallyport.Access/keys": {next, next, done}}
	f.log = nil
	if out := p.must("ca", "rotate", "--purpose", "user-ca", "--after", "24h", "--query", "value[0].state", "-o", "tsv"); out != "active\n" {
		t.Errorf("%q", out)
	}
	if len(f.log) != 4 || !strings.Contains(f.log[0], `"afterSeconds":86400`) || !strings.Contains(f.log[0], `"compromised":false`) {
		t.Errorf("%q", f.log)
	}
	f.log = nil
	p.fails(1, []string{"--yes"}, "ca", "rotate", "--purpose", "user-ca", "--compromised")
	p.fails(2, []string{"--after"}, "ca", "rotate", "--purpose", "user-ca", "--after", "soon")
	p.fails(2, []string{"--purpose"}, "ca", "rotate")
	if len(f.log) != 0 {
		t.Errorf("sent %q", f.log)
	}
	p.must("ca", "rotate", "--purpose", "user-ca", "--compromised", "--yes", "--no-wait")
	if len(f.log) != 1 || !strings.Contains(f.log[0], `"compromised":true`) {
		t.Errorf("%q", f.log)
	}
}

// What is exported is what OpenSSH reads, and never a line that accepts
// everybody.
func TestCA_Export(t *testing.T) {
	_, p := signedIn(t)
	if out := p.must("ca", "export", "--purpose", "user-ca"); !strings.HasPrefix(out, "ssh-ed25519 ") || !strings.HasSuffix(out, " sallyport-user-ca\n") {
		t.Errorf("%q", out)
	}
	if out := p.must("ca", "export", "--purpose", "host-ca"); !strings.HasPrefix(out, "@cert-authority *.machine.contoso.test ssh-ed25519 ") {
		t.Errorf("%q", out)
	}
	if out := p.must("ca", "export", "--purpose", "user-ca", "--format", "authorized-keys", "--principal", alice); !strings.HasPrefix(out, `cert-authority,principals="`+alice+`" ssh-ed25519 `) {
		t.Errorf("%q", out)
	}
	p.fails(2, []string{"--principal"}, "ca", "export", "--purpose", "user-ca", "--format", "authorized-keys")
	p.fails(1, nil, "ca", "export", "--purpose", "user-ca", "--format", "authorized-keys", "--principal", `x" ssh-rsa`)
	p.fails(2, []string{"--purpose"}, "ca", "export", "--purpose", "token")
}
