package krb5core_test

import (
	"context"
	"fmt"
	"log"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// Alice logs in by her password and gets a ticket for a web server.
func Example() {
	// A realm in this process; yours has been there for long.
	realm := kdctest.NewRealm("CORP.EXAMPLE")
	realm.AddUser("alice", "secret")
	realm.AddService("HTTP/web.corp.example")
	center := kdctest.NewKDC(kdctest.Config{Realms: []*kdctest.Realm{realm}})
	if err := center.Start(); err != nil {
		log.Fatal(err)
	}
	defer center.Stop()

	// Who is asked.
	server := ok(kdc.ParseServer(center.Addr()))
	finder := kdc.Static{"CORP.EXAMPLE": {server}}
	sender := ok(kdc.NewSender(kdc.Config{Finder: finder}))
	client := ok(krb5core.NewClient(krb5core.Config{Sender: sender, Finder: finder}))

	// Who asks.
	principal := ok(krb5core.ParseUser("alice@CORP.EXAMPLE", krb5core.UserForm{}))
	keys := krb5core.PasswordKeys(func() (string, error) { return "secret", nil })
	account := krb5core.NewAccount(principal, keys, nil)

	ctx := context.Background()
	tgt := ok(client.Login(ctx, account, nil))
	web := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_SRV_HST, "HTTP", "web.corp.example")}
	ticket := ok(client.ServiceTicket(ctx, account, tgt, web))
	fmt.Println(ticket.Client, "may speak to", ticket.Service)
	// Output: alice@CORP.EXAMPLE may speak to HTTP/web.corp.example@CORP.EXAMPLE
}

// ok returns v; here an error ends the program.
func ok[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
