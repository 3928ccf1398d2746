// Package backup owns the format of backup files: an age file (C2SP age v1) whose
// plain text is a header, the rows of tables, and a trailer that counts them.
// age encrypts and authenticates in chunks of 64 KiB and marks the last one, so
// that a file that was changed or cut off is refused; header and rows stream.
//
// It refuses: plain text (there is no way to write a file without a recipient),
// a file that goes on after its trailer, and deciding what a backup holds.
package backup
