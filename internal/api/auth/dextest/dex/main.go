// Command dex is the OpenID Connect server dex with everything in memory, for tests: staff who sign in with a password and
// have groups, and signing keys that rotate on demand. Package dextest builds and talks to it.
//
// The first line of its standard input is the configuration, the first of its output the issuer; then each line "rotate" makes dex
// rotate its keys, "forget" withdraws all of them but the one that signs now, and both answer "ok". It ends with its input.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/dexidp/dex/connector"
	"github.com/dexidp/dex/server"
	"github.com/dexidp/dex/storage"
	"github.com/dexidp/dex/storage/memory"
)

type config struct {
	Clients   []storage.Client
	Users     []user
	TokenLife time.Duration
}

type user struct {
	ID, Email, Password, PreferredUsername string
	Groups                                 []string
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "dex:", err)
		os.Exit(1)
	}
}

func run() error {
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 1<<20)
	if !input.Scan() {
		return errors.New("no configuration on standard input")
	}
	var c config
	if err := json.Unmarshal(input.Bytes(), &c); err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	d := &dex{config: c, issuer: "http://" + listener.Addr().String() + "/dex", log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	d.storage = memory.New(d.log)
	for _, client := range c.Clients {
		if err := d.storage.CreateClient(context.Background(), client); err != nil {
			return fmt.Errorf("client %s: %w", client.ID, err)
		}
	}
	server.ConnectorsConfig["staff"] = func() server.ConnectorConfig { return staff(c.Users) }
	if err := d.storage.CreateConnector(context.Background(), storage.Connector{ID: "staff", Type: "staff", Name: "Staff"}); err != nil {
		return err
	}
	if err := d.start(); err != nil {
		return err
	}
	go func() { // ends with the process
		err := http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { d.serving.Load().ServeHTTP(w, r) }))
		fmt.Fprintln(os.Stderr, "dex:", err)
		os.Exit(1)
	}()
	fmt.Println(d.issuer)
	for input.Scan() {
		switch command := input.Text(); command {
		case "rotate":
			err = d.rotate()
		case "forget":
			err = d.forget()
		default:
			err = fmt.Errorf("unknown command %q", command)
		}
		if err != nil {
			return err
		}
		fmt.Println("ok")
	}
	return input.Err()
}

type dex struct {
	config
	issuer  string
	storage storage.Storage
	log     *slog.Logger
	serving atomic.Pointer[server.Server]
	stop    context.CancelFunc
}

// start makes a server over the storage. A server looks at its start whether its keys are due to rotate, and remembers them.
func (d *dex) start() error {
	ctx, cancel := context.WithCancel(context.Background())
	s, err := server.NewServer(ctx, server.Config{
		Issuer: d.issuer, Storage: d.storage, IDTokensValidFor: d.TokenLife, RotateKeysAfter: 24 * time.Hour, Logger: d.log,
	})
	if err != nil {
		cancel()
		return err
	}
	d.serving.Store(s)
	if d.stop != nil {
		d.stop()
	}
	d.stop = cancel
	return nil
}

// rotate has the next server find that the keys are due.
func (d *dex) rotate() error {
	if err := d.storage.UpdateKeys(func(k storage.Keys) (storage.Keys, error) {
		k.NextRotation = time.Now().Add(-time.Second)
		return k, nil
	}); err != nil {
		return err
	}
	return d.start()
}

// forget withdraws the keys of former rotations, as an operator does whose key was stolen.
func (d *dex) forget() error {
	if err := d.storage.UpdateKeys(func(k storage.Keys) (storage.Keys, error) {
		k.VerificationKeys = nil
		return k, nil
	}); err != nil {
		return err
	}
	return d.start()
}

// staff is a connector: people with passwords and groups. dex's own static passwords have no groups.
type staff []user

// Open implements server.ConnectorConfig.
func (s staff) Open(string, *slog.Logger) (connector.Connector, error) { return s, nil }

// Prompt implements connector.PasswordConnector.
func (s staff) Prompt() string { return "Email" }

// Login implements connector.PasswordConnector.
func (s staff) Login(_ context.Context, _ connector.Scopes, email, password string) (connector.Identity, bool, error) {
	for _, u := range s {
		if u.Email == email && u.Password == password {
			return connector.Identity{
				UserID: u.ID, Username: u.Email, PreferredUsername: u.PreferredUsername, Email: u.Email, EmailVerified: true, Groups: u.Groups,
			}, true, nil
		}
	}
	return connector.Identity{}, false, nil
}
