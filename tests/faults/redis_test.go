package faults

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func init() { caddy.RegisterModule(new(redisStorage)) }

// redisStorage is as much of a storage over Redis (RESP2) as Caddy and the ticket
// store need. Syntax: `storage redis HOST:PORT`.
type redisStorage struct {
	Address string `json:"address,omitempty"`

	mu     sync.Mutex
	idle   []*redisConn
	tokens sync.Map // lock name -> token
}

type redisConn struct {
	net.Conn
	r *bufio.Reader
}

func (*redisStorage) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.storage.redis", New: func() caddy.Module { return new(redisStorage) }}
}

func (s *redisStorage) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&s.Address) {
		return d.ArgErr()
	}
	return nil
}

func (s *redisStorage) CertMagicStorage() (certmagic.Storage, error) { return s, nil }

func (s *redisStorage) Cleanup() error {
	s.close()
	return nil
}

func (s *redisStorage) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.idle {
		c.Close()
	}
	s.idle = nil
}

// do sends a command and reads its reply: string, int64, nil or []any.
func (s *redisStorage) do(ctx context.Context, args ...string) (any, error) {
	s.mu.Lock()
	var c *redisConn
	if n := len(s.idle); n > 0 {
		c, s.idle = s.idle[n-1], s.idle[:n-1]
	}
	s.mu.Unlock()
	if c == nil {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.Address)
		if err != nil {
			return nil, err
		}
		c = &redisConn{conn, bufio.NewReader(conn)}
	}
	deadline, _ := ctx.Deadline() // zero for none
	_ = c.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, arg := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(arg), arg)
	}
	_, err := io.WriteString(c, b.String())
	var reply any
	if err == nil {
		reply, err = readReply(c.r)
	}
	var refused redisError
	if !stop() || err != nil && !errors.As(err, &refused) {
		c.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return reply, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = append(s.idle, c)
	return reply, err
}

// redisError is an error that the server replied.
type redisError string

func (e redisError) Error() string { return "redis: " + string(e) }

func readReply(r *bufio.Reader) (any, error) {
	line, err := r.ReadString('\n')
	if err != nil || len(line) < 3 {
		return nil, errors.Join(err, io.ErrUnexpectedEOF)
	}
	kind, rest := line[0], strings.TrimSuffix(line[1:], "\r\n")
	switch kind {
	case '+':
		return rest, nil
	case '-':
		return nil, redisError(rest)
	}
	n, err := strconv.ParseInt(rest, 10, 32)
	switch {
	case err != nil:
		return nil, err
	case kind == ':':
		return n, nil
	case n < 0:
		return nil, nil
	case kind == '$':
		b := make([]byte, n+2)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		return string(b[:n]), nil
	case kind == '*':
		all := make([]any, n)
		for i := range all {
			if all[i], err = readReply(r); err != nil {
				return nil, err
			}
		}
		return all, nil
	}
	return nil, fmt.Errorf("redis: reply of kind %q", kind)
}

func (s *redisStorage) Store(ctx context.Context, key string, value []byte) error {
	_, err := s.do(ctx, "SET", key, string(value))
	return err
}

func (s *redisStorage) Load(ctx context.Context, key string) ([]byte, error) {
	reply, err := s.do(ctx, "GET", key)
	if err != nil {
		return nil, err
	}
	text, ok := reply.(string)
	if !ok {
		return nil, fs.ErrNotExist
	}
	return []byte(text), nil
}

func (s *redisStorage) Delete(ctx context.Context, key string) error {
	_, err := s.do(ctx, "DEL", key)
	return err
}

func (s *redisStorage) Exists(ctx context.Context, key string) bool {
	n, err := s.do(ctx, "EXISTS", key)
	return err == nil && n == int64(1)
}

func (s *redisStorage) List(ctx context.Context, path string, _ bool) ([]string, error) {
	reply, err := s.do(ctx, "KEYS", strings.TrimSuffix(path, "/")+"/*")
	if err != nil {
		return nil, err
	}
	var keys []string
	all, _ := reply.([]any)
	for _, key := range all {
		if text, ok := key.(string); ok {
			keys = append(keys, text)
		}
	}
	return keys, nil
}

func (s *redisStorage) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	b, err := s.Load(ctx, key)
	return certmagic.KeyInfo{Key: key, Size: int64(len(b)), IsTerminal: true}, err
}

// Lock is a lease of ten seconds, by the usual recipe.
func (s *redisStorage) Lock(ctx context.Context, name string) error {
	token := rand.Text()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		reply, err := s.do(ctx, "SET", "lock:"+name, token, "NX", "PX", "10000")
		if err != nil {
			return err
		}
		if reply != nil {
			s.tokens.Store(name, token)
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *redisStorage) Unlock(ctx context.Context, name string) error {
	token, ok := s.tokens.LoadAndDelete(name)
	if !ok {
		return nil
	}
	_, err := s.do(ctx, "EVAL", `if redis.call("GET", KEYS[1]) == ARGV[1] then return redis.call("DEL", KEYS[1]) end return 0`, "1", "lock:"+name, token.(string))
	return err
}
