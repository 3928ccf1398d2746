// Package linklocal takes the address of the instance metadata service,
// 169.254.169.254, for this machine: it finds out whether a cloud has it, gives
// it to the loopback interface, listens, and gives it back.
//
// It refuses: an address that anybody else may have. What says "cloud" is the
// firmware's vendor, a route that leads to the address, somebody who answers
// there, or another program that listens there already; each of them is enough,
// and none of them is asked for anything.
package linklocal
