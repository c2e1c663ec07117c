package ticketstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

const (
	// maxCalls bounds the calls to the storage that are under way: one that ignores its
	// context blocks a goroutine for as long as it likes.
	maxCalls = 32
	// callTimeout is how long a caller waits for the storage.
	callTimeout = time.Second
	// A storage that fails is not used for a while: minPause, doubled up to maxPause.
	minPause = time.Second
	maxPause = 30 * time.Second
)

// The operations on stored tickets.
const (
	opLoad   = "load"
	opSave   = "save"
	opDelete = "delete"
	opLock   = "lock"
	opUnlock = "unlock"
)

// The results of operations.
const (
	resultOK       = "ok"
	resultMiss     = "miss"     // load: there is none, or it has expired
	resultUnopened = "unopened" // load: sealed with another key, or changed
	resultBusy     = "busy"     // lock: not obtained, usually because another process has it
	resultFailed   = "failed"   // the storage failed, or was too slow
	resultSkipped  = "skipped"  // the storage is not used, because it failed a moment ago
)

// backend is Caddy's storage with bounded calls.
type backend struct {
	storage certmagic.Storage
	logger  *zap.Logger
	counter func(operation, result string)
	warning string        // is logged when the storage begins to fail
	calls   chan struct{} // one element a call under way

	state     sync.Mutex
	failures  int       // in a row
	downUntil time.Time // the storage is not used until then
}

func newBackend(storage certmagic.Storage, logger *zap.Logger, counter func(operation, result string), warning string) *backend {
	return &backend{storage: storage, logger: logger, counter: counter, warning: warning, calls: make(chan struct{}, maxCalls)}
}

// read returns what is stored.
func (b *backend) read(ctx context.Context, name string) ([]byte, error) {
	var content []byte
	err := b.call(ctx, func(ctx context.Context) (err error) {
		content, err = b.storage.Load(ctx, name)
		return err
	})
	if err != nil {
		return nil, err // content may still be written to
	}
	return content, nil
}

func (b *backend) write(ctx context.Context, name string, content []byte) error {
	return b.call(ctx, func(ctx context.Context) error { return b.storage.Store(ctx, name, content) })
}

func (b *backend) remove(ctx context.Context, name string) error {
	return b.call(ctx, func(ctx context.Context) error { return b.storage.Delete(ctx, name) })
}

// count counts an operation by the error of its only call.
func (b *backend) count(operation string, err error) {
	switch {
	case err == nil, operation == opDelete && errors.Is(err, fs.ErrNotExist):
		b.counter(operation, resultOK)
	case operation == opLoad && errors.Is(err, fs.ErrNotExist):
		b.counter(operation, resultMiss)
	case errors.Is(err, errDown):
		b.counter(operation, resultSkipped)
	case errors.Is(err, context.Canceled): // the caller stopped waiting
	default:
		b.counter(operation, resultFailed)
	}
}

var (
	errBusy = errors.New("too many calls to the storage are under way")
	errDown = errors.New("the storage failed a moment ago")
)

// call calls the storage. When ctx or a second ends it returns, and leaves the call running.
// What do writes may be read only if there was no error.
func (b *backend) call(ctx context.Context, do func(context.Context) error) error {
	if b.isDown() {
		return errDown
	}
	if !b.enter() {
		return errBusy
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		defer b.leave()
		done <- b.guard(func() error { return do(ctx) })
	}()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist):
		b.worked()
	case errors.Is(err, context.Canceled): // the caller stopped waiting
	default:
		b.failed(err)
	}
	return err
}

// enter reports whether another call may begin; leave ends it.
func (b *backend) enter() bool {
	select {
	case b.calls <- struct{}{}:
		return true
	default:
		return false
	}
}

func (b *backend) leave() { <-b.calls }

// guard turns a panic of the storage, which is a module of its own, into an error.
func (b *backend) guard(do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the storage panicked: %v", r)
			b.logger.Error("the storage panicked", zap.Any("panic", r), zap.ByteString("stack", debug.Stack()))
		}
	}()
	return do()
}

func (b *backend) isDown() bool {
	b.state.Lock()
	defer b.state.Unlock()
	return time.Now().Before(b.downUntil)
}

func (b *backend) worked() {
	b.state.Lock()
	defer b.state.Unlock()
	b.failures = 0
}

// failed stops the use of the storage for a while.
func (b *backend) failed(err error) {
	b.state.Lock()
	pause := min(maxPause, minPause<<min(b.failures, 8))
	b.failures++
	b.downUntil = time.Now().Add(pause)
	first := b.failures == 1
	b.state.Unlock()
	if first {
		b.logger.Warn(b.warning, zap.Error(err))
	}
}
