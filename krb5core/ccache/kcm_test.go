package ccache

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/filetest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// kcmReply returns a reply with a result.
func kcmReply(result ...byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(4+len(result)))
	return append(append(b, 0, 0, 0, 0, 0, 0, 0, 0), result...)
}

// kcmFailure returns a reply with an error code in the first or the second status.
func kcmFailure(outer, inner int32) []byte {
	b := []byte{0, 0, 0, 4}
	b = binary.BigEndian.AppendUint32(b, uint32(outer))
	return binary.BigEndian.AppendUint32(b, uint32(inner))
}

func listed(credentials ...[]byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(credentials)))
	for _, c := range credentials {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(c))), c...)
	}
	return b
}

func encodedPrincipal(t testing.TB, name string) []byte {
	return appendPrincipal(nil, filetest.Principal(t, name))
}

func encodedTicket(t *testing.T, service string) []byte {
	cred := ticket(t, service, 10)
	return must.OK(appendCredential(nil, &cred))(t)
}

// serveKCM runs a daemon that answers each request; it closes the connection if the answer is nil.
func serveKCM(t *testing.T, answer func(operation uint16, arguments string) []byte) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l := must.OK(net.Listen("unix", socket))(t)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for {
					var length [4]byte
					if _, err := io.ReadFull(conn, length[:]); err != nil {
						return
					}
					request := make([]byte, binary.BigEndian.Uint32(length[:]))
					if _, err := io.ReadFull(conn, request); err != nil {
						return
					}
					reply := answer(binary.BigEndian.Uint16(request[2:]), string(request[4:]))
					if reply == nil {
						return
					}
					if _, err := conn.Write(reply); err != nil {
						return
					}
				}
			}()
		}
	}()
	return socket
}

// aliceKCM answers as a daemon that has one cache, of alice.
func aliceKCM(t *testing.T) func(operation uint16, arguments string) []byte {
	principal, tgt := encodedPrincipal(t, "alice@A"), encodedTicket(t, "krbtgt/A@A")
	config := full(t).configEntry(ConfigKey{"fast_avail", "krbtgt/A@A"})
	entry := must.OK(appendCredential(nil, config))(t)
	return func(operation uint16, arguments string) []byte {
		switch operation {
		case opGetDefaultCache:
			return kcmReply([]byte("1000:7\x00")...)
		case opGetPrincipal:
			if arguments != "1000:7\x00" {
				return kcmFailure(0, codeNoFile)
			}
			return kcmReply(principal...)
		case opGetCredList:
			return kcmReply(listed(tgt, entry)...)
		case opGetCredUUIDList:
			return kcmReply(append(bytes.Repeat([]byte{1}, 16), bytes.Repeat([]byte{2}, 16)...)...)
		case opGetCredByUUID:
			if strings.HasSuffix(arguments, "\x02") {
				return kcmReply(entry...)
			}
			return kcmReply(tgt...)
		}
		return kcmFailure(0, codeInternal)
	}
}

func readKCM(t *testing.T, name, socket string) (*CCache, error) {
	t.Helper()
	return must.OK(Open(name, Options{KCMSocket: socket}))(t).Read(t.Context(), messages.Principal{})
}

func TestKCM_Read(t *testing.T) {
	source := must.OK(Open("KCM:", Options{KCMSocket: serveKCM(t, aliceKCM(t))}))(t)
	cache := must.OK(source.Read(t.Context(), messages.Principal{}))(t)
	if cache.Name != "KCM:1000:7" || cache.TGT("A", noon) == nil || len(cache.Credentials) != 1 || len(cache.Config) != 1 {
		t.Errorf("%s: %s, configuration %v", cache.Name, cache, cache.Config)
	}
	if again := must.OK(source.Read(t.Context(), messages.Principal{}))(t); again != cache {
		t.Error("what has not changed is another cache")
	}
	if _, err := readKCM(t, "KCM:1000:8", serveKCM(t, aliceKCM(t))); err == nil || !strings.Contains(err.Error(), "as that user") {
		t.Errorf("a cache that is not there: %v", err)
	}
}

// A daemon that does not know the operation for all credentials says so, or closes the connection.
func TestKCM_CredentialsByUUID(t *testing.T) {
	for name, unknown := range map[string][]byte{"closes": nil, "second status": kcmFailure(0, codeInternal), "first status": kcmFailure(codeInternal, 0)} {
		alice := aliceKCM(t)
		cache, err := readKCM(t, "KCM:", serveKCM(t, func(operation uint16, arguments string) []byte {
			if operation == opGetCredList {
				return unknown
			}
			return alice(operation, arguments)
		}))
		if err != nil || len(cache.Credentials) != 1 || len(cache.Config) != 1 {
			t.Errorf("%s: %v, %v", name, cache, err)
		}
	}
}

func TestKCM_BadReplies(t *testing.T) {
	huge := kcmReply()
	copy(huge, "\xff\xff\xff\xff")
	most := kcmReply()
	binary.BigEndian.PutUint32(most, maxSize)
	never := make(chan struct{})
	t.Cleanup(func() { close(never) })
	tgt := encodedTicket(t, "krbtgt/A@A")
	for name, bad := range map[string]struct {
		operation uint16
		reply     []byte
		want      string
	}{
		"4 GiB promised":          {opGetDefaultCache, huge, "4294967295 bytes: larger than"},
		"16 MiB promised":         {opGetDefaultCache, most, "does not answer in time"},
		"silence":                 {opGetDefaultCache, []byte{}, "does not answer in time"},
		"closed":                  {opGetDefaultCache, nil, "EOF"},
		"garbage":                 {opGetDefaultCache, []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), "does not answer as a KCM daemon"},
		"no status":               {opGetDefaultCache, []byte{0, 0, 0, 0, 0, 0, 0, 0}, "a reply of 0 bytes"},
		"an error":                {opGetPrincipal, kcmFailure(0, 13), "error 13"},
		"a name without an end":   {opGetDefaultCache, kcmReply('x'), "no name"},
		"an empty name":           {opGetDefaultCache, kcmReply(0), "no name"},
		"a name with a line":      {opGetDefaultCache, kcmReply('x', '\n', 0), "no name"},
		"half a principal":        {opGetPrincipal, kcmReply(encodedPrincipal(t, "alice@A")[:9]...), "principal, byte 4: 1 components"},
		"more than a principal":   {opGetPrincipal, kcmReply(append(encodedPrincipal(t, "alice@A"), 1)...), "1 bytes follow"},
		"too many credentials":    {opGetCredList, kcmReply(0xff, 0xff, 0xff, 0xff), "do not fit"},
		"half a credential":       {opGetCredList, kcmReply(listed(tgt[:50])...), "credential 1, byte"},
		"more than a credential":  {opGetCredList, kcmReply(listed(tgt, append(tgt, 1))...), "credential 2, byte"},
		"more than the list":      {opGetCredList, kcmReply(append(listed(tgt), 1)...), "1 bytes follow"},
		"no socket":               {0, nil, "is not there"},
		"cache of another's name": {opGetPrincipal, kcmFailure(0, codeNoFile), "no credential cache"},
	} {
		t.Run(name, func(t *testing.T) {
			alice := aliceKCM(t)
			socket := serveKCM(t, func(operation uint16, arguments string) []byte {
				if operation != bad.operation {
					return alice(operation, arguments)
				}
				return bad.reply
			})
			if bad.operation == 0 {
				socket += "-gone"
			}
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			if !strings.Contains(bad.want, "in time") {
				ctx = t.Context()
			}
			defer cancel()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			cache, err := must.OK(Open("KCM:", Options{KCMSocket: socket}))(t).Read(ctx, messages.Principal{})
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), bad.want) {
				t.Errorf("%v, %v does not say %q", cache, err, bad.want)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
				t.Errorf("%d bytes allocated", n)
			}
		})
	}
}

func TestKCM_SwitchedOff(t *testing.T) {
	if _, err := Open("KCM:", Options{KCMSocket: "-"}); err == nil || !strings.Contains(err.Error(), "kcm_socket") {
		t.Error(err)
	}
}

// scripted is a connection on which the daemon's bytes wait already.
type scripted struct {
	net.Conn
	io.Reader
}

func (s scripted) Read(p []byte) (int, error)  { return s.Reader.Read(p) }
func (s scripted) Write(p []byte) (int, error) { return len(p), nil }

func FuzzKCM(f *testing.F) {
	t := &testing.T{}
	alice := aliceKCM(t)
	script := func(operations ...uint16) (b []byte) {
		for _, o := range operations {
			b = append(b, alice(o, "1000:7\x00")...)
		}
		return b
	}
	f.Add(script(opGetDefaultCache, opGetPrincipal, opGetCredList), false, "")
	f.Add(script(opGetDefaultCache, opGetPrincipal, opGetCredUUIDList, opGetCredByUUID, opGetCredByUUID), true, "")
	f.Add(append(script(opGetDefaultCache, opGetPrincipal), append(kcmReply(make([]byte, 16)...), script(opGetDefaultCache, opGetPrincipal)...)...), false, "bob@B")
	f.Fuzz(func(t *testing.T, replies []byte, byUUID bool, owner string) {
		p, _ := messages.ParsePrincipal(owner, "A")
		c := &kcmConn{conn: scripted{Reader: bytes.NewReader(replies)}, left: maxSize}
		parts, err := c.cache("", p, byUUID)
		if err != nil {
			return
		}
		if cache, err := parts.parse(); err == nil && cache.Name == "KCM:" {
			t.Error("a cache without a name")
		}
	})
}
