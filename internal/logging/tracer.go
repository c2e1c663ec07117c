package logging

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-negotiate/caddy-negotiate/internal/metrics"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
)

// TracerConfig configures a [Tracer].
type TracerConfig struct {
	Logger *zap.Logger
	// Metrics counts the messages; nil for none.
	Metrics *metrics.KDC
	// Trace logs every message and decision at debug level.
	Trace bool
	// Packets is the file that raw messages are appended to if Trace is set; empty for
	// none.
	Packets string
}

// Tracer sees the messages to and from KDCs: it counts them, logs them if `trace` is set,
// and warns of KDCs that do not answer. It implements [krb5core.Tracer].
type Tracer struct {
	cfg     TracerConfig
	packets *packetFile // nil if none is wanted
}

// NewTracer returns a tracer. It fails if the packet file cannot be created; it does not
// create it.
func NewTracer(cfg TracerConfig) (*Tracer, error) {
	t := &Tracer{cfg: cfg}
	if cfg.Packets == "" {
		return t, nil
	}
	var err error
	t.packets, err = newPacketFile(cfg.Packets)
	return t, err
}

// ObserveMessage implements kdc.Observer.
func (t *Tracer) ObserveMessage(_ context.Context, m kdc.MessageEvent) {
	t.cfg.Metrics.Message(m)
	if !t.cfg.Trace {
		return
	}
	if t.packets != nil {
		if err := t.packets.write(m, time.Now()); err != nil && t.packets.broken.CompareAndSwap(false, true) {
			t.cfg.Logger.Warn("cannot write the packet trace; further write errors are not logged",
				zap.String(fieldPath, t.packets.path), zap.Error(err))
		}
	}
	if c := t.cfg.Logger.Check(zapcore.DebugLevel, "kdc message "+m.Direction.String()); c != nil {
		var message []zap.Field // decoded, without its secrets
		if len(m.Data) > 0 {
			for _, d := range krb5core.Describe(m.Data) {
				message = append(message, zap.String(d.Name, d.Value))
			}
		}
		c.Write(
			zap.String(fieldRealm, m.Realm), zap.Stringer(fieldKDC, m.Server), zap.String("protocol", string(m.Protocol)),
			zap.String("local", m.Local), zap.String("remote", m.Remote), zap.String("size", humanize.Bytes(uint64(m.Size))),
			zap.Duration("elapsed", m.Elapsed), zap.Error(m.Err), zap.Dict("message", message...),
		)
	}
}

// ObserveDecision implements kdc.Observer.
func (t *Tracer) ObserveDecision(_ context.Context, d kdc.Decision) {
	t.cfg.Metrics.Decision(d)
	level := zapcore.DebugLevel
	if d.Kind == kdc.Dead || d.Kind == kdc.PassedOver {
		level = zapcore.WarnLevel
	} else if !t.cfg.Trace {
		return
	}
	if c := t.cfg.Logger.Check(level, "kdc "+d.Kind.String()); c != nil {
		fields := []zap.Field{
			zap.String(fieldRealm, d.Realm), zap.Stringer(fieldKDC, d.Server), zap.String("address", d.Addr), zap.NamedError(fieldReason, d.Reason),
		}
		if d.Datagrams > 0 {
			fields = append(fields, zap.Int("datagrams", d.Datagrams))
		}
		c.Write(fields...)
	}
}

// ObserveExchange implements krb5core.Tracer.
func (t *Tracer) ObserveExchange(_ context.Context, op krb5core.Op, e exchange.Event) {
	t.cfg.Metrics.Exchange(e)
	if kdc, ok := e.(exchange.KDCCertificate); ok && kdc.Digest == crypto.SHA1 {
		t.cfg.Logger.Warn("the KDC signs with SHA-1, which is broken: update it, or configure it for SHA-256",
			zap.String(fieldRealm, kdc.Realm), zap.Stringer("certificate", kdc.Certificate.Subject))
	}
	if !t.cfg.Trace {
		return
	}
	if c := t.cfg.Logger.Check(zapcore.DebugLevel, "kdc exchange"); c != nil {
		c.Write(zap.String("op", string(op)), zap.Stringer("decision", e))
	}
}

// packetFile is the file of `trace packets`: raw messages in the text format that
// Wireshark's text2pcap reads. A message is
//
//	# received udp 10.0.0.2:40112 10.0.0.1:88 realm CORP.EXAMPLE
//	I 2026-11-20T08:15:30.123456Z
//	0000 7e 81 ab 30 ...
//	0010 ...
//
// and an empty line: a comment with the socket's two ends (ours first), I for received
// and O for sent, the time in UTC, and the bytes without any framing, sixteen a line
// after their offset. Each message is one write, so that several tracers can append to
// one file.
//
//	text2pcap -D -t ISO -u 1088,88 FILE packets.pcap
type packetFile struct {
	path   string
	broken atomic.Bool // a write error was logged
}

// newPacketFile checks that the file can be created, but does not create it: checking a
// configuration has no effect.
func newPacketFile(path string) (*packetFile, error) {
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("%s: its folder does not exist; create it, for the user that Caddy runs as", path)
	}
	switch info, err := os.Lstat(path); {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if err := checkPacketFile(path, info); err != nil {
			return nil, err
		}
	}
	return &packetFile{path: path}, nil
}

// checkPacketFile checks that an existing file may be written to. Another user may have created
// it, or a symbolic link, in order to read the tickets.
func checkPacketFile(path string, info os.FileInfo) error {
	switch {
	case info.Mode().Type() == os.ModeSymlink:
		return fmt.Errorf("%s: is a symbolic link; name the file itself", path)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s: is not a regular file; name one that may be written", path)
	case foreign(info):
		return fmt.Errorf("%s: is owned by another user than Caddy's; remove it, or name a file in a folder that only Caddy's user can write to", path)
	}
	return nil
}

// write appends a message, if there is one. It contains tickets: the file is readable by
// its owner only, even if it existed with another mode.
func (p *packetFile) write(m kdc.MessageEvent, now time.Time) error {
	if len(m.Data) == 0 {
		return nil
	}
	f, err := openPackets(p.path)
	if err != nil {
		return err
	}
	if info, errStat := f.Stat(); errStat == nil && info.Mode().Perm()&0o077 != 0 {
		err = f.Chmod(0o600)
	}
	if err == nil {
		_, err = f.Write(packet(m, now))
	}
	return errors.Join(err, f.Close())
}

// packet is the text of a message.
func packet(m kdc.MessageEvent, now time.Time) []byte {
	direction := byte('I')
	if m.Direction == kdc.Sent {
		direction = 'O'
	}
	var b bytes.Buffer
	b.Grow(5 * len(m.Data))
	fmt.Fprintf(&b, "# %s %s %s %s realm %q\n", m.Direction, m.Protocol, m.Local, m.Remote, m.Realm)
	fmt.Fprintf(&b, "%c %s\n", direction, now.UTC().Format("2006-01-02T15:04:05.000000Z"))
	for at := 0; at < len(m.Data); at += 16 {
		fmt.Fprintf(&b, "%04x % x\n", at, m.Data[at:min(at+16, len(m.Data))])
	}
	b.WriteByte('\n')
	return b.Bytes()
}
