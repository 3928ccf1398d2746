// Package resource owns the Resource Manager engine: who may do what to which
// resource, what a body may hold, writes with conditions, operations, and the
// reconciliation of what is wanted with what is.
//
// Resource types are values (see Type and package types). A write stores the
// resource with its desired revision, an operation and an audit event in one
// transaction; workers lease what is behind and reconcile it. An operation holds
// no logic: it is over when its revision was observed or failed, so the process
// may be killed at any moment.
//
// It refuses: a property that no type knows, a write nobody authorized, HTTP, and
// a clock or randomness of its own. Source of names, shapes and codes: Azure
// Resource Manager's REST reference.
package resource
