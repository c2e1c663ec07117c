package kdctest_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

func TestProxy(t *testing.T) {
	data, err := os.ReadFile("../vectors/ms-kkdcp.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Cases    []struct{ Name, DER string }
		MustFail []struct{ Name, DER string } `json:"must_fail"`
	}
	if err := json.Unmarshal(data, &vectors); err != nil {
		t.Fatal(err)
	}
	kdc := kdctest.NewKDC(kdctest.Config{Realms: []*kdctest.Realm{kdctest.NewRealm("KRB5.TEST")}})
	server := httptest.NewTLSServer(kdc.Proxy())
	defer server.Close()
	post := func(text string) (*http.Response, []byte) {
		body, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		res, err := server.Client().Post(server.URL+"/KdcProxy", "application/kerberos", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		answer, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res, answer
	}
	for _, c := range vectors.Cases {
		// Every reply is shorter than 256 bytes: SEQUENCE, [0], OCTET STRING and
		// the length of four bytes take thirteen bytes before it.
		res, answer := post(c.DER)
		if res.StatusCode != 200 || len(answer) < 13 {
			t.Errorf("%s: %d, %x", c.Name, res.StatusCode, answer)
			continue
		}
		i := bytes.IndexByte(answer, 0x7e)
		if _, err := messages.ParseKRBError(answer[max(i, 0):]); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
	for _, c := range vectors.MustFail {
		if res, _ := post(c.DER); res.StatusCode != 400 {
			t.Errorf("%s: %d", c.Name, res.StatusCode)
		}
	}
	if c := kdc.Counts(); len(vectors.Cases) == 0 || c.HTTPS != len(vectors.Cases) {
		t.Errorf("counts %+v", c)
	}
}
