// Package collector owns the way of audit records to somebody else's collector:
// syslog (RFC 5424) and OpenTelemetry logs (OTLP over HTTP, JSON), each record
// at least once, in the order of each chain, from a cursor that outlives the
// process.
//
// It refuses: to hold anybody up. Records wait in the store, so that a collector
// that is slow or dead costs no memory, no login and no record.
package collector
