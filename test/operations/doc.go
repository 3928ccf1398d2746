// Package operations proves what docs/operations.md says: its steps run on a
// whole computer of their own, with systemd as its first process; and servers
// run as processes here, for what happens over restarts, upgrades and foreign
// requests. It owns no product code.
package operations
