package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"
)

// freePort returns an address without a listener.
func freePort() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "127.0.0.1:0" // the listener on it reports the error
	}
	defer l.Close()
	return l.Addr().String()
}

// load sends requests over persistent connections.
type load struct {
	addr  string
	conns []*loadConn
	users int // whom the requests name, drawn at random; zero: nobody
}

type loadConn struct {
	net.Conn
	in *bufio.Reader
}

var request = []byte("GET / HTTP/1.1\r\nHost: intranet.corp.example\r\nUser-Agent: bench\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\r\n")

// userHeader is the header that names the end user.
const userHeader = "X-User"

func userName(i int) string { return fmt.Sprintf("user%05d", i) }

// requestOf is a request that names a user.
func requestOf(user int) []byte {
	return append(request[:len(request)-2:len(request)-2], userHeader+": "+userName(user)+"\r\n\r\n"...)
}

// next is the next request of the load.
func (l *load) next() []byte {
	if l.users == 0 {
		return request
	}
	return requestOf(rand.IntN(l.users))
}

// dial opens n connections.
func dial(addr string, n int) (*load, error) {
	l := &load{addr: addr}
	for range n {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			l.close()
			return nil, err
		}
		l.conns = append(l.conns, &loadConn{c, bufio.NewReader(c)})
	}
	return l, nil
}

func (l *load) close() {
	for _, c := range l.conns {
		_ = c.Close()
	}
}

// ask sends one request and checks the answer.
func (c *loadConn) ask(request []byte) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	response, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	n, err := io.Copy(io.Discard, response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK || n != 1000 {
		return fmt.Errorf("unexpected response: %s, %d bytes", response.Status, n)
	}
	return nil
}

// send sends n requests over all connections without pauses.
func (l *load) send(n int) error {
	errs := make([]error, len(l.conns))
	var wg sync.WaitGroup
	for i, c := range l.conns {
		wg.Go(func() {
			for range n / len(l.conns) {
				if errs[i] = c.ask(l.next()); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// sendOf sends one request for each user.
func (l *load) sendOf(users int) error {
	errs := make([]error, len(l.conns))
	var wg sync.WaitGroup
	for i, c := range l.conns {
		wg.Go(func() {
			for user := i; user < users && errs[i] == nil; user += len(l.conns) {
				errs[i] = c.ask(requestOf(user))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// answer is the time when a request was due and the time until its response.
type answer struct {
	at   time.Time
	took time.Duration
}

// pace sends requests at a steady rate per connection for the duration d. A request
// that is due before the last response is sent late, but counts from when it was due.
func (l *load) pace(rate int, d time.Duration) ([]answer, error) {
	lists := make([][]answer, len(l.conns))
	errs := make([]error, len(l.conns))
	begin := time.Now()
	var wg sync.WaitGroup
	for i, c := range l.conns {
		wg.Go(func() {
			step := time.Second / time.Duration(rate)
			due := begin.Add(step * time.Duration(i) / time.Duration(len(l.conns)))
			for ; due.Before(begin.Add(d)); due = due.Add(step) {
				if errs[i] = sleepUntil(due); errs[i] != nil {
					return
				}
				if errs[i] = c.ask(l.next()); errs[i] != nil {
					return
				}
				lists[i] = append(lists[i], answer{due, time.Since(due)})
			}
		})
	}
	wg.Wait()
	var all []answer
	for _, list := range lists {
		all = append(all, list...)
	}
	return all, errors.Join(errs...)
}
