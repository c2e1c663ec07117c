package caddynegotiate

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
)

// tracer counts what goes to and from KDCs, and logs it if `trace` asks for it.
type tracer struct {
	logger  *zap.Logger
	trace   bool
	packets *packetFile // nil if none is wanted
	counts  *kdcMeter
}

func newTracer(c *Credentials, known atlas, realm string, logger *zap.Logger) (*tracer, error) {
	servers, err := c.servers()
	if err != nil {
		return nil, c.Origin.wrap("kdc", err)
	}
	t := &tracer{logger: logger, trace: c.Trace, counts: newKDCMeter(known, realm, servers)}
	if c.TracePackets != "" {
		if t.packets, err = newPacketFile(c.TracePackets); err != nil {
			return nil, c.Origin.wrap("trace", err)
		}
	}
	return t, nil
}

// ObserveMessage implements kdc.Observer.
func (t *tracer) ObserveMessage(_ context.Context, m kdc.MessageEvent) {
	t.counts.message(m)
	if !t.trace {
		return
	}
	if t.packets != nil {
		if err := t.packets.write(m, time.Now()); err != nil && t.packets.broken.CompareAndSwap(false, true) {
			t.logger.Warn("cannot write the packets of the trace; what is missing from the file is not told again",
				zap.String("path", t.packets.path), zap.Error(err))
		}
	}
	if c := t.logger.Check(zapcore.DebugLevel, "kdc message "+m.Direction.String()); c != nil {
		c.Write(
			zap.String("realm", m.Realm), zap.Stringer("kdc", m.Server), zap.String("protocol", string(m.Protocol)),
			zap.String("local", m.Local), zap.String("remote", m.Remote), zap.String("size", humanize.Bytes(uint64(m.Size))),
			zap.Duration("elapsed", m.Elapsed), zap.Error(m.Err), zap.Dict("message", messageFields(m.Data)...),
		)
	}
}

// messageFields is a message, decoded, and without its secrets.
func messageFields(data []byte) []zap.Field {
	if len(data) == 0 {
		return nil
	}
	details := krb5core.Describe(data)
	fields := make([]zap.Field, len(details))
	for i, d := range details {
		fields[i] = zap.String(d.Name, d.Value)
	}
	return fields
}

// ObserveDecision implements kdc.Observer.
func (t *tracer) ObserveDecision(_ context.Context, d kdc.Decision) {
	t.counts.decision(d)
	level := zapcore.DebugLevel
	if d.Kind == kdc.Dead || d.Kind == kdc.PassedOver {
		level = zapcore.WarnLevel
	} else if !t.trace {
		return
	}
	if c := t.logger.Check(level, "kdc "+d.Kind.String()); c != nil {
		fields := []zap.Field{
			zap.String("realm", d.Realm), zap.Stringer("kdc", d.Server), zap.String("address", d.Addr), zap.NamedError("reason", d.Reason),
		}
		if d.Datagrams > 0 {
			fields = append(fields, zap.Int("datagrams", d.Datagrams))
		}
		c.Write(fields...)
	}
}

// ObserveExchange implements krb5core.Tracer.
func (t *tracer) ObserveExchange(_ context.Context, op krb5core.Op, e exchange.Event) {
	t.counts.event(e)
	if !t.trace {
		return
	}
	if c := t.logger.Check(zapcore.DebugLevel, "kdc exchange"); c != nil {
		c.Write(zap.String("op", string(op)), zap.Stringer("decision", e))
	}
}

// packetFile is where `trace packets` puts the raw messages, in the text that
// Wireshark's text2pcap reads. A message is
//
//	# received udp 10.0.0.2:40112 10.0.0.1:88 realm CORP.EXAMPLE
//	I 2026-11-20T08:15:30.123456Z
//	0000 7e 81 ab 30 ...
//	0010 ...
//
// and an empty line: a comment with the socket's two ends (ours first), I for
// received and O for sent, the time in UTC, and the octets without any framing,
// sixteen a line after their offset. It is written at once, so that several may
// append to one file.
//
//	text2pcap -D -t ISO -u 1088,88 FILE packets.pcap
type packetFile struct {
	path   string
	broken atomic.Bool // the log has been told
}

// newPacketFile makes sure that the file can be, without making it: a
// configuration that is only looked at leaves no trace.
func newPacketFile(name string) (*packetFile, error) {
	path, err := filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("%s: its folder does not exist; make it, for the user that Caddy runs as", path)
	}
	switch info, err := os.Stat(path); {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: is no regular file; name one that may be written", path)
	}
	return &packetFile{path: path}, nil
}

// write appends a message, if there is one. Tickets are in it: the file is for its
// owner alone, also where it was there before with another mode.
func (p *packetFile) write(m kdc.MessageEvent, now time.Time) error {
	if len(m.Data) == 0 {
		return nil
	}
	f, err := os.OpenFile(p.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
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
	way := byte('I')
	if m.Direction == kdc.Sent {
		way = 'O'
	}
	var b bytes.Buffer
	b.Grow(5 * len(m.Data))
	fmt.Fprintf(&b, "# %s %s %s %s realm %q\n", m.Direction, m.Protocol, m.Local, m.Remote, m.Realm)
	fmt.Fprintf(&b, "%c %s\n", way, now.UTC().Format("2006-01-02T15:04:05.000000Z"))
	for at := 0; at < len(m.Data); at += 16 {
		fmt.Fprintf(&b, "%04x", at)
		for _, octet := range m.Data[at:min(at+16, len(m.Data))] {
			b.WriteByte(' ')
			b.WriteString(hex.EncodeToString([]byte{octet}))
		}
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// Interface guards
var _ krb5core.Tracer = (*tracer)(nil)
