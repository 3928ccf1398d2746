package machine

import (
	"testing"
	"unicode"

	"sallyport/internal/guid"
	"sallyport/internal/machine/protocol"
)

// FuzzReport: of what a machine says, nothing reaches an index, a record or a
// terminal that is not printable, bounded and of the shape that it claims.
func FuzzReport(f *testing.F) {
	f.Add([]byte(`{"capability":1,"agent":"0.1.0","openSsh":"OpenSSH_9.2","provisioned":"Succeeded","message":"on","revision":3,"addresses":["10.0.0.4"],"hostKeys":["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPk3kTtPqXMDzrhFl/dXSwPFTnCDFzSqE2hA9OVVZNS"]}`))
	f.Add([]byte(`{"capability":3,"agent":"a","events":[{"id":"0aaaaaaa-0000-4000-8000-000000000001","correlationId":"0aaaaaaa-0000-4000-8000-000000000002","type":"login.deny","detail":{"reason":"no-role"}}]}`))
	f.Add([]byte(`{"capability":1,"addresses":["::1%eth0"],"message":"\u001b[2J"}`))
	f.Add([]byte(`{"capability":1,"addresses":["fe80::1%\u001b[2J"]}`)) // netip takes any byte for a zone
	f.Fuzz(func(t *testing.T, b []byte) {
		var r protocol.Report
		if err := protocol.Decode(b, &r); err != nil || checkReport(r) != nil {
			return
		}
		words := append([]string{r.Agent, r.Message}, r.Addresses...)
		for _, e := range r.Events {
			if !guid.Valid(e.ID) || e.ObjectID != "" && !guid.Valid(e.ObjectID) {
				t.Fatalf("%+v", e)
			}
			words = append(words, e.Type, e.LoginName)
			for k, v := range e.Detail {
				words = append(words, k, v)
			}
		}
		for _, w := range words {
			for _, c := range w {
				if unicode.IsControl(c) || c == unicode.ReplacementChar {
					t.Fatalf("%q is in the report", w)
				}
			}
		}
	})
}

// FuzzJoin: the same for what a machine says when it joins.
func FuzzJoin(f *testing.F) {
	f.Add([]byte(`{"token":"t","capability":1,"hostname":"vm1","os":"Debian","openSsh":"OpenSSH_9.2","agent":"0.1.0"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r protocol.JoinRequest
		if err := protocol.Decode(b, &r); err != nil || checkJoin(r, "thumbprint") != nil {
			return
		}
		for _, w := range []string{r.Hostname, r.OS, r.OpenSSH, r.Agent} {
			for _, c := range w {
				if c < ' ' || c > '~' {
					t.Fatalf("%q is in the request", w)
				}
			}
		}
	})
}
