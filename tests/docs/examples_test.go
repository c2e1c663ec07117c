package docs

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

const proxyAccount = "svc-proxy@CORP.EXAMPLE"

func TestExampleIIS(t *testing.T) {
	s, address := newStage(t), freeAddress(t)
	iis := s.upstream("iis.corp.example", false, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, _ := kdctest.PeerFrom(r.Context())
		fmt.Fprintf(w, "%s asks for %s", peer.Principal, r.Host)
	}))
	s.perform("examples/iis/Caddyfile",
		"app.example.com {", "http://"+address+" {", "http://iis.corp.example {", "http://iis.corp.example:"+port(iis)+" {",
		"dc1.corp.example dc2.corp.example", s.kdc.Addr())
	s.want("http://"+address+"/", http.StatusOK, proxyAccount+" asks for iis.corp.example:"+port(iis))
}

func TestExampleLoadBalancing(t *testing.T) {
	s, one, two := newStage(t), freeAddress(t), freeAddress(t)
	replace := []string{
		"dc1.corp.example dc2.corp.example", s.kdc.Addr(), "intranet.example.com {", "http://" + one + " {",
		"reports.example.com {", "http://" + two + " {", "health_interval 10s", "health_interval 50ms",
	}
	servers := make(map[string]*kdctest.Upstream)
	for _, name := range []string{"iis1", "iis2", "reports1", "reports2"} {
		name += ".corp.example"
		servers[name] = s.upstream(name, true, host(name))
		replace = append(replace, "https://"+name, "https://"+name+":"+port(servers[name]))
	}
	s.perform("examples/load-balancing/Caddyfile", replace...)
	// Both sites answer, each by its own servers; every server is asked for its health.
	if _, body := s.get("http://" + two + "/"); !strings.Contains(body, proxyAccount+" at reports") {
		t.Errorf("reports answers %q", body)
	}
	for name, server := range servers {
		if !strings.HasPrefix(name, "iis") {
			continue
		}
		if err := server.Interrupt(); err != nil {
			t.Fatal(err)
		}
		other := strings.NewReplacer("iis1", "iis2", "iis2", "iis1").Replace(name)
		s.want("http://"+one+"/", http.StatusOK, proxyAccount+" at "+other)
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool { // it is healthy again
			s.get("http://" + one + "/")
			return server.Requests.Load() > 0
		})
		break
	}
}

// waitFor asks again and again until it is so.
func waitFor(t *testing.T, so func() bool) {
	t.Helper()
	for !so() {
		if t.Context().Err() != nil {
			t.Fatal("it never came to be so")
		}
	}
}

func TestExampleHadoop(t *testing.T) {
	s, address := newStage(t), freeAddress(t)
	hadoop := kdctest.NewRealm("HADOOP.EXAMPLE")
	keys, err := hadoop.Keytab(hadoop.AddUser("svc-etl", "secret"))
	if err != nil {
		t.Fatal(err)
	}
	s.files.put("svc-etl.keytab", keys)
	s.startKDC(hadoop)
	s.files.put("krb5.conf", []byte(strings.ReplaceAll(read(t, "examples/hadoop/krb5.conf"), "kdc.hadoop.example", s.kdc.Addr())))
	replace := []string{"hdfs.example.com {", "http://" + address + " {", "health_interval 5s", "health_interval 50ms"}
	for name, state := range map[string]string{"nn1.hadoop.example": "standby", "nn2.hadoop.example": "active"} {
		node := s.upstream(name, false, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
	s.perform("examples/hadoop/Caddyfile", replace...)
	file := "http://" + address + "/webhdfs/v1/data?op=OPEN&doas=root"
	if res, _ := s.get(file); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a password: %s", res.Status)
	}
	var res *http.Response
	waitFor(t, func() bool { // until the checks have found the active node
		res, _ = s.get(file, func(r *http.Request) { r.SetBasicAuth("etl", "secret") })
		return res.StatusCode == http.StatusTemporaryRedirect
	})
	if to := res.Header.Get("Location"); to != "http://dn1.hadoop.example:9864/webhdfs/v1/data?op=OPEN" {
		t.Errorf("sent to %s", to)
	}
	if cookies := res.Header.Values("Set-Cookie"); len(cookies) > 0 {
		t.Errorf("the client gets %v", cookies)
	}
}

func TestExamplePrometheus(t *testing.T) {
	s, address := newStage(t), freeAddress(t)
	app := s.upstream("app1.corp.example", false, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, _ := kdctest.PeerFrom(r.Context())
		fmt.Fprintf(w, "up_for{who=%q,path=%q} 1", peer.Principal, r.URL.Path)
	}))
	s.perform("examples/prometheus/Caddyfile", "http://127.0.0.1:9180 {", "http://"+address+" {",
		"{re.target.1}:8080", "{re.target.1}:"+port(app), "kdc dc1.corp.example", "kdc "+s.kdc.Addr())
	s.want("http://"+address+"/app1.corp.example/metrics", http.StatusOK, `up_for{who="svc-monitoring@CORP.EXAMPLE",path="/metrics"} 1`)
	s.want("http://"+address+"/app1.corp.example.evil.example/metrics", http.StatusNotFound, "")
	s.want("http://"+address+"/app1.corp.example/admin", http.StatusNotFound, "")
}

func TestExampleKDCProxy(t *testing.T) {
	s, address := newStage(t), freeAddress(t)
	proxy := httptest.NewUnstartedServer(http.StripPrefix("/KdcProxy", s.kdc.Proxy()))
	proxy.TLS = tlsConfig(s.ca.server("localhost"))
	proxy.StartTLS()
	t.Cleanup(proxy.Close)
	s.kdc.Stop() // no other way than the proxy
	iis := s.upstream("iis.corp.example", true, host("iis"))
	_, proxyPort, _ := strings.Cut(proxy.Listener.Addr().String(), ":")
	s.perform("examples/kdc-proxy/Caddyfile", "partners.example.com {", "http://"+address+" {",
		"https://iis.corp.example {", "https://iis.corp.example:"+port(iis)+" {", "https://kdcproxy.corp.example/", "https://localhost:"+proxyPort+"/")
	s.want("http://"+address+"/", http.StatusOK, proxyAccount+" at iis")
	if n := s.kdc.Counts(); n.HTTPS == 0 || n.UDP+n.TCP > 0 {
		t.Errorf("%+v", n)
	}
}

func TestExampleKubernetes(t *testing.T) {
	s, address := newStage(t), freeAddress(t)
	iis := s.upstream("iis.corp.example", false, host("iis"))
	text := ""
	for _, m := range manifests(t, "examples/kubernetes/caddy.yaml") {
		text += m.Data["Caddyfile"]
	}
	s.performText(text, "http://:8080 {", "http://"+address+" {", "http://iis.corp.example {", "http://iis.corp.example:"+port(iis)+" {",
		"dc1.corp.example dc2.corp.example", s.kdc.Addr())
	s.want("http://"+address+"/", http.StatusOK, proxyAccount+" at iis")
	s.want("http://"+address+"/healthz", http.StatusOK, "")
}

func TestExampleSystemd(t *testing.T) {
	s, address := newStage(t), freeAddress(t)
	iis := s.upstream("iis.corp.example", true, host("iis"))
	// The KDC comes out of the DNS there; here it has to be named.
	s.perform("examples/systemd/Caddyfile", "app.example.com {", "http://"+address+" {", "https://iis.corp.example {", "https://iis.corp.example:"+port(iis)+" {",
		"user svc-proxy@CORP.EXAMPLE", "user svc-proxy@CORP.EXAMPLE\n\t\t\tkdc "+s.kdc.Addr()+"\n\t\t\ttls_trust_pool file /etc/caddy/corp-ca.pem")
	s.want("http://"+address+"/", http.StatusOK, proxyAccount+" at iis")
}
