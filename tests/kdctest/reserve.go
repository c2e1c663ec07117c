package kdctest

import "net"

// Reserve returns a loopback address, host:port, without a TCP listener, and keeps it
// free until release: Linux does not assign it to another process, other systems are
// unlikely to.
func Reserve() (address string, release func(), err error) {
	return reserve("127.0.0.1:0")
}

// free replaces reserve on systems that cannot reserve an address.
func free(address string) (string, func(), error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "", nil, err
	}
	defer l.Close()
	return l.Addr().String(), func() {}, nil
}
