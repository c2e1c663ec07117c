package sspi

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"unicode/utf16"
)

// packageName is the one package that is used.
const packageName = "Kerberos"

// The flags of InitializeSecurityContext. The first four are what tokens of our own claim, too.
const (
	requestDelegate        = 0x00000001 // ISC_REQ_DELEGATE
	requestMutual          = 0x00000002 // ISC_REQ_MUTUAL_AUTH
	requestReplayDetect    = 0x00000004 // ISC_REQ_REPLAY_DETECT
	requestSequenceDetect  = 0x00000008 // ISC_REQ_SEQUENCE_DETECT
	requestConfidentiality = 0x00000010 // ISC_REQ_CONFIDENTIALITY
	requestIntegrity       = 0x00010000 // ISC_REQ_INTEGRITY
	returnedMutual         = 0x00000002 // ISC_RET_MUTUAL_AUTH

	requestAlways = requestReplayDetect | requestSequenceDetect | requestConfidentiality | requestIntegrity
)

const (
	// maxCalls bounds the calls under way: each takes a thread, and one that waits for a
	// domain controller takes it for as long as Windows does.
	maxCalls = 128
	// defaultToken and maxToken bound the memory for a token, in bytes, whatever the package
	// says.
	defaultToken = 48000
	maxToken     = 1 << 20
)

// ErrNotMutual is returned where the acceptor's answer was taken, but did not prove that the
// acceptor has the service's key.
var ErrNotMutual = errors.New("the acceptor has not authenticated itself to Windows")

// Client is the Kerberos client of Windows for the account of the process. It is safe for
// concurrent use.
type Client struct {
	call   functions
	memory memory
	slots  chan struct{}

	mu        sync.Mutex
	held      *credentials // nil until they are needed, and after they were of no use
	account   Account      // as it was seen last
	tokenSize int          // zero until it is known

	lsa authority
}

// memory provides what calls read and write. What is put back must not be used any more.
type memory interface {
	get(tokenSize int) *contextCall
	put(*contextCall)
}

func newClient(call functions, m memory) *Client {
	return &Client{call: call, memory: m, slots: make(chan struct{}, maxCalls), lsa: authority{call: call}}
}

// pooled is memory that is reused.
type pooled struct{ pool sync.Pool }

func (p *pooled) get(tokenSize int) *contextCall {
	if c, ok := p.pool.Get().(*contextCall); ok && len(c.token) == tokenSize {
		return c
	}
	return &contextCall{token: make([]byte, tokenSize)}
}

func (p *pooled) put(c *contextCall) {
	clear(c.token) // it had a token
	*c = contextCall{token: c.token, bindings: c.bindings[:0]}
	p.pool.Put(c)
}

// credentials are a credentials handle. It is freed when the client has replaced it and
// nothing uses it any more.
type credentials struct {
	handle handle
	uses   atomic.Int32
}

// acquire returns the credentials for one more use.
func (c *Client) acquire() (*credentials, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		name, err := terminated(packageName)
		if err != nil {
			return nil, err
		}
		made := new(credentials)
		var expiry int64
		if status := c.call.acquireCredentialsHandle(&name[0], &made.handle, &expiry); status.failed() {
			return nil, &Error{Function: "AcquireCredentialsHandle", Status: status}
		}
		made.uses.Store(1) // the client's own
		c.held = made
	}
	c.held.uses.Add(1)
	return c.held, nil
}

func (c *Client) release(used *credentials) {
	if used.uses.Add(-1) == 0 {
		c.call.freeCredentialsHandle(&used.handle)
	}
}

// forget has the next call acquire credentials again, unless that has happened since.
func (c *Client) forget(used *credentials) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held != nil && (used == nil || c.held == used) {
		c.release(c.held)
		c.held = nil
	}
}

// Close releases the credentials. Contexts can still be used; a later call acquires
// credentials again.
func (c *Client) Close() {
	c.forget(nil)
	c.lsa.close()
}

// Request says which token is made.
type Request struct {
	// Target is the service principal, HTTP/host or HTTP/host@REALM.
	Target string
	// Mutual requests a proof of the acceptor.
	Mutual bool
	// Delegate forwards the account's own ticket, if the domain allows it.
	Delegate bool
	// Bindings is the application data of the channel bindings, empty for none.
	Bindings string
}

// Context is a security context of one token that waits for the acceptor's answer.
type Context struct {
	client      *Client
	credentials *credentials
	handle      handle
	target      []uint16
	flags       uint32
	closed      bool
}

// initiation is the result of Initiate.
type initiation struct {
	context *Context
	token   []byte
	err     error
}

// Initiate returns the first token of a new security context. With Mutual it also returns the
// context, which the caller closes; nil if Windows expects no answer. If ctx ends first, what
// Windows returns later is discarded: its calls cannot be interrupted. The error is an *Error,
// or wraps that of ctx.
func (c *Client) Initiate(ctx context.Context, r Request) (*Context, []byte, error) {
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("waiting for one of %d calls of Windows to end: %w", cap(c.slots), context.Cause(ctx))
	}
	result := make(chan initiation, 1)
	go func() {
		defer func() { <-c.slots }()
		var i initiation
		i.context, i.token, i.err = c.initiate(r)
		result <- i
	}()
	select {
	case i := <-result:
		return i.context, i.token, i.err
	case <-ctx.Done():
		go func() { (<-result).context.Close() }()
		return nil, nil, fmt.Errorf("waiting for Windows to get a ticket for %s: %w", r.Target, context.Cause(ctx))
	}
}

// initiate begins a context, and does so once more with new credentials if those that are held
// are of no use any more: they do not follow a change of the account.
func (c *Client) initiate(r Request) (*Context, []byte, error) {
	for again := true; ; again = false {
		used, err := c.acquire()
		if err != nil {
			return nil, nil, err
		}
		started, token, err := c.begin(used, r)
		if started != nil {
			return started, token, err
		}
		if again && stale(err) {
			c.forget(used)
		} else {
			again = false
		}
		c.release(used)
		if !again {
			return nil, token, err
		}
	}
}

// stale reports whether other credentials may help. Wine has no more to say than
// SEC_E_INTERNAL_ERROR.
func stale(err error) bool {
	failed, ok := errors.AsType[*Error](err)
	if !ok {
		return false
	}
	switch failed.Status {
	case SEC_E_NO_CREDENTIALS, SEC_E_CONTEXT_EXPIRED, SEC_E_INVALID_HANDLE, SEC_E_WRONG_CREDENTIAL_HANDLE, SEC_E_INTERNAL_ERROR:
		return true
	default:
		return false
	}
}

// begin makes the first call for a context. The context is nil unless it waits for an answer.
func (c *Client) begin(used *credentials, r Request) (*Context, []byte, error) {
	target, err := terminated(r.Target)
	if err != nil {
		return nil, nil, err
	}
	size, err := c.outputSize()
	if err != nil {
		return nil, nil, err
	}
	x := &Context{client: c, credentials: used, target: target, flags: requestAlways}
	if r.Mutual {
		x.flags |= requestMutual
	}
	if r.Delegate {
		x.flags |= requestDelegate
	}
	m := c.memory.get(size)
	defer c.memory.put(m)
	if r.Bindings != "" {
		m.bindings = appendBindings(m.bindings[:0], r.Bindings)
		m.setInput(bufferChannelBindings, m.bindings)
	}
	status := x.run(m)
	if status.failed() { // there is no context, and the size of the output is as it was given
		return nil, nil, &Error{Function: "InitializeSecurityContext", Target: r.Target, Status: status}
	}
	token, err := m.result()
	if err != nil || status != SEC_I_CONTINUE_NEEDED || !r.Mutual {
		c.call.deleteSecurityContext(&x.handle)
		return nil, token, err
	}
	return x, token, nil
}

// run makes a call for the context, which has none yet if it is the first.
func (x *Context) run(m *contextCall) Status {
	m.credentials, m.target, m.flags = &x.credentials.handle, &x.target[0], x.flags
	if !x.handle.isZero() {
		m.context = &x.handle
	}
	m.outputBuffer = secBuffer{size: uint32(len(m.token)), kind: bufferToken, data: &m.token[0]}
	m.output = secBufferDesc{count: 1, buffers: &m.outputBuffer}
	status := x.client.call.initializeSecurityContext(m)
	if !status.failed() && !m.newContext.isZero() {
		x.handle = m.newContext
	}
	return status
}

// setInput sets the one buffer that the function reads.
func (c *contextCall) setInput(kind uint32, data []byte) {
	c.inputBuffer = secBuffer{size: uint32(len(data)), kind: kind, data: &data[0]}
	c.inputDesc = secBufferDesc{count: 1, buffers: &c.inputBuffer}
	c.input = &c.inputDesc
}

// result returns the token that the function has written.
func (c *contextCall) result() ([]byte, error) {
	n := int(c.outputBuffer.size)
	if n == 0 || n > len(c.token) {
		return nil, fmt.Errorf("InitializeSecurityContext returned a token of %d bytes, in a buffer of %d", n, len(c.token))
	}
	return bytes.Clone(c.token[:n]), nil
}

// outputSize is how long the package's tokens may be.
func (c *Client) outputSize() (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tokenSize != 0 {
		return c.tokenSize, nil
	}
	name, err := terminated(packageName)
	if err != nil {
		return 0, err
	}
	var info *packageInfo
	if status := c.call.querySecurityPackageInfo(&name[0], &info); status.failed() || info == nil {
		return 0, &Error{Function: "QuerySecurityPackageInfo", Status: status}
	}
	c.tokenSize = min(max(int(info.maxToken), defaultToken), maxToken)
	c.call.freeContextBuffer(info.address())
	return c.tokenSize, nil
}

// Verify has Windows verify the acceptor's answer: it must prove that the acceptor has the
// service's key. It is called at most once.
func (x *Context) Verify(answer []byte) error {
	size, err := x.client.outputSize()
	if err != nil || len(answer) == 0 {
		return cmp.Or(err, ErrNotMutual)
	}
	m := x.client.memory.get(size)
	defer x.client.memory.put(m)
	m.setInput(bufferToken, answer)
	switch status := x.run(m); {
	case status != SEC_E_OK:
		return &Error{Function: "InitializeSecurityContext", Target: string(utf16.Decode(x.target[:len(x.target)-1])), Status: status}
	case m.attributes&returnedMutual == 0:
		return ErrNotMutual
	}
	return nil
}

// Close deletes the context. It may be called more than once, and on nil.
func (x *Context) Close() {
	if x == nil || x.closed {
		return
	}
	x.closed = true
	x.client.call.deleteSecurityContext(&x.handle)
	x.client.release(x.credentials)
}
