package kdctest

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"strconv"
	"sync"
	"time"
	"unicode/utf16"
)

// Managed is a group managed service account: its password is random, and the readers see it in a
// [Directory] ([MS-ADTS] 3.1.1.4.5.39).
type Managed struct {
	*Principal

	mu       sync.Mutex
	current  []byte
	previous []byte // nil if it is not shown
	readers  map[string]bool
	changed  time.Time
	query    time.Duration
}

// AddManaged adds a group managed service account, such as svc-web$, whose password the readers, by
// their names without a realm, may read.
func (r *Realm) AddManaged(name string, readers ...string) *Managed {
	m := &Managed{current: newPassword(), changed: time.Now(), query: 30 * 24 * time.Hour, readers: make(map[string]bool)}
	m.Principal = r.AddUser(name, passwordText(m.current), Salt(r.name+"host"+name))
	m.Allow(readers...)
	return m
}

// newPassword is as domain controllers make them: 256 random bytes as UTF-16, and the first is a
// surrogate without a partner.
func newPassword() []byte {
	b := make([]byte, 256)
	_, _ = rand.Read(b) // never fails
	return append([]byte{0x00, 0xd8, 'A', 0}, b[4:]...)
}

// passwordText is what Windows takes for the text of a password.
func passwordText(password []byte) string {
	units := make([]uint16, len(password)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(password[2*i:])
	}
	return string(utf16.Decode(units))
}

// Allow says who may read the password, in place of those before.
func (m *Managed) Allow(readers ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.readers)
	for _, name := range readers {
		m.readers[name] = true
	}
}

// Roll changes the password, which the directory shows at once, and with it the one before if
// previous. The KDC gets it unless it lags: then [Managed.CatchUp] brings it.
func (m *Managed) Roll(previous, lags bool) {
	m.mu.Lock()
	if m.previous = nil; previous {
		m.previous = m.current
	}
	m.current, m.changed = newPassword(), time.Now()
	m.mu.Unlock()
	if !lags {
		m.CatchUp()
	}
}

// CatchUp gives the KDC the password that the directory shows.
func (m *Managed) CatchUp() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ChangePassword(passwordText(m.current), false)
}

// SetQuery sets after what time the password is to be read again; 30 days at first.
func (m *Managed) SetQuery(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.query = d
}

// Changed is when the password was changed last.
func (m *Managed) Changed() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

// Find is for DirectoryConfig: it shows the password to those who may read it and have asked for
// mutual authentication, and for nothing else, in a token that is bound to the connection.
func (m *Managed) Find(reader *Peer, account string) (map[string][][]byte, bool) {
	const mutual = 2
	m.mu.Lock()
	defer m.mu.Unlock()
	if account != m.Name() {
		return nil, false
	}
	attributes := map[string][][]byte{
		"objectClass": {[]byte("top"), []byte("msDS-GroupManagedServiceAccount")},
		"pwdLastSet":  {strconv.AppendInt(nil, m.changed.UnixNano()/100+116444736000000000, 10)},
	}
	if m.readers[reader.User] && reader.GSSFlags == mutual && reader.Bound {
		attributes["msDS-ManagedPassword"] = [][]byte{m.blob()}
	}
	return attributes, true
}

// blob is the value of msDS-ManagedPassword ([MS-ADTS] 2.2.19).
func (m *Managed) blob() []byte {
	const header = 16
	b := make([]byte, header)
	put := func(at int, content []byte) {
		binary.LittleEndian.PutUint16(b[at:], uint16(len(b)))
		b = append(b, content...)
	}
	binary.LittleEndian.PutUint16(b, 1)
	put(8, append(bytes.Clone(m.current), 0, 0))
	if m.previous != nil {
		put(10, append(bytes.Clone(m.previous), 0, 0))
	}
	put(12, binary.LittleEndian.AppendUint64(nil, uint64(m.query/100)))
	put(14, binary.LittleEndian.AppendUint64(nil, uint64(max(m.query-5*time.Minute, 0)/100)))
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)))
	return b
}
