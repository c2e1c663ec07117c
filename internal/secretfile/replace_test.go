package secretfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func write0(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
}

// wantFiles fails unless the folder has these files and no others.
func wantFiles(t *testing.T, folder string, want map[string]string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		content, _ := os.ReadFile(filepath.Join(folder, e.Name()))
		if text, ok := want[e.Name()]; !ok || string(content) != text {
			t.Errorf("%s has %q", e.Name(), content)
		}
	}
	if len(entries) != len(want) {
		t.Errorf("%d files, not %d", len(entries), len(want))
	}
}

func TestReplace_KeepsModeOwnerAndLink(t *testing.T) {
	folder := t.TempDir()
	path, link := filepath.Join(folder, "secret"), filepath.Join(folder, "link")
	write0(t, path, "old", 0o640)
	if err := os.Symlink(path, link); err != nil {
		t.Skip(err)
	}
	root := os.Getuid() == 0
	if root {
		if err := os.Chown(path, 1234, 2345); err != nil {
			t.Fatal(err)
		}
	}
	at := time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := Replace(link, link, []byte("new"), at); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, folder, map[string]string{"secret": "new", "link": "new"})
	info, err := os.Lstat(path)
	if err != nil || !info.ModTime().Equal(at) || runtime.GOOS != "windows" && info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %s, %s", err, info.Mode(), info.ModTime())
	}
	if root && !owned(info, 1234, 2345) {
		t.Error("the owner is another")
	}
	if to, err := os.Readlink(link); err != nil || to != path {
		t.Errorf("the link leads to %s, %v", to, err)
	}
}

func TestReplace_CreatesLikeAnother(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "secret")
	write0(t, path, "old", 0o640)
	if err := Replace(path+".next", path, []byte("next"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, folder, map[string]string{"secret": "old", "secret.next": "next"})
	if info, err := os.Stat(path + ".next"); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %s", err, info.Mode())
	}
	write0(t, path+".next.new", "unfinished", 0o600)
	for range 2 {
		if err := Remove(path + ".next"); err != nil {
			t.Fatal(err)
		}
	}
	write0(t, path+".new", "unfinished", 0o600)
	for range 2 {
		if err := RemoveUnfinished(path); err != nil {
			t.Fatal(err)
		}
	}
	wantFiles(t, folder, map[string]string{"secret": "old"})
}

// What cannot be replaced stays as it was, and the error names it and the remedy.
func TestReplace_Failures(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "secret")
	write0(t, path, "old", 0o600)
	if err := os.MkdirAll(path+".new/x", 0o700); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"Replace":  Replace(path, path, []byte("new"), time.Time{}),
		"Rehearse": Rehearse(path, 100),
	} {
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "cannot be replaced") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Replace(filepath.Join(folder, "other"), filepath.Join(folder, "none"), nil, time.Time{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("like a file that is not there: %v", err)
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != "old" {
		t.Errorf("%q, %v", content, err)
	}
}

func TestRehearse_ChangesNothing(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "secret")
	write0(t, path, "old", 0o600)
	at := time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
	if err := Rehearse(path, 3); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, folder, map[string]string{"secret": "old"})
	if info, err := os.Stat(path); err != nil || !info.ModTime().Equal(at) {
		t.Errorf("%v, %s", err, info.ModTime())
	}
	if err := Rehearse(path, 2); err == nil {
		t.Error("a file that is too long is copied in part")
	}
}

// A file that another program writes between the copy and the rename keeps what that wrote.
func TestReplace_CheckFails(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "secret")
	write0(t, path, "old", 0o600)
	mine := errors.New("mine")
	if err := replace(path, path, []byte("new"), time.Time{}, func() error { return mine }); !errors.Is(err, mine) {
		t.Error(err)
	}
	wantFiles(t, folder, map[string]string{"secret": "old"})
}
