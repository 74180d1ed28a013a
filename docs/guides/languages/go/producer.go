// A producer in Go that knows nothing of Repull but docs/WIRE.md.
//
//	go run . [id]
//
// Enqueues one job, confirmed and stored once however often the publish is repeated, waits for its
// outcome and prints it as a line of JSON. Reads NATS_URL and REPULL_NAMESPACE.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

const (
	wrongLastSequence = 10071
	streamFull        = 10077
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	id := nuid.Next()
	if len(os.Args) > 1 {
		id = os.Args[1]
	}
	namespace := either(os.Getenv("REPULL_NAMESPACE"), "repull")
	nc, err := nats.Connect(either(os.Getenv("NATS_URL"), nats.DefaultURL))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}

	job := producer{nc: nc, js: js, namespace: namespace, address: "default.echo." + id, nonce: nuid.Next()}
	isNew, err := job.enqueue(ctx, []byte(`{"from": "go"}`))
	if err != nil {
		return err
	}
	if !isNew {
		return fmt.Errorf("a job %s is queued or running already", id)
	}
	event, err := job.outcome(ctx)
	if err != nil {
		return err
	}
	return report(event)
}

type producer struct {
	nc        *nats.Conn
	js        jetstream.JetStream
	namespace string
	address   string
	nonce     string
}

// enqueue publishes until the stream confirms; true where the job is ours, false where one of its
// id is there already.
func (p producer) enqueue(ctx context.Context, body []byte) (bool, error) {
	msg := nats.NewMsg(p.namespace + ".jobs." + p.address)
	msg.Data = body
	// The stream stores one message of this id, so repeating an unconfirmed publish is safe.
	msg.Header.Set("Nats-Msg-Id", p.nonce)
	// Refuses the job while one of its id is queued or running.
	msg.Header.Set("Nats-Expected-Last-Subject-Sequence", "0")
	msg.Header.Set("Repull-Nonce", p.nonce)
	msg.Header.Set("Repull-Max-Attempts", "5")

	pause := 100 * time.Millisecond
	for {
		_, err := p.js.PublishMsg(ctx, msg)
		if err == nil {
			return true, nil
		}
		var refused *jetstream.APIError
		switch {
		case errors.As(err, &refused) && refused.ErrorCode == wrongLastSequence:
			// Somebody's job, or the first try of this very publish.
			return p.isOurs(ctx, msg.Subject)
		case errors.As(err, &refused) && refused.ErrorCode == streamFull:
			return false, err
		}
		// Stored or not: the same publish again answers that.
		select {
		case <-ctx.Done():
			return false, err
		case <-time.After(pause):
			pause = min(2*pause, 2*time.Second)
		}
	}
}

func (p producer) isOurs(ctx context.Context, subject string) (bool, error) {
	stream, err := p.js.Stream(ctx, strings.ToUpper(p.namespace)+"_JOBS")
	if err != nil {
		return false, err
	}
	there, err := stream.GetLastMsgForSubject(ctx, subject)
	if err != nil {
		return false, err
	}
	return there.Header.Get("Repull-Nonce") == p.nonce, nil
}

// outcome waits for the outcome of this very enqueue.
func (p producer) outcome(ctx context.Context) (*nats.Msg, error) {
	subject := p.namespace + ".results." + p.address
	events, err := p.nc.SubscribeSync(subject)
	if err != nil {
		return nil, err
	}
	defer events.Unsubscribe()
	// Subscribed first, so an outcome that comes between the two is not missed.
	stream, err := p.js.Stream(ctx, strings.ToUpper(p.namespace)+"_RESULTS")
	if err != nil {
		return nil, err
	}
	last, err := stream.GetLastMsgForSubject(ctx, subject)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
	case err != nil:
		return nil, err
	case p.ends(last.Header):
		return &nats.Msg{Header: last.Header, Data: last.Data}, nil
	}
	for {
		event, err := events.NextMsgWithContext(ctx)
		if err != nil || p.ends(event.Header) {
			return event, err
		}
	}
}

func (p producer) ends(header nats.Header) bool {
	switch header.Get("Repull-Event") {
	case "succeeded", "failed", "cancelled", "expired":
		return header.Get("Repull-Nonce") == p.nonce
	}
	return false
}

func report(event *nats.Msg) error {
	outcome := event.Header.Get("Repull-Event")
	value := json.RawMessage(event.Data)
	if outcome != "succeeded" {
		text, err := json.Marshal(string(event.Data))
		if err != nil {
			return err
		}
		value = text
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"outcome": outcome,
		"attempt": json.Number(event.Header.Get("Repull-Attempt")),
		"value":   value,
	})
}

func either(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
