package kdctest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

func TestMITArmor(t *testing.T) {
	realm := kdctest.NewRealm("CORP.EXAMPLE")
	realm.AddUser("machine", "machine-secret")
	realm.AddUser("alice", "secret", kdctest.With(kdctest.ArmoredOnly))
	realm.AddService("HTTP/web.corp.example")
	kdc := start(t, realm)
	m := newMIT(t, kdc)
	if _, err := m.try("secret\n", "kinit", "alice"); err == nil {
		t.Error("alice logs in without armor")
	}
	if c := kdc.Counts(); c.Errors[messages.KDC_ERR_POLICY] == 0 {
		t.Errorf("errors %v", c.Errors)
	}
	armor := "FILE:" + filepath.Join(m.dir, "armor")
	m.run("machine-secret\n", "kinit", "-c", armor, "machine")
	kdc.ResetCounts()
	m.run("secret\n", "kinit", "-T", armor, "alice")
	m.run("", "kvno", "HTTP/web.corp.example")
	if c := kdc.Counts(); c.Armored != 3 || c.ASReqPreAuth != 1 || c.ASRep != 1 || c.TGSRep != 1 {
		t.Errorf("counts %+v", c)
	}
	if trace, _ := os.ReadFile(filepath.Join(m.dir, "trace")); !strings.Contains(string(trace), "Encrypted challenge") && !strings.Contains(string(trace), "encrypted_challenge (138)") {
		t.Errorf("no encrypted challenge:\n%s", trace)
	}
	if _, err := m.try("wrong\n", "kinit", "-T", armor, "alice"); err == nil {
		t.Error("a wrong password is accepted")
	}
}

func TestFASTDisabled(t *testing.T) {
	realm := kdctest.NewRealm("CORP.EXAMPLE")
	realm.AddUser("machine", "machine-secret")
	realm.AddUser("alice", "secret")
	realm.DisableFAST()
	kdc := start(t, realm)
	m := newMIT(t, kdc)
	armor := "FILE:" + filepath.Join(m.dir, "armor")
	m.run("machine-secret\n", "kinit", "-c", armor, "machine")
	m.run("secret\n", "kinit", "alice")
	if c := kdc.Counts(); c.Armored != 0 {
		t.Errorf("%d armored questions", c.Armored)
	}
}

func TestMITSPAKE(t *testing.T) {
	for name, how := range map[string]kdctest.SPAKE{
		"edwards25519": {Groups: []messages.SPAKEGroup{messages.SPAKE_GROUP_EDWARDS25519}},
		"P-256":        {Groups: []messages.SPAKEGroup{messages.SPAKE_GROUP_P256}},
		"at once":      {Optimistic: true},
	} {
		t.Run(name, func(t *testing.T) {
			realm := kdctest.NewRealm("CORP.EXAMPLE")
			realm.AddUser("alice", "secret")
			realm.SetPreAuth(messages.PA_SPAKE)
			realm.SetSPAKE(how)
			kdc := start(t, realm)
			m := newMIT(t, kdc, "spake_preauth_groups = edwards25519 P-256")
			m.run("secret\n", "kinit", "alice")
			c := kdc.Counts()
			if c.ASReqPreAuth != 1 || (c.Errors[messages.KDC_ERR_MORE_PREAUTH_DATA_REQUIRED] == 0) != how.Optimistic {
				t.Errorf("counts %+v", c)
			}
			if _, err := m.try("wrong\n", "kinit", "alice"); err == nil {
				t.Error("a wrong password is accepted")
			}
		})
	}
}

func TestMITSPAKESecondFactor(t *testing.T) {
	realm := kdctest.NewRealm("CORP.EXAMPLE")
	realm.AddUser("alice", "secret")
	realm.SetPreAuth(messages.PA_SPAKE)
	realm.SetSPAKE(kdctest.SPAKE{SecondFactor: true})
	m := newMIT(t, start(t, realm), "spake_preauth_groups = edwards25519")
	if _, err := m.try("secret\n", "kinit", "alice"); err == nil {
		t.Error("logged in without the second factor")
	}
}
