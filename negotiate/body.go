package negotiate

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
)

// ErrNotReplayable means that a request's body cannot be sent once more.
var ErrNotReplayable = errors.New("request body cannot be repeated: more of it was read than replay_buffer holds")

// errSuperseded is what a body reads as once another has taken its place. It
// makes net/http give up the attempt that still writes it.
var errSuperseded = errors.New("request body was taken over by a repeat of the request")

// Replay lets a request's body be sent more than once. It keeps what was read of
// it, up to a limit, and hands out one body an attempt, each of which reads as
// the whole from its beginning.
//
// net/http may go on reading an attempt's body after RoundTrip has returned, and
// closes it whenever it likes. So attempts do not share the client's reader: one
// reads it at a time, a successor gets it only when no read is under way, and
// from then on its predecessor reads an error. Closing an attempt's body leaves
// the client's open until Settle has said that no other attempt comes.
type Replay struct {
	src    io.ReadCloser
	limit  int
	reader chan struct{} // held by whoever reads src

	mu       sync.Mutex
	current  *attempt
	buf      []byte // what was read of src, while keep
	keep     bool
	begun    bool  // a read of src was
	err      error // that src ended with
	settled  bool
	srcClose sync.Once
}

// NewReplay takes over a request's body (nil and http.NoBody too). length is its
// Content-Length, or -1; of a body that is longer than limit bytes from the
// start nothing is kept.
func NewReplay(body io.ReadCloser, length, limit int64) *Replay {
	switch body {
	case nil:
		return &nilReplay
	case http.NoBody:
		return &emptyReplay
	}
	return &Replay{
		src:    body,
		limit:  int(max(limit, 0)),
		reader: make(chan struct{}, 1),
		keep:   length <= limit && limit > 0,
	}
}

// Requests without a body, which most are, need nothing kept.
var (
	nilReplay   Replay
	emptyReplay = Replay{src: http.NoBody}
)

func (r *Replay) empty() bool { return r.src == nil || r.src == http.NoBody }

// Next returns the body for another attempt. The first always succeeds. A later
// one waits, within ctx, for a read that its predecessor has under way, which
// the client may let last; it fails with ErrNotReplayable if what was read is
// not kept.
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
	r.current = &attempt{replay: r}
	return r.current, nil
}

// GetBody returns a function for http.Request.GetBody: with it net/http repeats
// a request whose connection turned out to be dead.
func (r *Replay) GetBody(ctx context.Context) func() (io.ReadCloser, error) {
	if r.empty() {
		return nil
	}
	return func() (io.ReadCloser, error) { return r.Next(ctx) }
}

// Replayable reports whether the body could be sent once more as things stand.
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

// Unread reports whether nothing was read of the client's body.
func (r *Replay) Unread() bool {
	if r.empty() {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.begun
}

// Settle says that no further attempt comes: what is kept is released as soon as
// the present one has sent it, and closing that closes the client's body. It is
// to be called once for each Replay, when the final answer's header is there or
// the request has failed.
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

// release drops the buffer if nobody needs it any more.
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

// attempt is the body of one attempt.
type attempt struct {
	replay *Replay
	sent   int // of the buffer; under the Replay's mutex, as is closed
	closed bool
}

func (a *attempt) Read(p []byte) (int, error) {
	r := a.replay
	if n, err, done := a.kept(p); done {
		return n, err
	}
	r.reader <- struct{}{}
	defer func() { <-r.reader }()
	if err := a.begin(); err != nil {
		return 0, err
	}
	n, err := r.src.Read(p)
	a.end(p[:n], err)
	return n, err
}

// kept serves a read that need not go to the client: from the buffer, or with
// the end that was met already.
func (a *attempt) kept(p []byte) (n int, err error, done bool) { //nolint:revive // err belongs to Read
	r := a.replay
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case a.closed:
		return 0, http.ErrBodyReadAfterClose, true
	case r.current != a:
		return 0, errSuperseded, true
	case a.sent < len(r.buf):
		n = copy(p, r.buf[a.sent:])
		a.sent += n
		r.release()
		return n, nil, true
	case r.err != nil:
		return 0, r.err, true
	}
	return 0, nil, len(p) == 0
}

// begin allows a read of the client's body, if it is still this attempt's.
func (a *attempt) begin() error {
	r := a.replay
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case a.closed:
		return http.ErrBodyReadAfterClose
	case r.current != a:
		return errSuperseded
	}
	r.begun = true
	return nil
}

// end notes what a read of the client's body gave.
func (a *attempt) end(b []byte, err error) {
	r := a.replay
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
	if r.keep = r.keep && !r.settled && len(r.buf)+len(b) <= r.limit; r.keep {
		r.buf = append(r.buf, b...)
		a.sent = len(r.buf)
	}
	r.release()
}

// Close ends the attempt. It does not wait for a read under way.
func (a *attempt) Close() error {
	r := a.replay
	r.mu.Lock()
	a.closed = true
	last := r.settled && r.current == a
	r.release()
	r.mu.Unlock()
	if last {
		return r.closeSource()
	}
	return nil
}
