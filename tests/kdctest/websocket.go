package kdctest

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Opcodes of RFC 6455 5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa
)

// maxFrame bounds a WebSocket message.
const maxFrame = 1 << 20

// WebSocket is one end of a WebSocket (RFC 6455), as far as an echo needs it.
// It is for one reader and one writer.
type WebSocket struct {
	r      *bufio.Reader
	w      io.Writer
	c      io.Closer
	client bool // clients mask what they send
}

// DialWebSocket opens a WebSocket through an ordinary HTTP client, whose
// transport must not be made for HTTP/2 only. Header may be nil. The response
// is returned too, also with an error if there is one; its body is closed then.
func DialWebSocket(ctx context.Context, client *http.Client, url string, header http.Header) (*WebSocket, *http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, nil, err
	}
	if header != nil {
		req.Header = header.Clone()
	}
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce) // never fails
	key := base64.StdEncoding.EncodeToString(nonce)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	req.Header.Set("Sec-WebSocket-Version", "13")
	req.Header.Set("Sec-Websocket-Key", key)
	res, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	rwc, ok := res.Body.(io.ReadWriteCloser)
	if res.StatusCode != http.StatusSwitchingProtocols || !ok {
		_ = res.Body.Close()
		return nil, res, fmt.Errorf("no upgrade: %s", res.Status)
	}
	if got := res.Header.Get("Sec-WebSocket-Accept"); got != acceptKey(key) {
		_ = rwc.Close()
		return nil, res, fmt.Errorf("wrong Sec-WebSocket-Accept %q", got)
	}
	return &WebSocket{r: bufio.NewReader(rwc), w: rwc, c: rwc, client: true}, res, nil
}

// acceptKey answers a client's key (RFC 6455 4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// upgrade does the server's part of the handshake.
func upgrade(w http.ResponseWriter, r *http.Request) (*WebSocket, error) {
	key := r.Header.Get("Sec-Websocket-Key")
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || key == "" {
		http.Error(w, "this path speaks WebSocket only", http.StatusUpgradeRequired)
		return nil, errors.New("no upgrade asked for")
	}
	w.Header().Set("Connection", "Upgrade")
	w.Header().Set("Upgrade", "websocket")
	w.Header().Set("Sec-WebSocket-Accept", acceptKey(key))
	w.WriteHeader(http.StatusSwitchingProtocols)
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	return &WebSocket{r: rw.Reader, w: conn, c: conn}, nil
}

// Close ends the connection without a closing handshake.
func (s *WebSocket) Close() error { return s.c.Close() }

// WriteText sends a message.
func (s *WebSocket) WriteText(message string) error { return s.write(opText, []byte(message)) }

// ReadText returns the next message, and answers pings meanwhile. It is io.EOF
// when the other end has closed.
func (s *WebSocket) ReadText() (string, error) {
	var message []byte
	for {
		final, op, payload, err := s.read()
		if err != nil {
			return "", err
		}
		switch op {
		case opPing:
			if err := s.write(opPong, payload); err != nil {
				return "", err
			}
		case opPong:
		case opClose:
			_ = s.write(opClose, payload) // the closing handshake's second half
			return "", io.EOF
		default:
			if len(message)+len(payload) > maxFrame {
				return "", errors.New("websocket message is too long")
			}
			message = append(message, payload...)
			if final {
				return string(message), nil
			}
		}
	}
}

// write sends one unfragmented frame.
func (s *WebSocket) write(op byte, payload []byte) error {
	f := []byte{0x80 | op, 0}
	switch n := len(payload); {
	case n < 126:
		f[1] = byte(n)
	case n < 1<<16:
		f[1] = 126
		f = binary.BigEndian.AppendUint16(f, uint16(n))
	default:
		f[1] = 127
		f = binary.BigEndian.AppendUint64(f, uint64(n))
	}
	if s.client {
		var mask [4]byte
		_, _ = rand.Read(mask[:])
		f[1] |= 0x80
		f = append(f, mask[:]...)
		for i, b := range payload {
			f = append(f, b^mask[i%4])
		}
	} else {
		f = append(f, payload...)
	}
	_, err := s.w.Write(f)
	return err
}

// read takes one frame.
func (s *WebSocket) read() (final bool, op byte, payload []byte, err error) {
	var head [14]byte
	if _, err := io.ReadFull(s.r, head[:2]); err != nil {
		return false, 0, nil, err
	}
	size := uint64(head[1] & 0x7f)
	extended := map[uint64]int{126: 2, 127: 8}[size]
	masked := head[1]&0x80 != 0
	rest := extended
	if masked {
		rest += 4
	}
	if _, err := io.ReadFull(s.r, head[2:2+rest]); err != nil {
		return false, 0, nil, err
	}
	if extended > 0 {
		size = 0
		for _, b := range head[2 : 2+extended] {
			size = size<<8 | uint64(b)
		}
	}
	if size > maxFrame {
		return false, 0, nil, errors.New("websocket frame is too long")
	}
	payload = make([]byte, size)
	if _, err := io.ReadFull(s.r, payload); err != nil {
		return false, 0, nil, err
	}
	if masked {
		mask := head[2+extended : 6+extended]
		for i := range payload {
			payload[i] ^= mask[i%4]
		}
	}
	return head[0]&0x80 != 0, head[0] & 0x0f, payload, nil
}
