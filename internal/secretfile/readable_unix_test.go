//go:build unix

package secretfile

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestReadable_ByModeAndOwner(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "keytab")
	for _, tc := range []struct {
		what     string
		mode     fs.FileMode
		uid, gid int
		exposed  bool
	}{
		{"our own alone", 0o600, os.Geteuid(), os.Getegid(), false},
		{"our own, for a group", 0o640, os.Geteuid(), os.Getegid(), true},
		{"for all", 0o604, os.Geteuid(), os.Getegid(), true},
		{"root's, for a group of which we are: a Kubernetes secret with fsGroup", 0o440, 1, os.Getegid(), false},
		{"another's, for all", 0o444, 1, os.Getegid(), true},
		{"root's for Caddy's group, looked at by root", 0o640, 0, 1, false},
	} {
		if os.Geteuid() != 0 && (tc.uid != os.Geteuid() || tc.gid != os.Getegid()) {
			continue // only root may give files away
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, tc.uid, tc.gid); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, tc.mode); err != nil {
			t.Fatal(err)
		}
		if e := Readable(path); (e != nil) != tc.exposed || e != nil && e.Mode != tc.mode.String() {
			t.Errorf("%s: %+v", tc.what, e)
		}
	}
	t.Setenv("CREDENTIALS_DIRECTORY", folder+"/")
	if Readable(path) != nil {
		t.Error("a credential of the unit is warned of")
	}
	if err := os.WriteFile(path+"2", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", path)
	if err := os.Chmod(path+"2", 0o644); err != nil {
		t.Fatal(err)
	}
	if Readable(path+"2") == nil {
		t.Error("a name that only begins like the folder's is not warned of")
	}
	if Readable(path+"/nothing") != nil {
		t.Error("a file that is not there is warned of")
	}
}
