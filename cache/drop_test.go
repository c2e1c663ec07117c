package cache

import (
	"context"
	"errors"
	"testing"
)

// stalled is a fetch that ends with its context only.
func stalled(begun chan<- struct{}, ended chan<- error) Policy[*ticket] {
	return Policy[*ticket]{Fetch: func(ctx context.Context) (*ticket, error) {
		begun <- struct{}{}
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return nil, ctx.Err()
	}}
}

func TestDroppedFetchEndsWhenNobodyWaitsForIt(t *testing.T) {
	k := key(1)
	all := func(Key) bool { return true }
	for _, dropFirst := range []bool{true, false} {
		c := New[*ticket](Config{})
		defer c.Close()
		begun, ended, left := make(chan struct{}), make(chan error, 1), make(chan error, 1)
		ctx, leave := context.WithCancel(t.Context())
		go func() {
			_, _, err := c.Fetch(ctx, k, stalled(begun, ended))
			left <- err
		}()
		<-begun
		if dropFirst {
			c.Drop(all)
			leave()
			<-left
		} else {
			leave()
			<-left
			select {
			case err := <-ended:
				t.Fatalf("the fetch ended with its caller: %v", err)
			default:
			}
			c.Drop(all)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended by %v", err)
		}
	}
}
