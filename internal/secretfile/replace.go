package secretfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// newSuffix is that of a file that is being written, which takes the place of the one before by a
// rename. There is one for each file, so that a crash leaves one at most.
const newSuffix = ".new"

// Replace replaces a file, or creates it if like is another one that exists: at every moment, also
// after a crash, it has the old content or the new. It gets the mode and the owner of like, and a
// symbolic link stays one. A modified time that is zero is the present. The content is on disk when
// Replace returns. Two callers must not replace one file at the same time.
func Replace(path, like string, content []byte, modified time.Time) error {
	return replace(path, like, content, modified, func() error { return nil })
}

// replace calls check at the last moment.
func replace(path, like string, content []byte, modified time.Time, check func() error) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	info, err := os.Stat(like)
	if err != nil {
		return explain(like, err)
	}
	next := path + newSuffix
	err = write(next, info, content)
	if err == nil && !modified.IsZero() {
		err = os.Chtimes(next, modified, modified)
	}
	if err == nil {
		err = check()
	}
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		_ = os.Remove(next)
		return explainWrite(path, err)
	}
	return explainWrite(path, syncFolder(path))
}

// Rehearse replaces a file by a copy of itself, which fails where Replace would: a folder or a file that
// may not be written, an owner that cannot be kept, a file that is mounted by itself.
func Rehearse(path string, limit int64) error {
	info, err := os.Stat(path)
	if err != nil {
		return explain(path, err)
	}
	content, err := Read(path, limit)
	if err != nil {
		return err
	}
	return replace(path, path, content, info.ModTime(), func() error {
		if now, err := os.Stat(path); err != nil || !Same(now, info) {
			return errors.Join(errors.New("another program is writing it"), err)
		}
		return nil
	})
}

// Remove removes a file and what an interrupted Replace has left of it. It is no error if there is
// none.
func Remove(path string) error {
	removed := false
	for _, name := range []string{path + newSuffix, path} {
		err := os.Remove(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return explainWrite(path, err)
		}
		removed = removed || err == nil
	}
	if !removed {
		return nil
	}
	return explainWrite(path, syncFolder(path))
}

// RemoveUnfinished removes what an interrupted Replace has left beside a file.
func RemoveUnfinished(path string) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	err := os.Remove(path + newSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return explainWrite(path, err)
}

// write writes a new file with the mode and the owner of another one.
func write(path string, like fs.FileInfo, content []byte) (err error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // not through a symbolic link
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := keepOwner(f, like); err != nil {
		return err
	}
	if err := f.Chmod(like.Mode().Perm()); err != nil {
		return err
	}
	if _, err := f.Write(content); err != nil {
		return err
	}
	return f.Sync()
}

// explainWrite adds a remedy to the error of a file that cannot be written.
func explainWrite(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: cannot be replaced: let the user that Caddy runs as own it and its folder (%w)", path, err)
	}
	return fmt.Errorf("%s: cannot be replaced: it must be a file in a folder where Caddy may create others, not mounted by itself and "+
		"not read-only (%w)", path, err)
}
