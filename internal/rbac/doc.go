// Package rbac owns authorization: role definitions, built-in and custom, role
// assignments, directory roles, and the pure index that answers Check ("may
// they?"), its inverse WhoCan ("who may?") and Consider ("why?") from memory.
//
// It refuses: storage, transport, conditions (an assignment with a condition is
// refused when it is made, never ignored), and any default other than deny.
package rbac
