package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func TestPlaces_Locate(t *testing.T) {
	failure := errors.New("no such file")
	block := []any{t.Name(), &Credentials{User: "alice", Keytab: "/a.keytab"}}
	Places{"": "one:1", "keytab": "one:3"}.Note(block...)
	for _, row := range []struct {
		err  error
		want string
	}{
		{nil, "<nil>"},
		{failure, "one:1: no such file"},
		{Setting("keytab", failure), "one:3: keytab: no such file"},
		{Setting("kdc", failure), "one:1: kdc: no such file"},
		{fmt.Errorf("identity x: %w", Setting("keytab", failure)), "one:3: identity x: keytab: no such file"},
	} {
		// Another value with the same JSON is the same block.
		if got := fmt.Sprint(PlacesOf(t.Name(), Credentials{User: "alice", Keytab: "/a.keytab"}).Locate(row.err)); got != row.want {
			t.Errorf("%q, want %q", got, row.want)
		}
	}
	if got := PlacesOf(t.Name(), Credentials{User: "bob"}).Locate(failure); got != failure {
		t.Errorf("a block that was not noted: %v", got)
	}
	Places{"": "one:1", "keytab": "one:3"}.Note(block...) // adapted again
	Places{"": "two:7", "keytab": "two:8"}.Note(block...) // the same block elsewhere
	if got, want := PlacesOf(block...)["keytab"], "one:3 and two:8"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestPlaces_ChangedFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	Places{"": file + ":1"}.Note(t.Name())
	if err := os.Chtimes(file, time.Time{}, time.Now().Add(-time.Minute)); err != nil {
		t.Fatal(err)
	}
	if PlacesOf(t.Name()).Block() == "" {
		t.Error("the place is not known")
	}
	if err := os.Chtimes(file, time.Time{}, time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got := PlacesOf(t.Name()).Block(); got != "" {
		t.Errorf("a line of a file that was changed since: %s", got)
	}
}

func TestPlaces_Bounded(t *testing.T) {
	for n := range maxNotes + 10 {
		Places{"": fmt.Sprint("many:", n)}.Note(t.Name(), n)
	}
	if len(notes.blocks) > maxNotes {
		t.Errorf("%d blocks are kept", len(notes.blocks))
	}
	if PlacesOf(t.Name(), 0).Block() != "" || PlacesOf(t.Name(), maxNotes).Block() == "" {
		t.Error("not the oldest were dropped")
	}
}

func TestReadString_NumberOfValues(t *testing.T) {
	file := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte("keytab {$PLACES_UNSET}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{"keytab": "; {$PLACES_UNSET} is not set", `keytab C:\my caddy\a.keytab`: "between backticks"} {
		tokens, err := caddyfile.Tokenize([]byte(line), file)
		if err != nil {
			t.Fatal(err)
		}
		d, value := caddyfile.NewDispenser(tokens), ""
		d.Next()
		if err := ReadString(&value)(d); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// Caddy replaces a variable that is not set by nothing, so that the path in the error is a riddle.
func TestPlaces_UnsetVariable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "Caddyfile")
	text := "keytab {$PLACES_UNSET}/a.keytab\nkeytab {$PLACES_UNSET:/etc}/a.keytab\nkeytab {$PLACES_SET}/a.keytab {$PLACES_UNSET}\nkeytab /a.keytab\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PLACES_SET", "x")
	for line, want := range map[int]string{1: "; {$PLACES_UNSET} is not set", 2: "", 3: "; {$PLACES_UNSET} is not set", 4: "", 5: "", 99: ""} {
		at := fmt.Sprintf("%s:%d", file, line)
		if got := fmt.Sprint(Places{"keytab": at}.Locate(Setting("keytab", os.ErrNotExist))); got != at+": keytab: "+os.ErrNotExist.Error()+want {
			t.Errorf("line %d: %s", line, got)
		}
	}
}
