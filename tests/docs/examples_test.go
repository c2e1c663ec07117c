package docs

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

const proxyAccount = "svc-proxy@CORP.EXAMPLE"

func TestExample_IIS(t *testing.T) {
	e, address := newEnv(t), caddytest.FreeAddress(t)
	iis := e.upstream("iis.corp.example", false, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, _ := kdctest.PeerFrom(r.Context())
		fmt.Fprintf(w, "%s asks for %s", peer.Principal, r.Host)
	}))
	e.run("examples/iis/Caddyfile",
		"app.example.com {", "http://"+address+" {", "http://iis.corp.example {", "http://iis.corp.example:"+port(iis)+" {",
		"dc1.corp.example dc2.corp.example", e.kdc.Addr())
	e.want("http://"+address+"/", http.StatusOK, proxyAccount+" asks for iis.corp.example:"+port(iis))
}

func TestExample_LoadBalancing(t *testing.T) {
	e, one, two := newEnv(t), caddytest.FreeAddress(t), caddytest.FreeAddress(t)
	replace := []string{
		"dc1.corp.example dc2.corp.example", e.kdc.Addr(), "intranet.example.com {", "http://" + one + " {",
		"reports.example.com {", "http://" + two + " {", "health_interval 10s", "health_interval 50ms",
	}
	servers := make(map[string]*kdctest.Upstream)
	for _, name := range []string{"iis1", "iis2", "reports1", "reports2"} {
		name += ".corp.example"
		servers[name] = e.upstream(name, true, host(name))
		replace = append(replace, "https://"+name, "https://"+name+":"+port(servers[name]))
	}
	e.run("examples/load-balancing/Caddyfile", replace...)
	// Both sites answer, each by its own servers; every server is asked for its health.
	if a := e.get("http://" + two + "/"); !strings.Contains(a.Body, proxyAccount+" at reports") {
		t.Errorf("reports answers %v", a)
	}
	for name, server := range servers {
		if !strings.HasPrefix(name, "iis") {
			continue
		}
		if err := server.Interrupt(); err != nil {
			t.Fatal(err)
		}
		other := strings.NewReplacer("iis1", "iis2", "iis2", "iis1").Replace(name)
		e.want("http://"+one+"/", http.StatusOK, proxyAccount+" at "+other)
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		caddytest.WaitFor(t, name+" is healthy again", func() bool {
			e.get("http://" + one + "/")
			return server.Requests.Load() > 0
		})
		break
	}
}

func TestExample_Hadoop(t *testing.T) {
	e, address := newEnv(t), caddytest.FreeAddress(t)
	hadoop := kdctest.NewRealm("HADOOP.EXAMPLE")
	e.folder.put("svc-etl.keytab", caddytest.KeysOf(t, hadoop, hadoop.AddUser("svc-etl", "secret")))
	e.startKDC(hadoop)
	e.folder.put("krb5.conf", []byte(strings.ReplaceAll(read(t, "examples/hadoop/krb5.conf"), "kdc.hadoop.example", e.kdc.Addr())))
	replace := []string{"hdfs.example.com {", "http://" + address + " {", "health_interval 5s", "health_interval 50ms"}
	for name, state := range map[string]string{"nn1.hadoop.example": "standby", "nn2.hadoop.example": "active"} {
		node := e.upstream(name, false, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			peer, _ := kdctest.PeerFrom(r.Context())
			switch {
			case r.URL.Path == "/jmx":
				fmt.Fprintf(w, "{ \"beans\" : [ {\n    \"State\" : %q\n} ] }", state)
			case state == "standby":
				http.Error(w, "StandbyException", http.StatusForbidden)
			default:
				http.SetCookie(w, &http.Cookie{Name: "hadoop.auth", Value: "u=" + peer.User})
				w.Header().Set("Location", "http://dn1.hadoop.example:9864"+r.URL.Path+"?"+r.URL.RawQuery)
				w.WriteHeader(http.StatusTemporaryRedirect)
			}
		}))
		replace = append(replace, "http://"+name+":9870", "http://"+name+":"+port(node))
	}
	e.run("examples/hadoop/Caddyfile", replace...)
	file := "http://" + address + "/webhdfs/v1/data?op=OPEN&doas=root"
	if a := e.get(file); a.Status != http.StatusUnauthorized {
		t.Errorf("without a password: %v", a)
	}
	var a caddytest.Answer
	caddytest.WaitFor(t, "health checks have found the active node", func() bool {
		a = e.get(file, func(r *http.Request) { r.SetBasicAuth("etl", "secret") })
		return a.Status == http.StatusTemporaryRedirect
	})
	if to := a.Header.Get("Location"); to != "http://dn1.hadoop.example:9864/webhdfs/v1/data?op=OPEN" {
		t.Errorf("sent to %s", to)
	}
	if cookies := a.Header.Values("Set-Cookie"); len(cookies) > 0 {
		t.Errorf("the client gets %v", cookies)
	}
}

func TestExample_Prometheus(t *testing.T) {
	e, address := newEnv(t), caddytest.FreeAddress(t)
	app := e.upstream("app1.corp.example", false, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, _ := kdctest.PeerFrom(r.Context())
		fmt.Fprintf(w, "up_for{who=%q,path=%q} 1", peer.Principal, r.URL.Path)
	}))
	e.run("examples/prometheus/Caddyfile", "http://127.0.0.1:9180 {", "http://"+address+" {",
		"{re.target.1}:8080", "{re.target.1}:"+port(app), "kdc dc1.corp.example", "kdc "+e.kdc.Addr())
	e.want("http://"+address+"/app1.corp.example/metrics", http.StatusOK, `up_for{who="svc-monitoring@CORP.EXAMPLE",path="/metrics"} 1`)
	e.want("http://"+address+"/app1.corp.example.evil.example/metrics", http.StatusNotFound, "")
	e.want("http://"+address+"/app1.corp.example/admin", http.StatusNotFound, "")
}

func TestExample_KDCProxy(t *testing.T) {
	e, address := newEnv(t), caddytest.FreeAddress(t)
	proxy := httptest.NewUnstartedServer(http.StripPrefix("/KdcProxy", e.kdc.Proxy()))
	proxy.TLS = &tls.Config{Certificates: []tls.Certificate{*e.ca.Server("localhost")}, MinVersion: tls.VersionTLS12}
	proxy.StartTLS()
	t.Cleanup(proxy.Close)
	e.kdc.Stop() // no other way than the proxy
	iis := e.upstream("iis.corp.example", true, host("iis"))
	_, proxyPort, _ := strings.Cut(proxy.Listener.Addr().String(), ":")
	e.run("examples/kdc-proxy/Caddyfile", "partners.example.com {", "http://"+address+" {",
		"https://iis.corp.example {", "https://iis.corp.example:"+port(iis)+" {", "https://kdcproxy.corp.example/", "https://localhost:"+proxyPort+"/")
	e.want("http://"+address+"/", http.StatusOK, proxyAccount+" at iis")
	if n := e.kdc.Counts(); n.HTTPS == 0 || n.UDP+n.TCP > 0 {
		t.Errorf("%+v", n)
	}
}

func TestExample_Kubernetes(t *testing.T) {
	e, address := newEnv(t), caddytest.FreeAddress(t)
	iis := e.upstream("iis.corp.example", false, host("iis"))
	second := caddytest.FreeAddress(t)
	e.runText(kubernetesCaddyfile(t), "http://:8080 {", "http://"+address+" {", "http://:9180 {", "http://"+second+" {",
		"http://iis.corp.example {", "http://iis.corp.example:"+port(iis)+" {", "dc1.corp.example dc2.corp.example", e.kdc.Addr())
	e.want("http://"+address+"/", http.StatusOK, proxyAccount+" at iis")
	e.want("http://"+second+"/healthz", http.StatusOK, "")
	if a := e.get("http://" + second + "/metrics"); !strings.Contains(a.Body, "caddy_kerberos_tickets{") {
		t.Errorf("metrics: %v", a)
	}
}

func TestExample_Systemd(t *testing.T) {
	e, address := newEnv(t), caddytest.FreeAddress(t)
	iis := e.upstream("iis.corp.example", true, host("iis"))
	// The KDC comes out of the DNS there; here it has to be named.
	e.run("examples/systemd/Caddyfile", "app.example.com {", "http://"+address+" {", "https://iis.corp.example {", "https://iis.corp.example:"+port(iis)+" {",
		"user svc-proxy@CORP.EXAMPLE", "user svc-proxy@CORP.EXAMPLE\n\t\t\tkdc "+e.kdc.Addr()+"\n\t\t\ttls_trust_pool file /etc/caddy/corp-ca.pem")
	e.want("http://"+address+"/", http.StatusOK, proxyAccount+" at iis")
}

// A member that starts while no KDC can be reached has the tickets of another.
func TestExample_Fleet(t *testing.T) {
	e, storage := newEnv(t), t.TempDir()
	t.Setenv("TICKET_KEY", environment["TICKET_KEY"])
	iis := e.upstream("iis.corp.example", false, host("iis"))
	member := func() string {
		address := caddytest.FreeAddress(t)
		e.run("examples/fleet/Caddyfile", "app.example.com {", "http://"+address+" {", "/mnt/caddy", storage,
			"http://iis.corp.example {", "http://iis.corp.example:"+port(iis)+" {", "dc1.corp.example dc2.corp.example", e.kdc.Addr())
		return "http://" + address + "/"
	}
	e.want(member(), http.StatusOK, proxyAccount+" at iis")
	caddytest.WaitFor(t, "both tickets are in the storage", func() bool {
		stored, err := filepath.Glob(filepath.Join(storage, "kerberos", "tickets", "*"))
		return err == nil && len(stored) == 2
	})
	caddytest.Stop(t) // and what it held with it
	e.kdc.Stop()
	e.want(member(), http.StatusOK, proxyAccount+" at iis")
}
