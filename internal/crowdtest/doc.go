// Package crowdtest gives tests time on a computer that has much else to do.
//
// It owns: how many programs want each processor, the limits that grow with that,
// and the one way to wait for a condition of the outside world.
//
// It refuses: to be part of a program, and to say that something did not come about
// when it was looked at only once.
package crowdtest
