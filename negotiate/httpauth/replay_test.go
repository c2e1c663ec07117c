package httpauth

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// upload is a client's body that counts what is done to it.
type upload struct {
	io.Reader
	reading atomic.Int32
	shared  atomic.Bool
	closed  atomic.Int32
}

func (u *upload) Read(p []byte) (int, error) {
	if u.reading.Add(1) > 1 {
		u.shared.Store(true)
	}
	defer u.reading.Add(-1)
	return u.Reader.Read(p)
}

func (u *upload) Close() error { u.closed.Add(1); return nil }

func next(t *testing.T, r *Replay) io.ReadCloser {
	t.Helper()
	return must.OK(r.Next(t.Context()))(t)
}

func read(t *testing.T, r io.Reader, n int) string {
	t.Helper()
	b := make([]byte, n)
	must.OK(io.ReadFull(r, b))(t)
	return string(b)
}

func TestReplay_FromBeginning(t *testing.T) {
	const text = "the quick brown fox jumps over the lazy dog"
	for _, taken := range []int{0, 1, 10, len(text) - 1, len(text)} {
		for _, length := range []int64{-1, int64(len(text))} {
			src := &upload{Reader: strings.NewReader(text)}
			r := NewReplay(src, length, int64(len(text)))
			first := next(t, r)
			read(t, first, taken)
			if !r.Replayable() {
				t.Errorf("%d taken: not replayable", taken)
			}
			first.Close()
			for range 2 { // GetBody and a repeat may both need one
				if b, err := io.ReadAll(next(t, r)); err != nil || string(b) != text {
					t.Fatalf("%d taken: %q, %v", taken, b, err)
				}
			}
			if src.closed.Load() != 0 {
				t.Error("closed before it was settled")
			}
			r.Settle()
		}
	}
}

func TestReplay_OneByteReader(t *testing.T) {
	const text = "the quick brown fox"
	r := NewReplay(io.NopCloser(iotest.OneByteReader(strings.NewReader(text))), -1, 100)
	read(t, next(t, r), 7)
	must.Do(t, iotest.TestReader(next(t, r), []byte(text)))
}

func TestReplay_TooLong(t *testing.T) {
	const limit = 64
	text := strings.Repeat("x", limit+1)
	r := NewReplay(io.NopCloser(strings.NewReader(text)), -1, limit)
	first := next(t, r)
	read(t, first, limit)
	if !r.Replayable() {
		t.Error("just filled the buffer: not replayable")
	}
	if b, err := io.ReadAll(first); err != nil || len(b) != 1 {
		t.Errorf("the rest: %q, %v", b, err)
	}
	if r.Replayable() || r.buf != nil {
		t.Errorf("replayable %v, %d bytes kept", r.Replayable(), len(r.buf))
	}
	if _, err := r.Next(t.Context()); !errors.Is(err, ErrNotReplayable) {
		t.Errorf("got %v", err)
	}
}

func TestReplay_KnownTooLong(t *testing.T) {
	for _, limit := range []int64{0, 64} {
		r := NewReplay(io.NopCloser(strings.NewReader(strings.Repeat("x", 1000))), 1000, limit)
		unread := next(t, r)
		_ = unread.Close()
		first := next(t, r) // nothing was read yet: still possible
		read(t, first, 1)
		if r.Replayable() || r.buf != nil {
			t.Errorf("limit %d: replayable %v, %d bytes kept", limit, r.Replayable(), len(r.buf))
		}
	}
}

// The server responds while the client's body is being read: the second attempt gets
// the reader, and the bytes of that read, when the read is done.
func TestReplay_WaitsForRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, feed := io.Pipe()
		r := NewReplay(client, -1, 100)
		first := next(t, r)
		go func() { _, _ = io.Copy(io.Discard, first) }()
		_, _ = io.WriteString(feed, "hello ")
		synctest.Wait() // it reads again

		impatient, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.Next(impatient); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		got := make(chan string)
		go func() {
			second, err := r.Next(t.Context())
			if err != nil {
				t.Error(err)
			}
			b, _ := io.ReadAll(second)
			got <- string(b)
		}()
		synctest.Wait()
		_, _ = io.WriteString(feed, "wor")
		_, _ = io.WriteString(feed, "ld")
		_ = feed.Close()
		if b := <-got; b != "hello world" {
			t.Fatalf("the second attempt read %q", b)
		}
		if _, err := first.Read(make([]byte, 1)); !errors.Is(err, errSuperseded) {
			t.Fatalf("the first attempt reads on: %v", err)
		}
	})
}

func TestReplay_ClosesOnce(t *testing.T) {
	src := &upload{Reader: strings.NewReader("hello")}
	r := NewReplay(src, 5, 100)
	first := next(t, r)
	first.Close()
	second := next(t, r)
	r.Settle()
	if src.closed.Load() != 0 {
		t.Fatal("closed under the attempt that runs")
	}
	if b, err := io.ReadAll(second); string(b) != "hello" || err != nil {
		t.Fatalf("%q, %v", b, err)
	}
	first.Close()
	second.Close()
	second.Close()
	r.Settle()
	if n := src.closed.Load(); n != 1 {
		t.Fatalf("closed %d times", n)
	}

	src = &upload{Reader: strings.NewReader("hello")}
	r = NewReplay(src, 5, 100)
	next(t, r).Close() // as on a failed dial
	r.Settle()
	if n := src.closed.Load(); n != 1 {
		t.Fatalf("closed %d times", n)
	}
}

// A streamed upload continues after the response has begun: no more of it is kept, and
// none of it is lost.
func TestReplay_SettledKeepsNothing(t *testing.T) {
	text := strings.Repeat("0123456789", 10)
	r := NewReplay(io.NopCloser(iotest.OneByteReader(strings.NewReader(text))), -1, 1000)
	read(t, next(t, r), 50)
	second := next(t, r)
	got := read(t, second, 20)
	r.Settle()
	rest, err := io.ReadAll(second)
	if err != nil || got+string(rest) != text || r.buf != nil {
		t.Fatalf("%q, %v, %d bytes kept", got+string(rest), err, len(r.buf))
	}
	if _, err := r.Next(t.Context()); !errors.Is(err, ErrNotReplayable) {
		t.Fatalf("got %v", err)
	}
}

func TestReplay_FailedUpload(t *testing.T) {
	broken := errors.New("client went away")
	r := NewReplay(io.NopCloser(io.MultiReader(strings.NewReader("hel"), iotest.ErrReader(broken))), 5, 100)
	if _, err := io.ReadAll(next(t, r)); !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	if _, err := r.Next(t.Context()); !errors.Is(err, ErrNotReplayable) {
		t.Fatalf("got %v", err)
	}
}

func TestReplay_NoBody(t *testing.T) {
	for _, body := range []io.ReadCloser{nil, http.NoBody} {
		r := NewReplay(body, 0, 100)
		for range 3 {
			if b := next(t, r); b != body {
				t.Errorf("%v became %v", body, b)
			}
		}
		if !r.Replayable() || r.GetBody(t.Context()) != nil {
			t.Error("a body was made of none")
		}
		r.Settle()
	}
}

// With net/http: servers refuse at different moments of the upload, and each request is
// repeated. No two goroutines may read the client's body at once, and the body that
// arrives is complete.
func TestReplay_EarlyRefusals(t *testing.T) {
	text := bytes.Repeat([]byte("0123456789abcdef"), 2000) // 32 kB
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			_, _ = io.CopyN(io.Discard, r.Body, int64(len(r.URL.Path))*997)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if b, err := io.ReadAll(r.Body); err != nil || !bytes.Equal(b, text) {
			t.Errorf("%d bytes arrived, %v", len(b), err)
		}
	}))
	defer server.Close()
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			src := &upload{Reader: iotest.HalfReader(bytes.NewReader(text))}
			length := int64(len(text))
			if i%2 == 0 {
				length = -1
			}
			r := NewReplay(src, length, int64(len(text)))
			defer r.Settle()
			for attempt := range 2 {
				body, err := r.Next(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/"+strings.Repeat("x", i/2), body)
				req.ContentLength = length
				if attempt == 1 {
					req.Header.Set("Authorization", "Negotiate x")
				}
				resp, err := transport.RoundTrip(req)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if attempt == 1 && resp.StatusCode != http.StatusOK {
					t.Errorf("status %d", resp.StatusCode)
				}
			}
			if src.shared.Load() {
				t.Error("two attempts were in the client's reader at once")
			}
		})
	}
	wg.Wait()
}
