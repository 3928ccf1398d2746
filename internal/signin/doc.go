// Package signin owns how a person proves who they are to this server: sign-in
// sessions, the steps that lead to one and the proof that a step was taken.
//
// Steps never call each other. Each returns to the dispatcher (the authorize or
// device request that started it) with a proof bound to that request, to the
// session and to the step's name, so that no step can be skipped or replayed for
// another request.
//
// It refuses: passwords and factors themselves (see credential), pages (see
// httpd/signin), and telling a stranger which accounts exist.
package signin
