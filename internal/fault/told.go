//go:build !heard

package fault

// told and remedied are for tests that keep what is said; a program does not.
func told(string, string)     {}
func remedied(string, string) {}
