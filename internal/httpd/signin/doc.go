// Package signin is the HTTP side of signing in, for people: the authorize
// dispatcher, the sign-in pages, the device page and signing out.
//
// The authorize request is the only dispatcher: every page sends the browser
// back to it with a proof of the one step it was for, and it alone decides what
// comes next.
//
// It refuses: scripts (the one that presses a form_post button is named by its
// hash), frames, third-party content, and error texts that hold anything but a
// sentence, what to do, and a correlation id.
package signin
