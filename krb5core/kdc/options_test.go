package kdc

import (
	"errors"
	"net"
	"net/url"
	"runtime"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

func mustURL(t *testing.T, text string) *url.URL {
	t.Helper()
	return must.OK(url.Parse(text))(t)
}

func TestOptionsThatServeAreAccepted(t *testing.T) {
	for _, o := range []Options{
		{},
		{LocalAddress: "192.0.2.1"},
		{LocalAddress: "192.0.2.1:1088", IPVersion: 4},
		{LocalAddress: "2001:db8::1", IPVersion: 6},
		{LocalAddress: "[2001:db8::1]"},
		{LocalAddress: "[2001:db8::1]:1088"},
		{ReadBuffer: 1 << 20, WriteBuffer: 1 << 20, MaxReplySize: minReplySize, UDPPreferenceLimit: 1},
		{Proxy: mustURL(t, "socks5://user:secret@proxy:1080")},
		{Proxy: mustURL(t, "http://proxy.example.com/")},
	} {
		if err := o.Check(); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestOptions_ErrorsNameTheOption(t *testing.T) {
	for _, test := range []struct {
		options Options
		says    string
	}{
		{Options{LocalAddress: "eth0"}, "local_address"},
		{Options{LocalAddress: "192.0.2.1:x"}, "local_address"},
		{Options{LocalAddress: "192.0.2.1", IPVersion: 6}, "ip_version"},
		{Options{LocalAddress: "::1", IPVersion: 4}, "ip_version"},
		{Options{IPVersion: 5}, "ip_version"},
		{Options{DSCP: 64}, "dscp"},
		{Options{DSCP: -1}, "dscp"},
		{Options{ReadBuffer: -1}, "read_buffer"},
		{Options{WriteBuffer: maxReplySize + 1}, "write_buffer"},
		{Options{MaxReplySize: 100}, "max_reply_size"},
		{Options{MaxReplySize: -1}, "max_reply_size"},
		{Options{UDPPreferenceLimit: 65508}, "udp_preference_limit"},
		{Options{UDPPreferenceLimit: -1}, "udp_preference_limit"},
		{Options{Proxy: mustURL(t, "https://user:secret@proxy")}, "proxy"},
		{Options{Proxy: mustURL(t, "socks5://")}, "proxy"},
		{Options{Proxy: mustURL(t, "http://proxy/path")}, "proxy"},
		{Options{Proxy: mustURL(t, "proxy:1080")}, "proxy"},
		{Options{Proxy: mustURL(t, "user:secret@proxy:1080")}, "proxy"},
		{Options{Proxy: mustURL(t, "http://user:1/secret@proxy")}, "proxy"},
		{Options{Proxy: mustURL(t, "http://user:1?secret@proxy")}, "proxy"},
		{Options{Proxy: mustURL(t, "http://user:1#secret@proxy")}, "proxy"},
	} {
		err := test.options.Check()
		if err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: got %v", test.options, err)
		}
		if _, err := NewSender(Config{Finder: Static{}, Options: test.options}); err == nil {
			t.Errorf("%+v: NewSender accepts it", test.options)
		}
	}
}

func TestOptions_UnsupportedBySystem(t *testing.T) {
	for _, test := range []struct {
		name    string
		options Options
		has     bool
	}{
		{"dscp", Options{DSCP: 46}, hasDSCP},
		{"dont_fragment", Options{DontFragment: true}, hasDontFragment},
	} {
		err := test.options.Check()
		if test.has != (err == nil) {
			t.Errorf("%s on %s: got %v", test.name, runtime.GOOS, err)
		}
		if err != nil && (!errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), test.name) || !strings.Contains(err.Error(), systemName)) {
			t.Errorf("%s on %s: got %v", test.name, runtime.GOOS, err)
		}
	}
}

func TestNewSenderDemandsAFinder(t *testing.T) {
	if _, err := NewSender(Config{}); err == nil {
		t.Error("it was made without")
	}
}

func TestLocalAddressIsSentFrom(t *testing.T) {
	// Of an unused address, all ports are free; only Linux has it.
	reserved, err := net.Listen("tcp", "127.99.88.77:0")
	if err != nil {
		reserved, err = net.Listen("tcp", "127.0.0.1:0")
	}
	must.Do(t, err)
	free := reserved.Addr().String()
	reserved.Close()
	for _, test := range []struct {
		local string
		want  string
	}{{"127.0.0.1", "127.0.0.1:"}, {free, free}} {
		clients := make(chan string, 10)
		kdc := startKDC(t, func(_ int, _ []byte, send func([]byte), client net.Addr) {
			clients <- client.String()
			send(krbError(messages.KRB_ERR_RESPONSE_TOO_BIG))
		}, func(n int, conn net.Conn) {
			clients <- conn.RemoteAddr().String()
			answeringStream(framed(answer("reply")))(n, conn)
		})
		s := newTestSender(t, Config{clock: newManualClock(), Options: Options{LocalAddress: test.local}}, kdc.Server)
		for range 3 { // a fixed port must be free again at once
			mustSend(t, s, newRequest(), "reply", kdc.Server)
		}
		for range 4 {
			if client := <-clients; !strings.HasPrefix(client, test.want) {
				t.Errorf("came from %s, want %s", client, test.want)
			}
		}
	}
}
