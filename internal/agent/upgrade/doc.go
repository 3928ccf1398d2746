// Package upgrade puts another build of the agent on this machine and takes it
// back when it does not prove itself: packages that were verified, installed by
// the package manager that owns the present ones, or a closed list of files out of
// them where no manager does, and a supervisor that is a copy
// of the present program under a unit of its own, so that neither the death of
// either build nor a loss of power leaves the machine without an agent. A journal
// says at every moment what the next one does.
//
// It refuses: machines whose agent came in another way or has other files than its
// version, versions that go down,
// files that no signed release names, and deciding who may wish for an upgrade.
package upgrade
