// Package rbac owns authorization: role definitions, role assignments, directory
// roles, and the pure index that answers Check ("may they?") and its inverse
// WhoCan ("who may?") from memory.
//
// It refuses: storage, transport, conditions (an assignment with a condition is
// refused when it is made, never ignored), and any default other than deny.
package rbac
