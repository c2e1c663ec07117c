package kdctest

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"golang.org/x/net/websocket"
)

// maxWebSocketMessage bounds a WebSocket message, in bytes.
const maxWebSocketMessage = 1 << 20

// WebSocket is one end of a WebSocket (RFC 6455). It is for one reader and one writer.
type WebSocket struct{ conn *websocket.Conn }

// DialWebSocket opens a WebSocket to an http URL, over a connection of its own that the
// client's transport dials (http.Transport.DialContext, else net.Dialer). Header may be
// nil. It also returns the response, even with an error if there is one; its body is
// closed.
func DialWebSocket(ctx context.Context, client *http.Client, address string, header http.Header) (*WebSocket, *http.Response, error) {
	location, err := url.Parse(address)
	if err != nil {
		return nil, nil, err
	}
	dial := new(net.Dialer).DialContext
	if t, ok := client.Transport.(*http.Transport); ok && t.DialContext != nil {
		dial = t.DialContext
	}
	conn, err := dial(ctx, "tcp", location.Host)
	if err != nil {
		return nil, nil, err
	}
	location.Scheme = "ws"
	config := &websocket.Config{
		Location: location, Origin: &url.URL{Scheme: "http", Host: location.Host},
		Version: websocket.ProtocolVersionHybi13, Header: header.Clone(),
	}
	handshake := &recorder{Conn: conn, keep: true}
	ws, wsErr := websocket.NewClient(config, handshake)
	handshake.keep = false
	response, err := http.ReadResponse(bufio.NewReader(&handshake.read), nil)
	if wsErr != nil || err != nil {
		_ = conn.Close()
		return nil, response, fmt.Errorf("no upgrade: %w", cmp.Or(wsErr, err))
	}
	return newWebSocket(ws), response, nil
}

// recorder keeps the bytes read from a connection: the response to the handshake, which
// package websocket does not return.
type recorder struct {
	net.Conn
	keep bool
	read bytes.Buffer
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	if r.keep {
		r.read.Write(p[:n])
	}
	return n, err
}

func newWebSocket(conn *websocket.Conn) *WebSocket {
	conn.MaxPayloadBytes = maxWebSocketMessage
	return &WebSocket{conn}
}

// Close ends the connection with a closing handshake.
func (s *WebSocket) Close() error { return s.conn.Close() }

// WriteText sends a message.
func (s *WebSocket) WriteText(message string) error { return websocket.Message.Send(s.conn, message) }

// ReadText returns the next message, and answers pings meanwhile. It is io.EOF when the
// other end has closed.
func (s *WebSocket) ReadText() (message string, err error) {
	err = websocket.Message.Receive(s.conn, &message)
	return message, err
}

// EchoWebSocket echoes messages until the client closes. Its response has the header
// fields that are set on w, such as the acceptor's token.
func EchoWebSocket(w http.ResponseWriter, r *http.Request) {
	websocket.Server{
		Handshake: func(config *websocket.Config, _ *http.Request) error {
			config.Header = w.Header().Clone()
			return nil
		},
		Handler: func(conn *websocket.Conn) {
			s := newWebSocket(conn)
			for {
				message, err := s.ReadText()
				if err != nil || s.WriteText(message) != nil {
					return
				}
			}
		},
	}.ServeHTTP(w, r)
}

var _ io.Closer = (*WebSocket)(nil)
