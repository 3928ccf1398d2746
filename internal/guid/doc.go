// Package guid owns the one form in which every identifier of ours is written:
// a GUID as 8-4-4-4-12 hexadecimal digits in lower case (RFC 9562 section 4).
//
// It refuses: other forms (braces, urn:uuid:, no hyphens), which Azure's wire
// does not use either, and randomness of its own.
package guid
