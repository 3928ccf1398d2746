package lab

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"syscall"

	"sallyport/internal/fault"
)

// octets is how many labs one computer can run side by side: each has a third
// byte of its own in the loopback addresses 127.77.K.N of its machines.
const octets = 256

// noOctet is the octet of a lab that never had one.
const noOctet = -1

// reserver takes an octet for this process; syscall.EADDRINUSE says that
// another lab has it. Closing the result gives it back, and so does the end of
// the process.
type reserver func(octet int) (io.Closer, error)

// reserveOctet binds UDP port 22 of 127.77.K.1, which no machine has. The
// kernel then keeps the octet for exactly as long as the lab lives and exactly
// where its addresses mean something, in this network namespace. UDP, because
// an sshd that listens on every address of the computer holds TCP port 22 of
// all octets; below 1024, so that only root can take one.
func reserveOctet(ctx context.Context) reserver {
	return func(octet int) (io.Closer, error) {
		var l net.ListenConfig
		return l.ListenPacket(ctx, "udp4", fmt.Sprintf("127.77.%d.1:22", octet))
	}
}

// octetOf is where a lab with this state directory looks first. Directories
// are spread over all octets, so that a lab which comes back after a pause is
// unlikely to find another lab on its own.
func octetOf(dir string) int {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(dir))
	return int(sum.Sum32() % octets)
}

// claimOctet takes the octet that the lab had, or another one.
//
// A lab with machines never moves: people's ssh configurations name their
// addresses, and at the old ones they would meet the other lab's machines.
// Without machines nothing names an address, and moving harms nobody.
func claimOctet(s *state, reserve reserver) (io.Closer, error) {
	first := s.octet
	if first == noOctet {
		first = octetOf(s.dir)
	}
	for i := range octets {
		octet := (first + i) % octets
		claim, err := reserve(octet)
		switch {
		case err == nil:
			s.octet = octet
			if err := s.save(); err != nil {
				return nil, errors.Join(err, claim.Close())
			}
			return claim, nil
		case !errors.Is(err, syscall.EADDRINUSE):
			return nil, fmt.Errorf("claim the loopback addresses 127.77.%d.0/24: %w", octet, err)
		case len(s.records) > 0:
			return nil, fault.Wrap(err, fault.Conflict, "LabAddressesTaken", "another lab on this computer uses 127.77.%d.0/24, the loopback addresses of this lab's machines", octet).
				WithRemedy("stop the other lab and start this one again")
		}
	}
	return nil, fault.New(fault.Exhausted, "TooManyLabs", "%d labs run on this computer, which is all that its loopback addresses can tell apart", octets).WithRemedy("stop one of them")
}
