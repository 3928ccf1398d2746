// Package lab runs machines on this computer: a small root process of its own,
// for the demo and for end-to-end tests.
//
// It owns: which machines exist, their addresses and files, one network
// namespace with a bridge, the processes, the forwarders, and the socket on
// which its owner asks for changes (package labwire). What happens in a machine
// belongs to package lab/inside.
//
// It refuses: paths, commands and options from the socket; any change of this
// computer outside its state directory. Mounts exist only in the machines' own
// mount namespaces and interfaces only in namespaces that end with this
// process, so kill -9 cleans up as well as a polite stop does. Only empty control
// groups of machines outlive it, until the lab starts again.
package lab
