// Package filetest holds what the tests of the file formats share.
package filetest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

// Vector is a file written by MIT krb5 1.20.1 or by hand after its documentation.
type Vector struct {
	Name   string
	File   vectors.Hex
	Expect string
}

// Fails reports whether the file cannot be read.
func (v Vector) Fails() bool { return strings.HasPrefix(v.Expect, "error") }

// Vectors returns a list of keytab-ccache.json: "keytabs" or "ccaches".
func Vectors[T any](t testing.TB, list string) (all []T) {
	t.Helper()
	var lists map[string]json.RawMessage
	vectors.Load(t, "keytab-ccache.json", &lists)
	must.Do(t, json.Unmarshal(lists[list], &all))
	return all
}

// File returns the vector of the name in the list.
func File(t testing.TB, list, name string) []byte {
	t.Helper()
	for _, v := range Vectors[Vector](t, list) {
		if v.Name == name {
			return v.File
		}
	}
	t.Fatalf("no vector %q", name)
	return nil
}

// Principal parses a name with its realm.
func Principal(t testing.TB, s string) messages.Principal {
	t.Helper()
	return must.OK(messages.ParsePrincipal(s, ""))(t)
}

// Same fails unless both values are equal.
func Same(t testing.TB, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Format is a file format under test.
type Format[T any] struct {
	Parse   func([]byte) (T, error)
	Marshal func(T) ([]byte, error)
	// Show returns the value in a form that cmp compares.
	Show func(T) any
}

// Identity fails unless file is written byte by byte as it was read.
func (f Format[T]) Identity(t testing.TB, file []byte) {
	t.Helper()
	again := must.OK(f.Marshal(must.OK(f.Parse(file))(t)))(t)
	if diff := cmp.Diff(file, again); diff != "" {
		t.Errorf("written again it differs:\n%s", diff)
	}
}

// RoundTrip fails unless file, if it can be parsed and written, holds the same
// values when it is read again, which it returns.
func (f Format[T]) RoundTrip(t testing.TB, file []byte) (v T, ok bool) {
	t.Helper()
	v, err := f.Parse(file)
	if err != nil {
		return v, false
	}
	b, err := f.Marshal(v)
	if err != nil {
		return v, false
	}
	again := must.OK(f.Parse(b))(t)
	if diff := cmp.Diff(f.Show(v), f.Show(again)); diff != "" {
		t.Errorf("written and read again: %s", diff)
	}
	return v, true
}

// ErrorCase is a file and what the error about it contains.
type ErrorCase struct {
	File []byte
	Want string
}

// Errors fails unless parsing each file fails with the error.
func (f Format[T]) Errors(t *testing.T, cases map[string]ErrorCase) {
	t.Helper()
	for name, tt := range cases {
		if _, err := f.Parse(tt.File); err == nil || !strings.Contains(err.Error(), tt.Want) {
			t.Errorf("%s: error %v, want %q", name, err, tt.Want)
		}
	}
}

// NoSecret fails if a value shows a key whose bytes are all secret, whatever
// the verb.
func NoSecret(t *testing.T, secret byte, values ...any) {
	t.Helper()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range values {
			shown := fmt.Sprintf(verb, v)
			for _, form := range []string{"%c%[1]c%[1]c%[1]c", "%x%[1]x%[1]x%[1]x", "%d %[1]d %[1]d"} {
				if strings.Contains(shown, fmt.Sprintf(form, secret)) {
					t.Errorf("%s of %T shows the key: %s", verb, v, shown)
				}
			}
		}
	}
}

// MIT runs a program of MIT's krb5-user and returns the lines that it prints,
// with single spaces. Without these programs the test is skipped.
func MIT(t *testing.T, input, program string, args ...string) []string {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("LEFT OUT: MIT's %s (Debian: krb5-user)", program)
	}
	if out, err := exec.Command("klist", "-V").CombinedOutput(); err != nil || !strings.Contains(string(out), "Kerberos 5 version") {
		t.Skipf("LEFT OUT: MIT's %s (another one is on PATH)", program)
	}
	conf := filepath.Join(t.TempDir(), "krb5.conf") // keeps the machine's out
	must.Do(t, os.WriteFile(conf, []byte("[libdefaults]\n default_realm = R\n"), 0o600))
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "KRB5_CONFIG="+conf, "LC_ALL=C", "TZ=UTC")
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", program, err, out)
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		if line = strings.Join(strings.Fields(line), " "); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// WriteFile writes a file into a temporary directory and returns its name.
func WriteFile(t *testing.T, b []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	must.Do(t, os.WriteFile(name, b, 0o600))
	return name
}
