package kdctest

import (
	"encoding/binary"
	"io"
	"net/http"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// Proxy returns the KDC as an HTTPS proxy ([MS-KKDCP]): a handler for POST, usually
// at /KdcProxy, of
//
//	KDC-PROXY-MESSAGE ::= SEQUENCE {
//	        kerb-message    [0] OCTET STRING, -- length as on TCP, then the message
//	        target-domain   [1] Realm OPTIONAL,
//	        dclocator-hint  [2] INTEGER OPTIONAL
//	}
//
// It works whether or not the KDC has been started. Faults apply as on a stream: Raw
// becomes the body.
func (k *KDC) Proxy() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			http.Error(w, "POST is the method", http.StatusMethodNotAllowed)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
		message, ok := parseProxyMessage(body)
		if err != nil || !ok {
			http.Error(w, "not a KDC-PROXY-MESSAGE", http.StatusBadRequest)
			return
		}
		a := k.answer(&Question{Protocol: "https", Remote: r.RemoteAddr, Message: message, ctx: r.Context()})
		switch {
		case a.Reset || a.Close:
			panic(http.ErrAbortHandler)
		case len(a.Messages) == 0 && a.Raw == nil:
			<-r.Context().Done() // silence, until the client gives up
			return
		}
		w.Header().Set("Content-Type", "application/kerberos")
		if len(a.Messages) > 0 {
			_, _ = w.Write(appendProxyMessage(nil, a.Messages[len(a.Messages)-1]))
		}
		_, _ = w.Write(a.Raw)
	})
}

func parseProxyMessage(body []byte) ([]byte, bool) {
	s := der.String(body)
	var seq der.String
	var framed []byte
	if !s.ReadASN1(&seq, der.TagSequence) || !s.Empty() || !der.ReadField(&seq, 0, der.ReadOctets, &framed) {
		return nil, false
	}
	if len(framed) < 4 || uint64(binary.BigEndian.Uint32(framed)) != uint64(len(framed)-4) {
		return nil, false
	}
	return framed[4:], true
}

func appendProxyMessage(dst, message []byte) []byte {
	return der.Append(dst, der.TagSequence, func(dst []byte) []byte {
		return der.AppendField(dst, 0, der.AppendOctetString, frame(message))
	})
}
