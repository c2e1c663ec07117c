package sspi

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
	"unicode/utf16"
	"unsafe"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
)

// Double stands in for secur32.dll. It reads what it is given as C would, by the offsets of the
// architecture that the test runs on, and records every fault.
type Double struct {
	// Initiate makes the token of a context, and what verifies the answer; the default's answer
	// is "answer". bindings are hashed from the memory that the caller passed; nil for none.
	Initiate func(target string, flags uint32, bindings *gss.ChannelBindings) (token []byte, verify func(answer []byte) Status, status Status)
	// Acquire and PurgeStatus are the statuses of AcquireCredentialsHandle and of a purge.
	Acquire, PurgeStatus Status
	// Bindings is the application data that each first call must have; empty for none.
	Bindings string
	// Client and ClientRealm are whose tickets there are. Without Ex2 they are not told.
	Client, ClientRealm string
	Ex2                 bool
	Tickets             []Ticket
	// NotMutual has the second call succeed without mutual authentication.
	NotMutual bool

	mu          sync.Mutex
	faults      []string
	lent        map[*contextCall]bool
	buffers     map[*byte]any // to be freed
	credentials map[uintptr]bool
	contexts    map[uintptr]*doubleContext
	last        uintptr
	counts      Counts
}

// Counts are how often functions were called, and the most contexts at a time.
type Counts struct{ Acquired, FreedCredentials, Begun, Deleted, MostContexts, Purged int }

type doubleContext struct {
	verify func([]byte) Status
	answer bool // it has been given
}

// doubleToken is how long the double's package says that tokens are.
const doubleToken = 65536

// NewDouble returns a client of a new double, which the test must leave as clean as it was.
func NewDouble(t testing.TB) (*Client, *Double) {
	d := &Double{
		Client: "svc", ClientRealm: "CORP.EXAMPLE", Ex2: true,
		lent: make(map[*contextCall]bool), buffers: make(map[*byte]any),
		credentials: make(map[uintptr]bool), contexts: make(map[uintptr]*doubleContext),
	}
	d.Initiate = func(string, uint32, *gss.ChannelBindings) ([]byte, func([]byte) Status, Status) {
		return []byte("token"), func(answer []byte) Status {
			if string(answer) != "answer" {
				return SEC_E_INVALID_TOKEN
			}
			return SEC_E_OK
		}, SEC_I_CONTINUE_NEEDED
	}
	c := newClient(d, d)
	t.Cleanup(func() {
		c.Close()
		for _, fault := range d.Faults() {
			t.Error(fault)
		}
	})
	return c, d
}

// Faults are what callers did wrong so far, and what they have not released.
func (d *Double) Faults() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := slices.Clone(d.faults)
	for what, n := range map[string]int{"credentials": len(d.credentials), "contexts": len(d.contexts), "buffers": len(d.buffers), "pieces of memory": len(d.lent)} {
		if n > 0 {
			all = append(all, fmt.Sprintf("%d %s were not released", n, what))
		}
	}
	return all
}

// Counts returns the counts so far.
func (d *Double) Counts() Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts
}

// Hold changes what Windows holds while it is used.
func (d *Double) Hold(client string, tickets ...Ticket) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.Client, d.Tickets = client, tickets
}

func (d *Double) fault(format string, args ...any) {
	d.faults = append(d.faults, fmt.Sprintf(format, args...))
}

// poison is what memory has that was given back.
const poison = 0xdd

func (d *Double) get(tokenSize int) *contextCall {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &contextCall{token: make([]byte, tokenSize)}
	d.lent[c] = true
	return c
}

func (d *Double) put(c *contextCall) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.lent[c] {
		d.fault("memory was given back twice")
	}
	delete(d.lent, c)
	for _, b := range [][]byte{c.token, c.bindings} {
		for i := range b {
			b[i] = poison
		}
	}
}

func (d *Double) handle() handle {
	d.last += 8
	return handle{d.last, 0xc0ffee}
}

// check reports a handle that is not one of these.
func check[V any](d *Double, what string, all map[uintptr]V, h *handle) (V, bool) {
	var none V
	if h == nil {
		d.fault("no handle of %s", what)
		return none, false
	}
	v, ok := all[h.lower]
	if !ok || h.upper != 0xc0ffee {
		d.fault("%#x is no handle of %s, or not any more", h.lower, what)
	}
	return v, ok
}

func (d *Double) checkPackage(name *uint16) {
	if got := text(name); got != "Kerberos" {
		d.fault("package %q", got)
	}
}

func (d *Double) acquireCredentialsHandle(name *uint16, credentials *handle, _ *int64) Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.checkPackage(name)
	if d.Acquire.failed() {
		return d.Acquire
	}
	d.counts.Acquired++
	*credentials = d.handle()
	d.credentials[credentials.lower] = true
	return SEC_E_OK
}

func (d *Double) freeCredentialsHandle(h *handle) Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := check(d, "credentials", d.credentials, h); !ok {
		return SEC_E_INVALID_HANDLE
	}
	d.counts.FreedCredentials++
	delete(d.credentials, h.lower)
	return SEC_E_OK
}

// allocate returns memory that the caller has to free.
func (d *Double) allocate(b []byte) *byte {
	d.buffers[&b[0]] = b
	return &b[0]
}

func (d *Double) release(b *byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch freed := d.buffers[b].(type) {
	case nil:
		d.fault("memory was freed that is not allocated")
	case []byte:
		copy(freed, bytes.Repeat([]byte{poison}, len(freed)))
	case *packageInfo:
		*freed = packageInfo{}
	case []packageInfo:
		clear(freed)
	}
	delete(d.buffers, b)
}

func (d *Double) freeContextBuffer(b *byte) Status {
	d.release(b)
	return SEC_E_OK
}

func (d *Double) lsaFree(b *byte) { d.release(b) }

// wide returns s in UTF-16 with a zero, as bytes.
func wide(s string) (b []byte) {
	for _, unit := range append(utf16.Encode([]rune(s)), 0) {
		b = binary.NativeEndian.AppendUint16(b, unit)
	}
	return b
}

func (d *Double) queryCredentialsName(credentials *handle, name **uint16) Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	check(d, "credentials", d.credentials, credentials)
	if d.Client == "" {
		return SEC_E_UNSUPPORTED_FUNCTION
	}
	*name = (*uint16)(unsafe.Pointer(d.allocate(wide(d.Client + "@" + d.ClientRealm))))
	return SEC_E_OK
}

func (d *Double) processUser() (string, error) { return `HOST\process`, nil }

func (d *Double) querySecurityPackageInfo(name *uint16, info **packageInfo) Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.checkPackage(name)
	made := &packageInfo{maxToken: doubleToken}
	d.buffers[made.address()] = made
	*info = made
	return SEC_E_OK
}

func (d *Double) enumerateSecurityPackages(count *uint32, infos **packageInfo) Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]packageInfo, 2)
	for i, name := range []string{"Kerberos", "NTLM"} {
		units, _ := terminated(name)
		all[i] = packageInfo{maxToken: doubleToken, name: &units[0], comment: &units[0]}
	}
	d.buffers[all[0].address()] = all
	*count, *infos = 2, &all[0]
	return SEC_E_OK
}

// native reads a number of the size of a pointer at an offset.
func native(at unsafe.Pointer, offset int) uintptr {
	b := unsafe.Slice((*byte)(unsafe.Add(at, offset)), pointer)
	if pointer == 8 {
		return uintptr(binary.NativeEndian.Uint64(b))
	}
	return uintptr(binary.NativeEndian.Uint32(b))
}

func number(at unsafe.Pointer, offset int) uint32 {
	return binary.NativeEndian.Uint32(unsafe.Slice((*byte)(unsafe.Add(at, offset)), 4))
}

// onlyBuffer reads a SecBufferDesc that must have one buffer, and returns its kind, its memory and
// where its size is. data is the Go pointer that must be in it.
func (d *Double) onlyBuffer(what string, desc *secBufferDesc, want uint32) (memory []byte, size *uint32) {
	at := unsafe.Pointer(desc)
	if version, count := number(at, 0), number(at, 4); version != 0 || count != 1 {
		d.fault("%s: version %d with %d buffers", what, version, count)
		return nil, nil
	}
	if native(at, 8) != uintptr(unsafe.Pointer(desc.buffers)) {
		d.fault("%s: no pointer to buffers at offset 8", what)
		return nil, nil
	}
	buffer := unsafe.Pointer(desc.buffers)
	if kind := number(buffer, 4); kind != want {
		d.fault("%s: a buffer of kind %d instead of %d", what, kind, want)
		return nil, nil
	}
	if native(buffer, 8) != uintptr(unsafe.Pointer(desc.buffers.data)) || desc.buffers.data == nil {
		d.fault("%s: no pointer to memory at offset 8", what)
		return nil, nil
	}
	return unsafe.Slice(desc.buffers.data, number(buffer, 0)), (*uint32)(buffer)
}

// hashBindings reads SEC_CHANNEL_BINDINGS and hashes them as Windows does (RFC 4121, Section
// 4.1.1.2).
func (d *Double) hashBindings(b []byte) *gss.ChannelBindings {
	if len(b) < 32 {
		d.fault("channel bindings of %d bytes", len(b))
		return nil
	}
	var field [8]uint32
	for i := range field {
		field[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	part := func(length, offset uint32) []byte {
		if length == 0 {
			return nil
		}
		if offset < 32 || uint64(offset)+uint64(length) > uint64(len(b)) {
			d.fault("channel bindings: %d bytes at %d are not behind the header, or beyond the end of %d", length, offset, len(b))
			return nil
		}
		return b[offset:][:length]
	}
	if field[0] != 0 || field[1] != 0 || field[3] != 0 || field[4] != 0 {
		d.fault("channel bindings have addresses: %v", field)
	}
	data := part(field[6], field[7])
	if string(data) != d.Bindings {
		d.fault("channel bindings have the data %q instead of %q", data, d.Bindings)
	}
	hashed, err := gss.NewChannelBindings(data)
	if err != nil {
		d.fault("channel bindings: %v", err)
	}
	return &hashed
}

func (d *Double) initializeSecurityContext(c *contextCall) Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.lent[c] {
		d.fault("a call with memory that was given back")
	}
	check(d, "credentials", d.credentials, c.credentials)
	output, size := d.onlyBuffer("output", &c.output, bufferToken)
	if len(output) != doubleToken || len(c.token) != doubleToken || &output[0] != &c.token[0] {
		d.fault("the output takes %d bytes", len(output))
		return SEC_E_BUFFER_TOO_SMALL
	}
	if c.flags&requestAlways != requestAlways {
		d.fault("flags %#x", c.flags)
	}
	write := func(token []byte, status Status) Status {
		if status.failed() { // the size is left as it was
			copy(output, bytes.Repeat([]byte{poison}, 64))
			return status
		}
		copy(output, token)
		*size = uint32(len(token))
		return status
	}
	if c.context == nil {
		return write(d.first(c))
	}
	x, ok := check(d, "contexts", d.contexts, c.context)
	if !ok {
		return SEC_E_INVALID_HANDLE
	}
	if c.input == nil {
		d.fault("a second call without an answer")
		return SEC_E_INVALID_TOKEN
	}
	answer, _ := d.onlyBuffer("answer", c.input, bufferToken)
	if x.answer {
		d.fault("two answers for one context")
	}
	x.answer = true
	c.newContext = *c.context
	if !d.NotMutual {
		c.attributes = c.flags & returnedMutual
	}
	return write(nil, x.verify(answer))
}

// first is the first call for a context.
func (d *Double) first(c *contextCall) ([]byte, Status) {
	var bindings *gss.ChannelBindings
	switch {
	case c.input != nil:
		if b, _ := d.onlyBuffer("input", c.input, bufferChannelBindings); b != nil {
			bindings = d.hashBindings(b)
		}
	case d.Bindings != "":
		d.fault("a first call without channel bindings")
	}
	token, verify, status := d.Initiate(text(c.target), c.flags, bindings)
	if status.failed() {
		return nil, status
	}
	d.counts.Begun++
	c.newContext, c.expiry = d.handle(), 1
	d.contexts[c.newContext.lower] = &doubleContext{verify: verify}
	d.counts.MostContexts = max(d.counts.MostContexts, len(d.contexts))
	return token, status
}

func (d *Double) deleteSecurityContext(h *handle) Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := check(d, "contexts", d.contexts, h); !ok {
		return SEC_E_INVALID_HANDLE
	}
	d.counts.Deleted++
	delete(d.contexts, h.lower)
	return SEC_E_OK
}

func (d *Double) lsaConnect(name string, connection *uintptr, packageID *uint32) Status {
	if name != "Kerberos" {
		return SEC_E_SECPKG_NOT_FOUND
	}
	*connection, *packageID = 4711, 2
	return SEC_E_OK
}

func (d *Double) lsaDisconnect(uintptr) {}

func (d *Double) lsaCall(connection uintptr, packageID uint32, message []byte, answer **byte, size *uint32) (called, own Status) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if connection != 4711 || packageID != 2 {
		d.fault("the connection %d to the package %d", connection, packageID)
	}
	if !bytes.Equal(message[4:12], make([]byte, 8)) {
		d.fault("another logon session than the own one")
	}
	switch kind := binary.LittleEndian.Uint32(message); {
	case kind == queryTicketCacheEx2 && d.Ex2, kind == queryTicketCache:
		b, n := d.cacheAnswer(kind)
		*answer, *size = b, n
		return SEC_E_OK, SEC_E_OK
	case kind == purgeTicketCache:
		return SEC_E_OK, d.purge(message)
	default:
		return SEC_E_OK, STATUS_ACCESS_DENIED
	}
}

// purge reads a KERB_PURGE_TKT_CACHE_REQUEST at its address.
func (d *Double) purge(message []byte) Status {
	if d.PurgeStatus.failed() {
		return d.PurgeStatus
	}
	base := uint64(uintptr(unsafe.Pointer(&message[0])))
	first := 12
	if pointer == 8 {
		first = 16
	}
	server, err := unicodeString(message, base, int(pointer), message[first:])
	realm, err2 := unicodeString(message, base, int(pointer), message[first+int(2*pointer):])
	if err != nil || err2 != nil || server == "" || realm == "" {
		d.fault("purge of %q of %q: %v, %v", server, realm, err, err2)
		return STATUS_ACCESS_DENIED
	}
	kept := slices.DeleteFunc(slices.Clone(d.Tickets), func(t Ticket) bool { return t.Server == server && t.ServerRealm == realm })
	if len(kept) == len(d.Tickets) {
		return SEC_E_NO_CREDENTIALS
	}
	d.counts.Purged += len(d.Tickets) - len(kept)
	d.Tickets = kept
	return SEC_E_OK
}

// cacheAnswer is the answer to a query, at its address.
func (d *Double) cacheAnswer(kind uint32) (*byte, uint32) {
	draft := appendTickets(nil, 0, int(pointer), kind, d.Tickets)
	b := make([]byte, len(draft))
	at := d.allocate(b)
	copy(b, appendTickets(nil, uint64(uintptr(unsafe.Pointer(at))), int(pointer), kind, d.Tickets))
	return at, uint32(len(b))
}

// appendTickets encodes an answer as Windows does, at the address base.
func appendTickets(b []byte, base uint64, word int, kind uint32, tickets []Ticket) []byte {
	size := 2*2*word + 32
	if kind == queryTicketCacheEx2 {
		size = 4*2*word + 40
	}
	b = binary.LittleEndian.AppendUint32(b, kind)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(tickets)))
	var names []byte
	at := base + uint64(8+size*len(tickets))
	for _, t := range tickets {
		list := []string{t.Server, t.ServerRealm}
		if kind == queryTicketCacheEx2 {
			list = []string{t.Client, t.ClientRealm, t.Server, t.ServerRealm}
		}
		for _, name := range list {
			units := utf16.Encode([]rune(name))
			b = binary.LittleEndian.AppendUint16(b, uint16(2*len(units)))
			b = binary.LittleEndian.AppendUint16(b, uint16(2*len(units)+2))
			if word == 8 {
				b = append(b, 0, 0, 0, 0)
				b = binary.LittleEndian.AppendUint64(b, at+uint64(len(names)))
			} else {
				b = binary.LittleEndian.AppendUint32(b, uint32(at+uint64(len(names))))
			}
			for _, unit := range append(units, 0) {
				names = binary.LittleEndian.AppendUint16(names, unit)
			}
		}
		for _, when := range []time.Time{t.Start, t.End, t.RenewTill} {
			var n int64
			if !when.IsZero() {
				n = when.UnixNano()/100 + epoch
			}
			b = binary.LittleEndian.AppendUint64(b, uint64(n))
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(t.EType))
		b = binary.LittleEndian.AppendUint32(b, t.Flags)
		if kind == queryTicketCacheEx2 {
			b = binary.LittleEndian.AppendUint32(b, uint32(t.SessionEType))
			b = append(b, 0, 0, 0, 0)
		}
	}
	return append(b, names...)
}
