package httpauth

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
)

// ErrNotReplayable means that a request's body cannot be sent again.
var ErrNotReplayable = errors.New("request body cannot be repeated: more of it was read than replay_buffer holds")

// errSuperseded is returned by reads of a body after Next has returned another. It makes
// net/http give up the attempt that still writes the old body.
var errSuperseded = errors.New("request body was taken over by a repeat of the request")

// Replay lets a request's body be sent more than once. It keeps the bytes read so far,
// up to a limit, and returns a body for each attempt, which reads from the beginning.
//
// net/http may continue to read an attempt's body after RoundTrip has returned, and may
// close it at any time. So attempts do not share the client's reader: one attempt reads
// it at a time. The next attempt gets it when no read is in progress, and reads of the
// previous one fail from then on. Closing an attempt's body leaves the client's body
// open until Settle says that there are no more attempts.
type Replay struct {
	src    io.ReadCloser
	limit  int
	reader chan struct{} // a token: its holder may read src

	mu       sync.Mutex
	current  *body
	buf      []byte // the bytes read from src, while keep
	keep     bool
	begun    bool  // src has been read
	err      error // that src ended with
	settled  bool
	srcClose sync.Once
}

// NewReplay takes over a request's body, which may be nil or http.NoBody. length is its
// Content-Length, or -1. A body known to be longer than limit bytes is not kept at all.
func NewReplay(src io.ReadCloser, length, limit int64) *Replay {
	switch src {
	case nil:
		return &nilReplay
	case http.NoBody:
		return &emptyReplay
	}
	return &Replay{
		src:    src,
		limit:  int(max(limit, 0)),
		reader: make(chan struct{}, 1),
		keep:   length <= limit && limit > 0,
	}
}

// Most requests have no body; they share these.
var (
	nilReplay   Replay
	emptyReplay = Replay{src: http.NoBody}
)

func (r *Replay) empty() bool { return r.src == nil || r.src == http.NoBody }

// Next returns the body for another attempt. The first call always succeeds. A later one
// waits, within ctx, for a read of the previous attempt that is in progress, which may
// take as long as the client likes, and fails with ErrNotReplayable if the bytes read
// so far were not kept.
func (r *Replay) Next(ctx context.Context) (io.ReadCloser, error) {
	if r.empty() {
		return r.src, nil
	}
	select {
	case r.reader <- struct{}{}:
		defer func() { <-r.reader }()
	default:
		select {
		case r.reader <- struct{}{}:
			defer func() { <-r.reader }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != nil && !r.replayable() {
		return nil, ErrNotReplayable
	}
	r.current = &body{replay: r}
	return r.current, nil
}

// GetBody returns a function for http.Request.GetBody, with which net/http repeats a
// request whose connection turns out to be closed. It is nil if there is no body.
func (r *Replay) GetBody(ctx context.Context) func() (io.ReadCloser, error) {
	if r.empty() {
		return nil
	}
	return func() (io.ReadCloser, error) { return r.Next(ctx) }
}

// Replayable reports whether the body can currently be sent again.
func (r *Replay) Replayable() bool {
	if r.empty() {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.replayable()
}

func (r *Replay) replayable() bool {
	return !r.settled && (r.keep || !r.begun) && (r.err == nil || r.err == io.EOF)
}

// Settle says that there are no more attempts: the kept bytes are released as soon as
// the current attempt has sent them, and closing that attempt's body closes the
// client's. It must be called for each Replay, when the header of the final response
// has arrived or the request has failed.
func (r *Replay) Settle() {
	if r.empty() {
		return
	}
	r.mu.Lock()
	r.settled = true
	r.release()
	closed := r.current == nil || r.current.closed
	r.mu.Unlock()
	if closed {
		_ = r.closeSource()
	}
}

func (r *Replay) release() {
	if (r.settled || !r.keep) && (r.current == nil || r.current.closed || r.current.sent == len(r.buf)) {
		r.buf, r.keep = nil, false
		if r.current != nil {
			r.current.sent = 0
		}
	}
}

func (r *Replay) closeSource() (err error) {
	r.srcClose.Do(func() { err = r.src.Close() })
	return err
}

type body struct {
	replay *Replay
	sent   int // bytes of the buffer; guarded by the Replay's mutex, as is closed
	closed bool
}

func (b *body) Read(p []byte) (int, error) {
	r := b.replay
	if n, err, done := b.kept(p); done {
		return n, err
	}
	r.reader <- struct{}{}
	defer func() { <-r.reader }()
	if err := b.begin(); err != nil {
		return 0, err
	}
	n, err := r.src.Read(p)
	b.end(p[:n], err)
	return n, err
}

// kept answers a read that needs no read of the client's body: from the buffer, or with
// the end of the client's body.
func (b *body) kept(p []byte) (n int, err error, done bool) {
	r := b.replay
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case b.closed:
		return 0, http.ErrBodyReadAfterClose, true
	case r.current != b:
		return 0, errSuperseded, true
	case b.sent < len(r.buf):
		n = copy(p, r.buf[b.sent:])
		b.sent += n
		r.release()
		return n, nil, true
	case r.err != nil:
		return 0, r.err, true
	}
	return 0, nil, len(p) == 0
}

// begin permits a read of the client's body if this is still the current attempt.
func (b *body) begin() error {
	r := b.replay
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case b.closed:
		return http.ErrBodyReadAfterClose
	case r.current != b:
		return errSuperseded
	}
	r.begun = true
	return nil
}

func (b *body) end(read []byte, err error) {
	r := b.replay
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
	if r.keep = r.keep && !r.settled && len(r.buf)+len(read) <= r.limit; r.keep {
		r.buf = append(r.buf, read...)
		b.sent = len(r.buf)
	}
	r.release()
}

// Close ends the attempt. It does not wait for a read in progress.
func (b *body) Close() error {
	r := b.replay
	r.mu.Lock()
	b.closed = true
	last := r.settled && r.current == b
	r.release()
	r.mu.Unlock()
	if last {
		return r.closeSource()
	}
	return nil
}
