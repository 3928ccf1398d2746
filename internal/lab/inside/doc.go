// Package inside is the half of the lab that runs in a machine: the stage that
// builds the machine's view of the computer, and its first process.
//
// It owns: mounts, device files, masks, capability bounding set and system-call
// filter (Stage), and an init that starts the units of a fixed list, restarts
// them and reaps what is left behind (Init).
//
// Under the other back end it owns the running of systemd-nspawn, as root of a
// user namespace, and its restart when the machine asks for one.
//
// It refuses: any decision about which machines exist, and any trust in what
// lies in the machine's files. Whoever is root in a machine may have replaced
// every one of them, so Stage resolves no path of the machine before the
// computer's root has been taken away.
package inside
