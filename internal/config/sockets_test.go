package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestKDCOptions_Proxy(t *testing.T) {
	const secret = "hunter2"
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KDC_PROXY_PASSWORD", secret)
	t.Setenv("KDC_PROXY", "socks5://me:"+secret+"@proxy:1080")
	t.Setenv("KDC_PROXY_ODD", "me:"+secret+"@proxy:1080")
	for _, row := range []struct {
		proxy    string
		host     string // empty: it is rejected
		password string
		warns    bool
	}{
		{"socks5://proxy:1080", "proxy:1080", "", false},
		{"socks5://me@proxy:1080", "proxy:1080", "", false},
		{"http://me:" + secret + "@proxy:3128", "proxy:3128", secret, true},
		{"http://me:" + secret + "@{env.KDC_PROXY_PASSWORD}:3128", secret + ":3128", secret, true},
		{"http://{env.KDC_PROXY_PASSWORD}:" + secret + "@proxy", "proxy", secret, true},
		{"http://me:{env.KDC_PROXY_PASSWORD}@proxy:3128", "proxy:3128", secret, false},
		{"http://me:{file." + file + "}@proxy:3128", "proxy:3128", secret, false},
		{"{env.KDC_PROXY}", "proxy:1080", secret, false},
		{"{env.KDC_PROXY_ODD}", "", "", false},
		{"me:" + secret + "@proxy:1080", "", "", false},
		{"http://{env.KDC_PROXY_PASSWORD}:1/{env.KDC_PROXY_PASSWORD}@proxy", "", "", false},
		{"http://{env.KDC_PROXY_PASSWORD} x", "", "", false},
		{"http://me:{env.KDC_PROXY_UNSET}{env.KDC_PROXY_PASSWORD}@proxy", "", "", false},
		{"http://me:" + secret + "@{http.request.host}", "", "", false},
	} {
		core, logs := observer.New(zap.DebugLevel)
		env, err := NewEnv(nil, "", zap.New(core))
		if err != nil {
			t.Fatal(err)
		}
		c := &Credentials{User: "a@CORP.EXAMPLE", Password: "{env.KDC_PROXY_PASSWORD}", KDC: []string{"127.0.0.1"}, KDCOptions: &KDCOptions{Proxy: row.proxy}}
		r, err := c.Resolve(env)
		if output := fmt.Sprint(errors.Join(err, c.Check()), logs.All()); strings.Contains(output, secret) {
			t.Errorf("%s: the password is printed: %s", row.proxy, output)
		}
		if warns := logs.FilterMessageSnippet("plaintext password of the proxy").Len() > 0; warns != row.warns {
			t.Errorf("%s: warns %t, want %t", row.proxy, warns, row.warns)
		}
		if row.host == "" {
			if err == nil || !strings.Contains(err.Error(), "proxy") {
				t.Errorf("%s: %v", row.proxy, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", row.proxy, err)
			continue
		}
		if err := c.Check(); err != nil {
			t.Errorf("%s: the text is rejected: %v", row.proxy, err)
		}
		password, _ := r.Sockets.Proxy.User.Password()
		if r.Sockets.Proxy.Host != row.host || password != row.password {
			t.Errorf("%s: host %s, password %s", row.proxy, r.Sockets.Proxy.Host, password)
		}
	}
}
