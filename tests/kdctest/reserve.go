package kdctest

import "net"

// Reserve gives a loopback address, host:port, on which nobody listens by TCP, and which
// whoever is told of it can listen on until release. On Linux the system gives it to
// nobody else meanwhile, elsewhere that is merely likely.
func Reserve() (address string, release func(), err error) {
	return reserve("127.0.0.1:0")
}

// free is reserve where it cannot be kept.
func free(address string) (string, func(), error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "", nil, err
	}
	defer l.Close()
	return l.Addr().String(), func() {}, nil
}
