package kdctest_test

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/spnego"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// The plugin's initiator with SPNEGO, channel bindings, mutual authentication and a
// delegated ticket.
func TestInitiator(t *testing.T) {
	cert := certificate(t)
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	s := newSite(t, kdctest.AcceptorConfig{Bindings: kdctest.BindingsRequire}, kdctest.UpstreamConfig{Certificate: cert})
	tgt := login(t, s.kdc, "CORP.EXAMPLE", "alice", "secret")
	cred, err := tgsRequest{tgt: tgt, realm: "CORP.EXAMPLE", service: service("HTTP/web.corp.example")}.ask(t, s.kdc)
	if err != nil {
		t.Fatal(err)
	}
	forwarded, err := tgsRequest{
		tgt: tgt, realm: "CORP.EXAMPLE", service: messages.TGSName("CORP.EXAMPLE"), options: messages.KDC_OPT_FORWARDED,
	}.ask(t, s.kdc)
	if err != nil {
		t.Fatal(err)
	}
	delegated, err := gss.BuildDelegatedCred(forwarded, cred.Key, time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	clock, err := gss.NewClock(gss.ClockConfig{})
	if err != nil {
		t.Fatal(err)
	}
	template, err := gss.NewTemplate(cred, gss.TemplateConfig{
		Flags: gss.GSS_C_MUTUAL_FLAG | gss.GSS_C_DELEG_FLAG, Bindings: true, DelegatedCred: delegated,
		Framing: spnego.AppendInitPrefix, Clock: clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	hash, err := gss.EndPointHash(cert.Leaf)
	if err != nil {
		t.Fatal(err)
	}
	bindings, err := gss.TLSServerEndPointBindings(hash)
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, roots)
	for range 3 {
		header, initiated, err := template.Header(t.Context(), &bindings)
		if err != nil {
			t.Fatal(err)
		}
		req := s.request(t, "/json", nil, nil)
		req.Header.Set("Authorization", header)
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var peer kdctest.Peer
		err = json.NewDecoder(res.Body).Decode(&peer)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("status %d, %v", res.StatusCode, err)
		}
		if peer.User != "alice" || !peer.Bound || !peer.ClaimsCBT || !peer.Subkey || peer.Delegated != "alice@CORP.EXAMPLE" {
			t.Errorf("peer %+v", peer)
		}
		value, _ := strings.CutPrefix(res.Header.Get("WWW-Authenticate"), "Negotiate ")
		reply, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := spnego.ParseResp(reply)
		if err != nil {
			t.Fatal(err)
		}
		if err := initiated.VerifyToken(resp.ResponseToken); err != nil {
			t.Error(err)
		}
	}
	if n := s.acceptor.Counts(); n.Accepted != 3 || len(n.Refused) != 0 {
		t.Errorf("counts %+v", n)
	}
}
