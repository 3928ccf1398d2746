// Package names keeps, for ever, which directory object a login name belongs to
// on this machine. A name whose object was deleted and made again has a new
// object id; the home folder and everything in it still belong to the old one.
// Until an administrator decides (adopt or archive), the new one is refused.
//
// It refuses: forgetting. An entry is only ever handed over.
package names
